"""Runs one trace, from the first file that is opened to the exit status."""

from __future__ import annotations

import gc
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import proctree_bpf_entry
from proctree_bpf.cli.errors import (
    SIGNAL_STATUS,
    CliError,
    CommandEnded,
    EndedBySignal,
    ExitCode,
    output_failed,
)
from proctree_bpf.cli.messages import counted, say
from proctree_bpf.cli.output.standard import opened, reader_is_gone
from proctree_bpf.cli.output.stats_file import StatsFile
from proctree_bpf.cli.output.writers import FrameWriter, OutputError, WritingAbandoned
from proctree_bpf.cli.run.command import hold_command
from proctree_bpf.cli.run.supervisor import CommandSupervisor, supervised
from proctree_bpf.cli.stopping import (
    EarlyInterrupt,
    InterruptedEarly,
    Stopper,
    stopped_by_signals,
)
from proctree_bpf.cli.tracing.hooks import TraceHooks
from proctree_bpf.cli.tracing.report import (
    say_only_loss,
    say_start,
    say_summary,
    say_where_filtered,
)
from proctree_bpf.cli.tracing.start import TraceStarter, open_recorder
from proctree_bpf.errors import SourceFailedError
from proctree_bpf.sources.recorder import Recorder, RecordingError
from proctree_bpf.sources.system.clock import boottime_ns

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from proctree_bpf.cli.output.writers import LineWriter
    from proctree_bpf.cli.run.command import Command
    from proctree_bpf.cli.tracing.options import TraceOptions
    from proctree_bpf.cli.tracing.start import Started
    from proctree_bpf.pipeline import Pipeline

_Supervisor: TypeAlias = CommandSupervisor | None
"""None if the whole machine is traced."""


def run_trace(options: TraceOptions) -> None:
    """Trace until told to stop, or until the command has ended if there is one.

    Raises:
        CliError: tracing could not start, or its output could not be written.
        CommandEnded: a command was traced.

    """
    early = EarlyInterrupt()
    try:
        with early.raised():
            if proctree_bpf_entry.was_interrupted():
                raise InterruptedEarly  # noqa: TRY301 - as if it had come now
            with hold_command(options.command) as command:
                _run_trace(options, command, early)
    except InterruptedEarly:
        if options.command is not None:
            raise CommandEnded(SIGNAL_STATUS + signal.SIGINT) from None


def _run_trace(options: TraceOptions, command: Command | None, early: EarlyInterrupt) -> None:
    begun = time.perf_counter()
    _calm_garbage_collector()
    # Tried before anything else: a name that cannot be written should not cost a trace.
    stats_path = options.output.stats_file
    stats = StatsFile(stats_path, "--stats-file") if stats_path else None
    recorder = open_recorder(options.collection.record, options.wall_offset_ns)
    stop = Stopper()
    try:
        # A command has stdout for itself.
        with opened(options.output.output, 1 if command is None else 2) as out:
            stop.reader_gone = partial(reader_is_gone, out.fileno())
            signals: AbstractContextManager[_Supervisor] = (
                stopped_by_signals(stop) if command is None else supervised(command, stop)
            )
            with signals as supervisor:
                early.is_over = True
                _let_end(supervisor or stop, options, out, recorder)
                trace = _Trace(options, out, stop, supervisor)
                summary = trace.run(recorder, begun)
                if recorder is not None and trace.unwritten is None:
                    recorder.finish()
                if stats is not None:
                    stats.write(summary, supervisor or stop)
    except RecordingError as error:
        raise output_failed(error, options.collection.record) from error
    except WritingAbandoned as error:
        raise CliError(f"{error}; what was written before is intact.", ExitCode.INTERNAL) from error
    finally:
        if recorder is not None:
            recorder.abandon()
        if stats is not None:
            stats.close()
    _end(trace, stop)
    if supervisor is not None:
        raise CommandEnded(supervisor.exit_status)


def _end(trace: _Trace, stop: Stopper) -> None:
    """Tell what could not be written, and end by the signal that was final."""
    if trace.unwritten is not None and not stop.final:
        raise CliError(trace.unwritten, ExitCode.INTERNAL)
    if trace.unwritten is not None:
        say(trace.unwritten)
    if stop.final:
        raise EndedBySignal(stop.final)
    if trace.failure is not None:
        raise trace.failure


