"""``proctree-bpf trace``: watch every process of the machine."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from proctree_bpf.cli import output
from proctree_bpf.cli.advice import after_losses
from proctree_bpf.cli.attendance import Attendance, attended
from proctree_bpf.cli.command import Command, CommandOptions, held
from proctree_bpf.cli.display import DisplayOptions, Format
from proctree_bpf.cli.exits import (
    CliError,
    CommandEnded,
    ExitCode,
    no_proc,
    no_source,
    output_failed,
    say,
    source_failed,
)
from proctree_bpf.cli.filtering import FilterPlan
from proctree_bpf.cli.rendering import make_clock, make_sink
from proctree_bpf.core.events import EVENT_KINDS
from proctree_bpf.core.filter_terms import FilterError
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.pipeline import Pipeline, SelfFilter, StopFlag
from proctree_bpf.sinks.tally import Tally
from proctree_bpf.sources import place, procfs
from proctree_bpf.sources.base import SourceFailedError, SourceUnavailableError
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.choose import REPLAY_PREFIX, candidates
from proctree_bpf.sources.clock import boottime_ns, wall_offset_ns
from proctree_bpf.sources.recorder import Recorder, RecordingError
from proctree_bpf.sources.replay import ReplaySource

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import FrameType

    from proctree_bpf.cli.filter_options import FilterOptions
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.model import CacheParams
    from proctree_bpf.core.tracker import Applied
    from proctree_bpf.sinks.base import Sink
    from proctree_bpf.sources.choose import SourceOptions

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What the user asked for; times in seconds."""

    format: Format
    events: Collection[str]
    output: Path | None
    duration_s: float | None
    stats_file: Path | None
    record: Path | None
    interval_s: float
    exclude_self: bool
    source: SourceOptions
    cache: CacheParams
    filters: FilterOptions
    debug: bool
    display: DisplayOptions = field(default_factory=DisplayOptions)
    command: CommandOptions | None = None
    wall_offset_ns: int = field(default_factory=wall_offset_ns)


class _EventFilter:
    """Lets the wanted kinds of event through to another sink; gaps always."""

    def __init__(self, sink: Sink, wanted: Collection[str]) -> None:
        self._sink = sink
        self._wanted = frozenset(kind for kind, name in EVENT_KINDS.items() if name in wanted)
        self.written: dict[str, int] = dict.fromkeys(wanted, 0)
        self.tally = Tally()

    def write(self, applied: Applied) -> None:
        kind = type(applied.event)
        if kind in self._wanted:
            self.written[EVENT_KINDS[kind]] += 1
            self.tally.add(applied)
            self._sink.write(applied)

    def gap(self, gap: Gap) -> None:
        self._sink.gap(gap)

    def flush(self) -> None:
        self._sink.flush()

    def finish(self) -> None:
        self._sink.finish()


