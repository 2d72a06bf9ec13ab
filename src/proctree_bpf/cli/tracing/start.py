"""Starts a trace with the best source that this machine allows, and says what the others lack."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

from proctree_bpf.cli.errors import CliError, ExitCode, no_source, source_failed
from proctree_bpf.cli.messages import say
from proctree_bpf.cli.output.channel import Channel
from proctree_bpf.cli.output.safe_open import open_for_writing
from proctree_bpf.cli.output.standard import is_named, start_over, unwritable
from proctree_bpf.cli.output.writers import FrameWriter
from proctree_bpf.cli.tracing.sink_factory import TallyingSink, make_clock, make_sink
from proctree_bpf.core.events import EVENT_KINDS
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.errors import FilterError, SourceFailedError, SourceUnavailableError
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.sinks.tally import Tally
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.choose import candidates
from proctree_bpf.sources.recorder import Recorder
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system import place, procfs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proctree_bpf.cli.output.writers import LineWriter
    from proctree_bpf.cli.run.supervisor import CommandSupervisor
    from proctree_bpf.cli.tracing.filter_plan import TraceFilterPlan
    from proctree_bpf.cli.tracing.hooks import TraceHooks
    from proctree_bpf.cli.tracing.options import TraceOptions
    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.sources.base import EventSource


class Started(NamedTuple):
    """A pipeline whose source receives events, and who looks at what it writes."""

    pipeline: Pipeline
    tally: Tally


class TraceStarter:
    """Makes pipelines until one can be started.

    Args:
        options: what the user asked for.
        out: where records go.
        recorder: what writes a recording, if one is wanted.
        plan: where to filter.
        supervisor: of the command, if only its processes are traced.
        hooks: who follows the pipeline.

    """

    def __init__(
        self,
        options: TraceOptions,
        out: LineWriter,
        recorder: Recorder | None,
        plan: TraceFilterPlan,
        *,
        supervisor: CommandSupervisor | None,
        hooks: TraceHooks,
    ) -> None:
        self._options = options
        self._out = out
        self._recorder = recorder
        self._plan = plan
        self._supervisor = supervisor
        self._hooks = hooks

    def start(self) -> Started:
        """Start the best source that can be used, and say of each better one why it cannot.

        Raises:
            CliError: none can, or not with this filter.

        """
        refusals: list[SourceUnavailableError] = []
        wanted = self._plan.source_options(self._options.collection.source_options)
        for make in candidates(wanted, self._recorder):
            source = make()
            try:
                started = self._try(source)
            except SourceUnavailableError as error:
                self._say_log(error)
                refusals.append(error)
                continue
            for refusal in refusals:
                say(f"a better source cannot be used: {refusal.reason}; {refusal.remedy}")
            if not isinstance(source, ReplaySource):
                _say_what_is_missing()
            return started
        raise no_source(refusals)

    def _try(self, source: EventSource) -> Started:
        options = self._options
        if isinstance(source, ReplaySource):
            _load(source)
        bounds = options.collection.cache_params
        tree, cache = PidTree(bounds), ProcCache(bounds)
        tracker = Tracker(tree, cache, procfs.uid_to_username)
        clock = make_clock(options.display, source, options.wall_offset_ns)
        text = cast("TextIO", self._out)  # as much of one as a sink wants
        tally = Tally()
        sink = make_sink(options.output.format, options.display, text, tracker, source, clock=clock)
        if not options.display.quiet:
            sink = TallyingSink(sink, tally)
        self._plan.check_source(source)
        pipeline = Pipeline(
            source, tracker, sink, self._selection(source, tree, cache), hooks=self._hooks
        )
        self._open(pipeline)
        clock.started_ns = source.now_ns()
        if is_named(options.output.output):
            start_over(self._out.fileno())
        return Started(pipeline, tally)

    def _selection(self, source: EventSource, tree: PidTree, cache: ProcCache) -> Selection:
        wanted = self._plan.filter_for(tree, cache)
        names = self._options.display.events_of(self._options.output.format)
        kind_of = {name: kind for kind, name in EVENT_KINDS.items()}
        return Selection(
            hides=self._hides(source),
            wanted=wanted,
            kinds={kind_of[name]: name for name in names},
            start_kernel_filter=lambda source: self._plan.start_kernel_filter(source, wanted),
        )

    def _hides(self, source: EventSource) -> Callable[[AnyEvent], bool]:
        if self._supervisor is not None:
            return self._supervisor.hides
        if self._options.collection.exclude_self and not isinstance(source, ReplaySource):
            return DescendantSet(procfs.read_key(os.getpid())).includes
        return Selection().hides

    def _open(self, pipeline: Pipeline) -> None:
        """Start a pipeline; close it if that fails.

        Raises:
            SourceUnavailableError: its source cannot be used.
            CliError: another one would not help either.

        """
        try:
            pipeline.start()
        except BaseException as error:
            pipeline.close()
            if isinstance(error, FilterError):
                raise CliError(f"{error}.", ExitCode.NO) from error
            if isinstance(error, SourceFailedError):
                raise source_failed(error) from error
            raise
        finally:
            if isinstance(pipeline.source, BpfSource) and pipeline.source.filter_refusal:
                self._say_log(pipeline.source.filter_refusal)

    def _say_log(self, error: SourceUnavailableError) -> None:
        for line in error.log.splitlines() if self._options.debug else ():
            say(line)


def _say_what_is_missing() -> None:
    trouble = place.boot_id_trouble()
    if trouble is not None:
        say(f"{trouble.reason}; {trouble.remedy}")


def _load(source: ReplaySource) -> None:
    """Read a recording: its header says what the sink must know before the start."""
    try:
        source.load()
    except SourceUnavailableError as error:
        raise no_source([error]) from error
    if source.cut_short:
        say(source.cut_short)


def open_recorder(path: Path | None, offset_ns: int) -> Recorder | None:
    """Open the file of a recording, if one is wanted; only its owner can read it.

    Raises:
        CliError: it cannot be written.

    """
    if path is None:
        return None
    try:
        descriptor = open_for_writing(path, private=True)
    except OSError as error:
        raise unwritable(path, error, "--record") from error
    out = FrameWriter(Channel(descriptor, shared=False), path)
    return Recorder(out, lambda: start_over(descriptor), offset_ns)