def _calm_garbage_collector() -> None:
    """Look for reference cycles rarely: records have none, and there are very many.

    With the default thresholds the search takes a third of the time of a busy trace.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


@dataclass(slots=True)
class _Trace:
    """A trace whose output is open and whose command, if there is one, is held."""

    options: TraceOptions
    out: LineWriter
    stop: Stopper
    supervisor: _Supervisor
    unwritten: str | None = None
    """What is missing because nobody read on."""
    failure: SourceFailedError | None = None
    """How the source broke."""

    def run(self, recorder: Recorder | None, begun: float) -> dict[str, Any]:
        """Trace to the end, and return the statistics; it ``begun`` then, by ``perf_counter``."""
        options, supervisor = self.options, self.supervisor
        hooks = TraceHooks(self.stop, options, self.out, supervisor)
        started = TraceStarter(options, self.out, recorder, supervisor, hooks).start()
        pipeline = started.pipeline
        try:
            startup = time.perf_counter() - begun
            self._begin(pipeline, startup)
            tracing = time.monotonic()
            self._pump(pipeline)
            elapsed = time.monotonic() - tracing
            summary = self._summary(pipeline, startup, elapsed)
            self._report(started, summary, elapsed)
        finally:
            pipeline.close()
        if self.stop.pipe_closed or self.unwritten is not None:
            self.out.discard()
        return summary

    def _begin(self, pipeline: Pipeline, startup: float) -> None:
        supervisor = self.supervisor
        if not self.options.display.quiet:
            say_start(pipeline, startup, supervisor.start_note if supervisor is not None else None)
        if supervisor is not None:
            pipeline.tracker.note_release(supervisor.command, boottime_ns())
            supervisor.release(lambda: pipeline.complete_until_ns)
        self.stop.limit(self.options.output.duration)
        self.stop.is_writing = True

    def _pump(self, pipeline: Pipeline) -> None:
        """Trace until the end, or until nobody reads what is written or the source breaks."""
        try:
            try:
                pipeline.run(self.supervisor or self.stop, self.options.collection.interval_s)
                pipeline.finish()
            except SourceFailedError as error:
                self.failure = error
                pipeline.give_up()
        except BrokenPipeError:
            self.stop.pipe_closed = True
        except WritingAbandoned as error:
            self.unwritten = (
                f"{error}: {counted(self.out.lost_lines, 'line')} and what came after are "
                "missing; what was written before is intact."
            )
        except OutputError as error:
            raise output_failed(error, lost_lines=self.out.lost_lines) from error

    def _summary(self, pipeline: Pipeline, startup: float, elapsed: float) -> dict[str, Any]:
        summary = pipeline.summary()
        summary["failure"] = self.failure.reason if self.failure is not None else None
        summary["startup_seconds"]["snapshot"] = summary["snapshot"]["seconds"]
        summary["startup_seconds"]["total"] = round(startup, 6)
        summary["traced_seconds"] = round(elapsed, 6)
        summary["unwritten_lines"] = 0 if self.stop.pipe_closed else self.out.lost_lines
        return summary

    def _report(self, started: Started, summary: dict[str, Any], elapsed: float) -> None:
        if self.options.display.quiet:
            say_only_loss(summary)
        else:
            say_summary(summary, elapsed, started.tally, started.pipeline.source.blind_spots)
            say_where_filtered(summary, started.plan)
        if self.supervisor is not None and self.supervisor.end_note:
            say(self.supervisor.end_note)


def _let_end(
    ending: CommandSupervisor | Stopper,
    options: TraceOptions,
    out: LineWriter,
    recorder: Recorder | None,
) -> None:
    """Tell whoever may wait for a reader when to stop waiting."""

    def on_wait() -> None:
        if not options.display.quiet:
            say("waiting for the reader of the output; a second signal ends this at once")

    out.end_with(ending, on_wait)
    if recorder is not None and isinstance(recorder.out, FrameWriter):
        recorder.out.end_with(ending, on_wait)
