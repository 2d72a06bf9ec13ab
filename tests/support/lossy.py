"""A pipeline that loses events when a test says so. No test of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from proctree_bpf import BpfOptions, BpfSource, ProcessTree
from proctree_bpf.filters.kernel_controller import KernelFilterController, followed_by
from proctree_bpf.filters.kernel_plan import plan_kernel_filter
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.sources.system.procfs import user_of
from support.live_collector import as_identity
from support.spawner import Spawner
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proctree_bpf import Gap, PidNode, ProcessEvent, ProcEvent, ProcInfo
    from proctree_bpf.core.process import TrackedProcess
    from support.actor import Helpers
    from support.proc_truth import Identity
    from support.spawner import Spawned

T = TypeVar("T")
_PER_CPU = 300


class Lossy:
    """A pipeline with one page of buffer per CPU, that is drained only when a test says so.

    With a filter by ancestor, that is in the kernel. What else there is goes into its selection.
    """

    def __init__(self, terms: str = "", **selected: Any) -> None:
        wanted = Filter.parse(terms)
        self.tree = ProcessTree()
        self.tracker = self.tree.tracker
        spec = plan_kernel_filter(wanted.questions, by_parent=False).spec if terms else None
        self.source = BpfSource(BpfOptions(perf_pages=1, kernel_filter_spec=spec))
        selection = Selection(**selected)
        if terms:
            bound = BoundFilter(wanted, self.tracker.tree, self.tracker.cache)
            follows = followed_by(bound)
            selection = Selection(
                wanted=bound, start_kernel_filter=lambda _: self._controller(follows)
            )
        self.pipeline = Pipeline(self.source, self.tracker, self, selection)
        self.applied: list[ProcessEvent] = []
        self.gaps: list[Gap] = []

    def _controller(self, follows: Callable[[TrackedProcess], bool]) -> KernelFilterController:
        assert self.source.kernel_filter is not None
        return KernelFilterController(self.source.kernel_filter, follows, user_of)

    def pumped(self, condition: Callable[[], T]) -> T:
        """Pump, and then ask."""
        self.pipeline.pump()
        return condition()

    def write(self, process_event: ProcessEvent) -> None:
        self.applied.append(process_event.keep())

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is owed at the end."""

    def repair(self) -> None:
        """Pump until what was lost has been looked up."""

        wait_until("the repair", lambda: self.pumped(lambda: not self.tracker.uncertain))
        assert self.pipeline.stats.repairs

    def node(self, who: Identity) -> PidNode:
        """Return the only node of a process."""
        (node,) = (n for n in self.tracker.tree.all_nodes() if as_identity(n.key) == who)
        return node

    def info(self, who: Identity) -> ProcInfo:
        """Return the details of a process."""
        info = self.tracker.cache.get_info(self.node(who).key)
        assert info is not None
        return info

    def last(self, who: Identity, kind: type[ProcEvent]) -> ProcessEvent | None:
        """Return the last record of a process, if it is of this kind."""
        found = [a for a in self.applied if as_identity(a.event.key) == who]
        return found[-1] if found and isinstance(found[-1].event, kind) else None

    def living(self) -> set[Identity]:
        """Return the processes that the tree has as living."""
        nodes = self.tracker.tree.all_nodes()
        return {as_identity(node.key) for node in nodes if node.exited_ns is None}


def flood(helpers: Helpers, directory: Path, token: str) -> list[Spawned]:
    """Run more short processes on each CPU than its buffer can tell of."""
    cpus = sorted(os.sched_getaffinity(0))
    spawners = [
        Spawner(helpers, directory, token, _PER_CPU, first=index * _PER_CPU, cpu=cpu)
        for index, cpu in enumerate(cpus)
    ]
    return [spawned for spawner in spawners for spawned in spawner.finish()]
