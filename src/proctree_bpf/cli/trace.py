"""``proctree-bpf trace``: watch every process of the machine."""

from __future__ import annotations

import gc
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO, cast

import proctree_bpf_entry
from proctree_bpf.cli import output
from proctree_bpf.cli.attendance import Attendance, attended
from proctree_bpf.cli.backlog import Backlog
from proctree_bpf.cli.channel import Channel
from proctree_bpf.cli.command import SIGNAL_STATUS, Command, CommandOptions, held
from proctree_bpf.cli.display import DisplayOptions, Format
from proctree_bpf.cli.exits import (
    CliError,
    CommandEnded,
    EndedBySignal,
    ExitCode,
    counted,
    no_proc,
    no_source,
    output_failed,
    say,
    source_failed,
)
from proctree_bpf.cli.filtering import FilterPlan
from proctree_bpf.cli.outlet import FrameOutlet, GivenUp, Outlet
from proctree_bpf.cli.places import open_for_writing
from proctree_bpf.cli.rendering import make_clock, make_sink
from proctree_bpf.cli.stats_file import StatsFile
from proctree_bpf.cli.stopping import Stopper, stopped_by_signals
from proctree_bpf.cli.told import say_crowded, say_only_loss, say_start, say_summary
from proctree_bpf.cli.urgency import Urgency
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.filters.terms import FilterError
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.sinks.tally import Tally
from proctree_bpf.sources.base import SourceFailedError, SourceUnavailableError
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.choose import REPLAY_PREFIX, candidates
from proctree_bpf.sources.recorder import Recorder, RecordingError
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system import place, procfs
from proctree_bpf.sources.system.clock import boottime_ns, wall_offset_ns

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from proctree_bpf.cli.filter_options import FilterOptions
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.model import CacheParams
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.sinks.base import Sink
    from proctree_bpf.sources.choose import SourceOptions


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
        self.written: dict[str, int] = dict.fromkeys(wanted, 0)
        self.tally = Tally()

    def write(self, process_event: ProcessEvent) -> None:
        kind = process_event.as_received.kind
        if kind in self.written:
            self.written[kind] += 1
            self.tally.add(process_event)
            self._sink.write(process_event)

    def gap(self, gap: Gap) -> None:
        self._sink.gap(gap)

    def flush(self) -> None:
        self._sink.flush()

    def finish(self) -> None:
        self._sink.finish()


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a trace has ended: its statistics, and what to say if not all was written."""

    summary: dict[str, Any]
    given_up: str | None
    failure: SourceFailedError | None


def run_trace(options: TraceOptions) -> None:
    """Trace until told to stop, or until the command has ended if there is one.

    Raises:
        CliError: tracing could not start, or its output could not be written.
        CommandEnded: a command was traced.

    """
    if proctree_bpf_entry.was_interrupted():
        if options.command is not None:
            raise CommandEnded(SIGNAL_STATUS + signal.SIGINT)
        return
    with held(options.command) as command:
        _run_trace(options, command)


def _run_trace(options: TraceOptions, command: Command | None) -> None:
    begun = time.perf_counter()
    _calm_garbage_collector()
    # Tried before anything else: a name that cannot be written should not cost a trace.
    stats = StatsFile(options.stats_file, "--stats-file") if options.stats_file else None
    recorder = _open_recorder(options.record, options.wall_offset_ns)
    stop = Stopper()
    try:
        # A command has stdout for itself.
        with output.opened(options.output, 1 if command is None else 2) as out:
            stop.reader_gone = output.ReaderGone(out)
            signals: AbstractContextManager[Attendance | None] = (
                stopped_by_signals(stop) if command is None else attended(command, stop)
            )
            with signals as attendance:
                _let_end(attendance or stop, options, out, recorder)
                ended = _trace(options, out, stop, recorder, begun=begun, attendance=attendance)
                if recorder is not None and ended.given_up is None:
                    recorder.finish()
                if stats is not None:
                    stats.write(ended.summary, attendance or stop)
    except RecordingError as error:
        raise output_failed(error, options.record) from error
    except GivenUp as error:
        raise CliError(f"{error}; what was written before is whole.", ExitCode.INTERNAL) from error
    finally:
        if recorder is not None:
            recorder.abandon()
        if stats is not None:
            stats.close()
    _end(ended, stop)
    if attendance is not None:
        raise CommandEnded(attendance.exit_status)


def _end(ended: _Ended, stop: Stopper) -> None:
    """Tell what could not be written, and end by the signal that was final."""
    if ended.given_up is not None and not stop.final:
        raise CliError(ended.given_up, ExitCode.INTERNAL)
    if ended.given_up is not None:
        say(ended.given_up)
    if stop.final:
        raise EndedBySignal(stop.final)
    if ended.failure is not None:
        raise source_failed(ended.failure) from ended.failure


def _calm_garbage_collector() -> None:
    """Look for reference cycles rarely: records have none, and there are very many.

    With the default thresholds the search takes a third of the time of a busy trace.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def _trace(
    options: TraceOptions,
    out: Outlet,
    stop: Stopper,
    recorder: Recorder | None,
    *,
    begun: float,
    attendance: Attendance | None,
) -> _Ended:
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
    pipeline.is_due = stop.is_due
    pipeline.on_fill = Urgency().note
    pipeline.between = stop.check
    pipeline.on_crowded = lambda: say_crowded(options.cache.capacity)
    if not options.display.quiet:
        pipeline.on_left = Backlog().show
    try:
        startup = time.perf_counter() - begun
        if not options.display.quiet:
            say_start(pipeline, startup, attendance)
        if attendance is not None:
            pipeline.tracker.note_release(attendance.command, boottime_ns())
            attendance.begin(lambda: pipeline.complete_until_ns)
        tracing = time.monotonic()
        stop.limit(options.duration_s)
        stop.is_writing = True
        given_up, failure = _run(pipeline, attendance or stop, stop, options, out)
        elapsed = time.monotonic() - tracing
        summary = pipeline.summary()
        summary["written"] = sink.written
        summary["failure"] = failure.reason if failure is not None else None
        summary["startup_seconds"]["snapshot"] = summary["snapshot"]["seconds"]
        summary["startup_seconds"]["total"] = round(startup, 6)
        summary["traced_seconds"] = round(elapsed, 6)
        summary["unwritten_lines"] = 0 if stop.pipe_closed else out.lost_lines
        if options.display.quiet:
            say_only_loss(summary)
        else:
            say_summary(summary, elapsed, sink.tally, source.blind_spots)
            plan.say_where(summary)
        if attendance is not None and attendance.farewell:
            say(attendance.farewell)
    finally:
        pipeline.close()
    if stop.pipe_closed or given_up is not None:
        out.discard()
    unwritten = None if given_up is None else _unwritten(given_up, out.lost_lines)
    return _Ended(summary, unwritten, failure)