class _Stopper:
    """Set by a signal, a time limit, or a reader that has gone away."""

    def __init__(self, reader_gone: output.ReaderGone) -> None:
        # Not a threading.Event: a handler that sets one while its lock is held hangs.
        self._is_set = False
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)
        self._reader_gone = reader_gone
        self._deadline: float | None = None
        self.pipe_closed = False

    def set(self) -> None:
        """Stop; may be called from a signal handler."""
        self._is_set = True
        os.eventfd_write(self._wakeup, 1)

    def is_set(self) -> bool:
        """Tell whether it was told to stop."""
        return self._is_set

    def limit(self, seconds: float | None) -> None:
        """Stop after so many seconds from now."""
        if seconds is not None:
            self._deadline = time.monotonic() + seconds

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep, but not past the time limit."""
        if self._reader_gone():
            self.pipe_closed = True
            self.set()
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self.set()
            timeout = left if timeout is None else min(timeout, max(left, 0.0))
        self._poll.poll(None if timeout is None else timeout * 1000)
        return self._is_set


@contextmanager
def _stopped_by_signals(stop: _Stopper) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP stop in good order; a second one is final."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    # nohup's wish is respected.
    hangup_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    caught = [number for number in _STOP_SIGNALS if number != signal.SIGHUP or not hangup_ignored]
    before = {number: signal.signal(number, on_signal) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_trace(options: TraceOptions) -> None:
    """Trace until told to stop, or until the command has ended if there is one.

    Raises:
        CliError: tracing could not start, or its output could not be written.
        CommandEnded: a command was traced.

    """
    with held(options.command) as command:
        _run_trace(options, command)


def _run_trace(options: TraceOptions, command: Command | None) -> None:
    begun = time.perf_counter()
    _calm_garbage_collector()
    # Tried before anything else: a name that cannot be written should not cost a trace.
    stats = _open_for_writing(options.stats_file, "--stats-file")
    recorder = _open_recorder(options.record, options.wall_offset_ns)
    try:
        # A command has stdout for itself.
        with output.opened(options.output, 1 if command is None else 2) as out:
            stop = _Stopper(output.ReaderGone(out))
            signals: AbstractContextManager[Attendance | None] = (
                _stopped_by_signals(stop) if command is None else attended(command, stop)
            )
            with signals as attendance:
                summary, failure = _trace(
                    options, out, stop, recorder, begun=begun, attendance=attendance
                )
        if recorder is not None:
            recorder.finish()
    except BaseException as error:
        if recorder is not None:
            recorder.abandon()
        if isinstance(error, RecordingError):
            raise output_failed(error, options.record) from error
        raise
    _write_stats(stats, summary, options.stats_file)
    if failure is not None:
        raise source_failed(failure) from failure
    if attendance is not None:
        raise CommandEnded(attendance.exit_status)


def _calm_garbage_collector() -> None:
    """Look for reference cycles rarely: records have none, and there are very many.

    With the default thresholds the search takes a third of the time of a busy trace.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def _trace(
    options: TraceOptions,
    out: TextIO,
    stop: _Stopper,
    recorder: Recorder | None,
    *,
    begun: float,
    attendance: Attendance | None,
) -> tuple[dict[str, Any], SourceFailedError | None]:
    plan = FilterPlan(
        options.filters,
        options.cache.capacity,
        _needed_here(options),
        attendance.follows if attendance is not None else None,
        is_of_here=not options.source.wanted.startswith(REPLAY_PREFIX),
    )
    pipeline, sink = _start_best(options, out, recorder, plan)
    source = pipeline.source
    if attendance is not None:
        pipeline.hides = attendance.hides
    try:
        startup = time.perf_counter() - begun
        if not options.display.quiet:
            _say_start(pipeline, startup, attendance)
        if attendance is not None:
            pipeline.tracker.note_release(attendance.command, boottime_ns())
            attendance.begin(lambda: pipeline.complete_until_ns)
        tracing = time.monotonic()
        stop.limit(options.duration_s)
        failure = None
        try:
            failure = _run(pipeline, attendance or stop, options.interval_s)
        except BrokenPipeError:
            stop.pipe_closed = True
        except RecordingError:
            raise
        except OSError as error:
            raise output_failed(error) from error
        elapsed = time.monotonic() - tracing
        summary = pipeline.summary()
        summary["written"] = sink.written
        summary["failure"] = failure.reason if failure is not None else None
        summary["startup_seconds"]["snapshot"] = summary["snapshot"]["seconds"]
        summary["startup_seconds"]["total"] = round(startup, 6)
        summary["traced_seconds"] = round(elapsed, 6)
        if options.display.quiet:
            _say_only_loss(summary)
        else:
            _say_summary(summary, elapsed, sink.tally, source.blind_spots)
            plan.say_where(summary)
        if attendance is not None and attendance.farewell:
            say(attendance.farewell)
    finally:
        pipeline.close()
    if stop.pipe_closed:
        output.discard(out)
    return summary, failure


def _run(pipeline: Pipeline, stop: StopFlag, interval_s: float) -> SourceFailedError | None:
    """Trace until told to stop, or until the source breaks; then return how."""
    try:
        pipeline.run(stop, interval_s)
        pipeline.finish()
    except SourceFailedError as error:
        pipeline.give_up()
        return error
    return None


def _start_best(
    options: TraceOptions, out: TextIO, recorder: Recorder | None, plan: FilterPlan
) -> tuple[Pipeline, _EventFilter]:
    """Start the best source that can be used, and say of each better one why it cannot."""
    refusals: list[SourceUnavailableError] = []
    for make in candidates(plan.source_options(options.source), recorder):
        source = make()
        if isinstance(source, ReplaySource):
            _load(source)
        tree, cache = PidTree(options.cache), ProcCache(options.cache)
        tracker = Tracker(tree, cache, procfs.uid_to_username)
        clock = make_clock(options.display, source, options.wall_offset_ns)
        shown = make_sink(options.format, options.display, out, tracker, source, clock=clock)
        sink = _EventFilter(shown, options.events)
        pipeline = Pipeline(source, tracker, sink)
        plan.attach(pipeline, tree, cache)
        if options.exclude_self and not isinstance(source, ReplaySource):
            pipeline.hides = SelfFilter(procfs.read_key(os.getpid())).hides
        try:
            _start(pipeline, options)
            clock.started_ns = source.now_ns()
            if output.is_named(options.output):
                output.start_over(out.fileno())
        except SourceUnavailableError as error:
            refusals.append(error)
        else:
            for refusal in refusals:
                say(f"not as good as it could be: {refusal.reason}; {refusal.remedy}")
            if not isinstance(source, ReplaySource):
                _say_what_is_missing()
            return pipeline, sink
    raise no_source(refusals)


