"""A pipeline with a filter in the kernel or here, pumped only when a test says so."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf import BpfOptions, BpfSource, Gap, PidTree, ProcCache, ProcessEvent
from proctree_bpf.core.lineage import build_chain_links
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.kernel_controller import KernelFilterController, followed_by
from proctree_bpf.filters.kernel_plan import plan_kernel_filter
from proctree_bpf.filters.kernel_port import FallbackReason
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.sources.system.clock import boottime_ns
from proctree_bpf.sources.system.procfs import uid_to_username, user_of
from support.values import kind_of
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proctree_bpf import EventSource


class ShownRecord(NamedTuple):
    """What a record shows of its process when it is written."""

    kind: str
    pid: int
    name: str
    user: str
    args: tuple[str, ...]
    exit_code: int | None
    above: tuple[tuple[str, str], ...]
    """Name and user of each ancestor, nearest first."""
    parent: str | None
    """Name of the kernel's parent."""
    executable: str | None
    ids: tuple[int | None, int | None]
    inherited: bool
    truncated: bool


class FilteredPipeline:
    """A pipeline with a filter in the kernel, or only here."""

    def __init__(self, terms: str, slots: int = 65_536, *, in_kernel: bool = True) -> None:
        self.tree, self.cache = PidTree(), ProcCache()
        wanted = Filter.parse(terms)
        self.wanted = BoundFilter(wanted, self.tree, self.cache)
        spec, reason = plan_kernel_filter(wanted.questions, by_parent=False)
        assert spec is not None, reason
        options = BpfOptions(
            perf_pages=1024, kernel_filter_spec=spec if in_kernel else None, filter_slots=slots
        )
        self.source = BpfSource(options)
        self.applied: list[ProcessEvent] = []
        self.told: list[ShownRecord] = []
        self.gaps: list[Gap] = []
        selection = Selection(wanted=self.wanted)
        if in_kernel:
            selection = replace(selection, start_kernel_filter=self._start_kernel_filter)
        tracker = Tracker(self.tree, self.cache, uid_to_username)
        self.pipeline = Pipeline(self.source, tracker, self, selection)

    def _start_kernel_filter(self, _source: EventSource) -> KernelFilterController:
        assert self.source.kernel_filter is not None
        return KernelFilterController(self.source.kernel_filter, followed_by(self.wanted), user_of)

    @property
    def filter_controller(self) -> KernelFilterController:
        assert self.pipeline.filter_controller is not None
        return self.pipeline.filter_controller

    def write(self, process_event: ProcessEvent) -> None:
        self.applied.append(process_event.keep())
        info = process_event.info
        parent = self.tree.get_node(process_event.node.kernel_parent)
        above = build_chain_links(self.tree, self.cache, process_event.node.key)[1:]
        self.told.append(
            ShownRecord(
                kind_of(process_event.event), process_event.node.pid, info.cmd, info.user,
                info.args,
                info.exit_code, tuple((link.cmd, link.user) for link in above),
                parent and parent.cmd, info.executable, (info.uid, info.gid), info.inherited,
                info.truncated,
            )
        )  # fmt: skip

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is held back."""

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        def pumped() -> bool:
            self.pipeline.pump()
            controller = self.pipeline.filter_controller
            assert controller is None or self.pipeline.complete_until_ns <= controller.hold_ns
            return condition()

        wait_until(what, pumped)

    def until_on(self) -> None:
        self.until("the kernel filters", lambda: self.filter_controller.is_on)

    def until_told(self, pid: int, kind: type) -> None:
        self.until(f"{kind.__name__} of {pid}", lambda: kind in self.told_of(pid))

    def told_of(self, pid: int) -> list[type]:
        return [type(a.event) for a in self.applied if a.event.key.pid == pid]

    def hand_over_again(self) -> None:
        """Let the kernel's side doubt, and take over again without the usual pause."""
        kernel = self.source.kernel_filter
        assert kernel is not None
        doubt = struct.pack("=QQ", boottime_ns(), FallbackReason.JOINED_LATE)
        assert kernel._fallback.put(bytes(4), doubt)
        self.until("the doubt is noticed", lambda: not self.filter_controller.is_on)
        self.until("it goes on", lambda: self.filter_controller.hold_ns == float("inf"))
        self.filter_controller._resume_ns = 0

    def of(self, kind: type) -> list[ProcessEvent]:
        return [
            process_event for process_event in self.applied if isinstance(process_event.event, kind)
        ]


@contextmanager
def beginning() -> Iterator[Callable[..., FilteredPipeline]]:
    """Give what makes and starts such pipelines; they are closed at the end."""
    running: list[FilteredPipeline] = []

    def begin(terms: str, slots: int = 65_536, *, in_kernel: bool = True) -> FilteredPipeline:
        filtered = FilteredPipeline(terms, slots, in_kernel=in_kernel)
        filtered.pipeline.start()
        running.append(filtered)
        return filtered

    yield begin
    for filtered in running:
        filtered.pipeline.finish()
        filtered.pipeline.close()