def _let_end(
    ending: Attendance | Stopper, options: TraceOptions, out: Outlet, recorder: Recorder | None
) -> None:
    """Tell whoever may wait for a reader when to stop waiting."""
    on_wait = (lambda: None) if options.display.quiet else _say_waiting
    out.end_with(ending, on_wait)
    if recorder is not None and isinstance(recorder.out, FrameOutlet):
        recorder.out.end_with(ending, on_wait)


def _run(
    pipeline: Pipeline,
    until: Attendance | Stopper,
    stop: Stopper,
    options: TraceOptions,
    out: Outlet,
) -> tuple[GivenUp | None, SourceFailedError | None]:
    """Trace to the end; return why that is an early one, if it is.

    That is so if nobody reads what is written, or if the source breaks.
    """
    failure = None
    try:
        try:
            pipeline.run(until, options.interval_s)
            pipeline.finish()
        except SourceFailedError as error:
            failure = error
            pipeline.give_up()
    except BrokenPipeError:
        stop.pipe_closed = True
    except GivenUp as error:
        return error, failure
    except RecordingError:
        raise
    except OSError as error:
        raise output_failed(error, lost_lines=out.lost_lines) from error
    return None, failure


def _unwritten(given_up: GivenUp, lines: int) -> str:
    what = f"{counted(lines, 'line')} and what came after are missing"
    return f"{given_up}: {what}; what was written before is whole."


def _say_waiting() -> None:
    say("waiting for who reads the output; a second signal ends it at once")


def _start_best(
    options: TraceOptions, out: Outlet, recorder: Recorder | None, plan: FilterPlan
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
        text = cast("TextIO", out)  # as much of one as a sink wants
        shown = make_sink(options.format, options.display, text, tracker, source, clock=clock)
        sink = _EventFilter(shown, options.events)
        pipeline = Pipeline(source, tracker, sink)
        plan.attach(pipeline, tree, cache)
        if options.exclude_self and not isinstance(source, ReplaySource):
            pipeline.hides = DescendantSet(procfs.read_key(os.getpid())).includes
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
    if source.cut_short:
        say(source.cut_short)


def _open_recorder(path: Path | None, offset_ns: int) -> Recorder | None:
    if path is None:
        return None
    try:
        descriptor = open_for_writing(path, private=True)
    except OSError as error:
        raise output.unwritable(path, error, "--record") from error
    out = FrameOutlet(Channel(descriptor, shared=False), path)
    return Recorder(out, lambda: output.start_over(descriptor), offset_ns)


def _needed_here(options: TraceOptions) -> str | None:
    """Say why a filter in the kernel must not leave anything out, if so."""
    return "a recording is to have everything" if options.record is not None else None