def _start(pipeline: Pipeline, options: TraceOptions) -> None:
    try:
        pipeline.start()
    except FilterError as error:
        pipeline.close()
        raise CliError(f"{error}.", ExitCode.NO) from error
    except CliError:
        pipeline.close()
        raise
    except SourceUnavailableError as error:
        _say_log(error, options)
        raise
    except SourceFailedError as error:
        pipeline.close()
        raise source_failed(error) from error
    except RecordingError:
        pipeline.close()
        raise
    except OSError as error:
        pipeline.close()
        raise no_proc(error) from error
    finally:
        if isinstance(pipeline.source, BpfSource) and pipeline.source.filter_refusal:
            _say_log(pipeline.source.filter_refusal, options)


def _say_what_is_missing() -> None:
    trouble = place.boot_id_trouble()
    if trouble is not None:
        say(f"{trouble.reason}; {trouble.remedy}")


def _say_log(error: SourceUnavailableError, options: TraceOptions) -> None:
    for line in error.log.splitlines() if options.debug else ():
        say(line)


def _load(source: ReplaySource) -> None:
    """Read a recording: its header says what the sink must know before the start."""
    try:
        source.load()
    except SourceUnavailableError as error:
        raise no_source([error]) from error


def _open_recorder(path: Path | None, offset_ns: int) -> Recorder | None:
    descriptor = _open_for_writing(path, "--record")
    if descriptor is None:
        return None
    file = open(descriptor, "wb")  # noqa: PTH123, SIM115 - a descriptor that the recorder closes
    return Recorder(file, lambda: output.start_over(descriptor), offset_ns)


def _needed_here(options: TraceOptions) -> str | None:
    """Say why a filter in the kernel must not leave anything out, if so."""
    return "a recording is to have everything" if options.record is not None else None


def _say_start(pipeline: Pipeline, startup: float, attendance: Attendance | None) -> None:
    say(
        f"tracing with {pipeline.source.name}, {pipeline.stats.snapshot} processes known, "
        f"started in {startup:.2f} s; "
        f"{'press Ctrl-C to stop' if attendance is None else attendance.welcome}"
    )


def _say_summary(
    summary: dict[str, Any], elapsed: float, tally: Tally, blind_spots: tuple[str, ...]
) -> None:
    written = ", ".join(f"{count} {kind}" for kind, count in summary["written"].items())
    say(f"{elapsed:.1f} s: {written} records written; {_loss(summary) or 'nothing lost'}")
    for line in tally.lines():
        say(line)
    if summary.get("lost"):
        say(after_losses(summary["source"]))
    if blind_spots:
        say(f"{summary['source']} cannot know: {'; '.join(blind_spots)}")


def _say_only_loss(summary: dict[str, Any]) -> None:
    if summary.get("lost"):
        say(f"{_loss(summary)}; {after_losses(summary['source'])}")


def _loss(summary: dict[str, Any]) -> str:
    lost = summary.get("lost", 0)
    return f"{lost} records LOST ({summary['gaps']} gaps)" if lost else ""


def _unwritable(path: Path, error: OSError, option: str) -> CliError:
    return CliError(
        f"{path} cannot be written ({error.strerror}); choose another file for {option}.",
        ExitCode.USAGE,
    )


def _open_for_writing(path: Path | None, option: str) -> int | None:
    if path is None:
        return None
    try:
        return output.open_keeping(path)
    except OSError as error:
        raise _unwritable(path, error, option) from error


def _write_stats(descriptor: int | None, summary: dict[str, Any], path: Path | None) -> None:
    if descriptor is None:
        return
    try:
        output.start_over(descriptor)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            json.dump(summary, file, indent=2)
            file.write("\n")
    except OSError as error:
        raise output_failed(error, path) from error
