"""What a pipeline needs from outside besides a source, a tracker and a sink. No behaviour here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from proctree_bpf.core.events import EVENT_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.table import ProcessTable
    from proctree_bpf.filters.descendants import DescendantSet
    from proctree_bpf.filters.kernel_controller import KernelFilterController
    from proctree_bpf.sources.base import EventSource, Waiting


class StopFlag(Protocol):
    """What tells ``run`` to end; a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Tell whether to end."""

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until it is set, so many seconds at the most."""


class RecordFilter(Protocol):
    """Chooses which records are written; ``filters.record_filter.BoundFilter`` is one."""

    def survey(self) -> None:
        """Decide for all that the tree knows now."""

    def admits(self, process_event: ProcessEvent) -> bool:
        """Tell whether a record is wanted; asked for each event, in order."""


def _hides_nothing(_event: AnyEvent) -> bool:
    return False


def _meets_nobody(_table: ProcessTable) -> None:
    pass


def _no_kernel_filter(_source: EventSource) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the applied events are written: all, if nothing else is said.

    Attributes:
        hides: asked about every event, in order; what it is true for is not written.
        meet: called when the table has those whose events were not told: after the start, and
            after each repair.
        hides_only: if not None, PIDs that are ever the same object: ``hides`` is false, and need
            not be asked, about an event that names none of them.
        wanted: what it does not admit is not written either.
        kinds: the kinds of event that are written, and what each is called.
        start_kernel_filter: called once the source is open; may return what keeps a filter
            in the kernel in step with ``wanted``.

    """

    hides: Callable[[AnyEvent], bool] = _hides_nothing
    meet: Callable[[ProcessTable], None] = _meets_nobody
    hides_only: Collection[int] | None = None
    wanted: RecordFilter | None = None
    kinds: Mapping[type, str] = field(default_factory=lambda: EVENT_KINDS)
    start_kernel_filter: Callable[[EventSource], KernelFilterController | None] = _no_kernel_filter

    def without(self, family: DescendantSet) -> Selection:
        """Return a selection that hides a process and all that it creates."""
        return replace(self, hides=family.includes, hides_only=family.pids, meet=family.survey)


class PipelineHooks:
    """What a pipeline asks and tells whoever runs it; override what is of interest."""

    def check(self) -> None:
        """Be called between pieces of work; what this raises ends them."""

    def is_due(self) -> bool:
        """Tell whether to stop: nothing that happens later is recorded any more."""
        return False

    def before_receiving(self) -> None:
        """Be at hand: what is not received in time is lost."""

    def before_working(self, waiting: Waiting) -> None:
        """Learn how much waits to be worked on; called each time more was received."""

    def before_finishing(self) -> None:
        """Be quick: nothing more is received, and somebody waits for the end."""
        self.before_receiving()

    def on_backlog(self, events: int) -> None:
        """Learn how many events are still to be written, once the source has stopped."""

    def on_evicted_living(self) -> None:
        """Learn, once, that living processes had to be forgotten."""
