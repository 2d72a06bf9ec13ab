"""Starts a trace with the best source that this machine allows, and says what the others lack."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

from proctree_bpf.cli.errors import CliError, ExitCode, no_source
from proctree_bpf.cli.messages import say
from proctree_bpf.cli.output.channel import Channel
from proctree_bpf.cli.output.safe_open import open_for_writing
from proctree_bpf.cli.output.standard import is_named, start_over, unwritable
from proctree_bpf.cli.output.writers import FrameWriter
from proctree_bpf.cli.tracing.filter_options import FilterIn
from proctree_bpf.cli.tracing.sink_factory import TallyingSink, make_clock, make_sink
from proctree_bpf.core.events import EVENT_KINDS
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.errors import SourceUnavailableError
from proctree_bpf.filter_plan import FilterPlan
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.filters.terms import Filter
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.sinks.tally import Tally
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.choose import candidates
from proctree_bpf.sources.recorder import Recorder
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system import place, procfs

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf.cli.output.writers import LineWriter
    from proctree_bpf.cli.run.supervisor import CommandSupervisor
    from proctree_bpf.cli.tracing.hooks import TraceHooks
    from proctree_bpf.cli.tracing.options import TraceOptions
    from proctree_bpf.filters.kernel_controller import KernelFilterController
    from proctree_bpf.filters.record_filter import BoundFilter
    from proctree_bpf.sources.base import EventSource


class Started(NamedTuple):
    """A pipeline whose source receives events, who looks at what it writes, and its filter."""

    pipeline: Pipeline
    tally: Tally
    plan: FilterPlan


@dataclass(frozen=True, slots=True)
class TraceStarter:
    """Makes pipelines until one can be started."""

    options: TraceOptions
    out: LineWriter
    recorder: Recorder | None
    supervisor: CommandSupervisor | None
    """Of the command, if only its processes are traced."""
    hooks: TraceHooks

    def start(self) -> Started:
        """Start the best source that can be used, and say of each better one why it cannot."""
        refusals: list[SourceUnavailableError] = []
        plan = self._plan_filter()
        wanted = plan.source_options(self.options.collection.source_options)
        for make in candidates(wanted, self.recorder):
            source = make()
            try:
                started = self._try(source, plan)
            except SourceUnavailableError as error:
                self._say_log(error)
                refusals.append(error)
                continue
            for refusal in refusals:
                say(f"a better source cannot be used: {refusal.reason}; {refusal.remedy}")
            lack = None if isinstance(source, ReplaySource) else place.boot_id_trouble()
            if lack is not None:
                say(f"{lack.reason}; {lack.remedy}")
            return started
        raise no_source(refusals)

    def _try(self, source: EventSource, plan: FilterPlan) -> Started:
        options = self.options
        if isinstance(source, ReplaySource):
            source.load()  # its header says what the sink must know before the start
            if source.cut_short:
                say(source.cut_short)
        bounds = options.collection.cache_params
        tree, cache = PidTree(bounds), ProcCache(bounds)
        tracker = Tracker(tree, cache, procfs.uid_to_username)
        clock = make_clock(options.display, source, options.wall_offset_ns)
        text = cast("TextIO", self.out)  # as much of one as a sink wants
        tally = Tally()
        sink = make_sink(options.output.format, options.display, text, tracker, source, clock=clock)
        if not options.display.quiet:
            sink = TallyingSink(sink, tally)
        plan.check_source(source)
        selection = self._selection(source, plan, plan.filter_for(tree, cache))
        pipeline = Pipeline(source, tracker, sink, selection, hooks=self.hooks)
        self._open(pipeline)
        clock.started_ns = source.now_ns()
        if is_named(options.output.output):
            start_over(self.out.fileno())
        return Started(pipeline, tally, plan)

    def _plan_filter(self) -> FilterPlan:
        asked, collection = self.options.filters, self.options.collection
        why_not = None
        if asked.filter_in is FilterIn.USER:
            why_not = "--filter-in user was given"
        elif _needs_every_event(self.options):
            why_not = "a recording needs every event"
        plan = FilterPlan(
            Filter(asked.questions, asked.include_self, asked.by_parent),
            collection.capacity,
            why_not_in_kernel=why_not,
            of_command=self.supervisor.follows if self.supervisor is not None else None,
            is_of_here=not collection.is_replay,  # else others may be meant
        )
        if asked.filter_in is FilterIn.KERNEL and plan.kernel.spec is None:
            raise CliError(
                f"--filter-in kernel is impossible: {plan.kernel.reason}; leave it out.",
                ExitCode.USAGE,
            )
        return plan

    def _selection(
        self, source: EventSource, plan: FilterPlan, wanted: BoundFilter | None
    ) -> Selection:
        def start_kernel_filter(source: EventSource) -> KernelFilterController | None:
            controller = plan.start_kernel_filter(source, wanted)
            if controller is None and self.options.filters.filter_in is FilterIn.KERNEL:
                raise CliError(
                    f"{plan.kernel.reason}; leave out --filter-in kernel.", ExitCode.UNAVAILABLE
                )
            return controller

        names = self.options.display.events_of(self.options.output.format)
        kind_of = {name: kind for kind, name in EVENT_KINDS.items()}
        selection = Selection(
            wanted=wanted,
            kinds={kind_of[name]: name for name in names},
            start_kernel_filter=start_kernel_filter,
        )
        command = self.supervisor
        if command is not None:
            return replace(selection, hides=command.hides, meet=command.meet)
        if self.options.collection.exclude_self and not isinstance(source, ReplaySource):
            return selection.without(DescendantSet(procfs.read_key(os.getpid())))
        return selection

    def _open(self, pipeline: Pipeline) -> None:
        """Start a pipeline; close it if that fails."""
        try:
            pipeline.start()
        except BaseException:
            pipeline.close()
            raise
        finally:
            if isinstance(pipeline.source, BpfSource) and pipeline.source.filter_refusal:
                self._say_log(pipeline.source.filter_refusal)

    def _say_log(self, error: SourceUnavailableError) -> None:
        for line in error.log.splitlines() if self.options.debug else ():
            say(line)


def _needs_every_event(options: TraceOptions) -> bool:
    """Tell whether the kernel must not leave anything out."""
    return options.collection.record is not None


def open_recorder(path: Path | None, offset_ns: int) -> Recorder | None:
    """Open the file of a recording, if one is wanted; only its owner can read it."""
    if path is None:
        return None
    try:
        descriptor = open_for_writing(path, private=True)
    except OSError as error:
        raise unwritable(path, error, "--record") from error
    out = FrameWriter(Channel(descriptor, shared=False), path)
    return Recorder(out, lambda: start_over(descriptor), offset_ns)
