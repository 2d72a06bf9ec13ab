"""Mends the tree from ``/proc``: at the start, after a loss, and after a filter's fallback.

Only *when* is decided by the pipeline, because it knows which events were applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from proctree_bpf.core.compact import value_of
from proctree_bpf.core.snapshot_merger import InFlight
from proctree_bpf.sources.system import procfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.model import Entry
    from proctree_bpf.core.snapshot_merger import Unreported
    from proctree_bpf.core.tracker import Tracker
    from proctree_bpf.filters.kernel_controller import KernelFilterController
    from proctree_bpf.intake import Intake
    from proctree_bpf.sources.base import EventSource
    from proctree_bpf.streams.reorder import ReorderBuffer

_REPAIR_EVERY_NS = 1_000_000_000


@dataclass(slots=True)
class ProcSnapshot:
    """All processes that ``/proc`` showed between two times (CLOCK_BOOTTIME)."""

    begun_ns: int
    ended_ns: int
    entries: list[Entry]
    unreported: dict[ProcessKey, Unreported] = field(default_factory=dict)
    ends: dict[ProcessKey, Unreported] = field(default_factory=dict)
    """Both as a filter in the kernel has noted: see ``filters.kernel_controller.Completed``."""


class TreeRepair:
    """Reads ``/proc`` when the tree must learn of what no event told, and merges it.

    Args:
        source: whose events are applied, and who reads ``/proc``.
        tracker: what keeps the tree.
        order: what has been received and not been applied yet.
        intake: asked to keep up now and then, so that nothing is lost meanwhile.
        survey: called after the tree was mended.

    """

    def __init__(
        self,
        source: EventSource,
        tracker: Tracker,
        order: ReorderBuffer,
        intake: Intake,
        survey: Callable[[], object],
    ) -> None:
        self._source = source
        self._tracker = tracker
        self._order = order
        self._intake = intake
        self._survey = survey
        self._is_wanted = False
        self._not_before_ns = 0
        self._lost_until_ns = 0
        self.longest_ns = 0
        """The longest time from the end of the last gap until the tree was mended."""
        self.pending: ProcSnapshot | None = None
        """What was read after a loss, until all older events have been applied."""
        self.filter_controller: KernelFilterController | None = None
        """A filter in the kernel, which has noted what it left out."""

    @property
    def is_needed(self) -> bool:
        """Whether events were lost and the tree is not mended yet."""
        return self._is_wanted or self.pending is not None

    def request(self, lost_until_ns: int) -> None:
        """Read ``/proc`` again when ``begin`` is called next, for a gap that ended then.

        What was read after its end, and is not merged yet, will do.
        """
        if self.pending is None or lost_until_ns >= self.pending.begun_ns:
            self._is_wanted = True
        self._lost_until_ns = max(self._lost_until_ns, lost_until_ns)
        self._intake.is_mending = True

    def take_first_snapshot(self) -> int:
        """Fill the tree; return how many processes there are."""
        snapshot = self._read()
        if snapshot is None:
            return 0
        self._intake.take_received()  # what came meanwhile
        return self._tracker.merge_snapshot(snapshot.entries, self._in_flight())

    def begin(self) -> None:
        """Read ``/proc`` if that was requested, and enough time has passed since the last time.

        The source says what time it is, so a recording does the same.
        """
        if self._is_wanted and self.pending is None:
            self._is_wanted = False
            self.pending = self._read(self._not_before_ns)
            if self.pending is None:
                self._is_wanted = True
            else:
                self._not_before_ns = self.pending.begun_ns + _REPAIR_EVERY_NS

    def apply(self) -> None:
        """Mend the tree with what was read: all older events must have been applied.

        Those from while it was read must have been received.
        """
        repair, self.pending = self.pending, None
        if repair is None:
            return
        self._tracker.reconcile(
            repair.entries,
            repair.begun_ns,
            repair.ended_ns,
            self._in_flight(repair.ended_ns),
            ends=repair.ends,
        )
        # More may have been lost meanwhile.
        self._tracker.uncertain = self._intake.is_mending = self._is_wanted
        if self.filter_controller is not None:
            self.filter_controller.mended()
        if not self._is_wanted:
            taken_ns = self._source.now_ns() - self._lost_until_ns
            self.longest_ns = max(self.longest_ns, taken_ns)
        self._survey()

    def catch_up(self) -> None:
        """Learn of all that a filter in the kernel had left out before it fell back.

        What has happened since then is held back meanwhile, as at the start.
        """
        controller = self.filter_controller
        if controller is None or controller.hold_ns == inf:
            return
        snapshot = self._read()
        if snapshot is not None:
            self._intake.take_all()  # what was noted last may have been sent since
            # With a full table the kernel's side has not noted all.
            unreported = None if controller.given_up else snapshot.unreported
            self._tracker.reconcile(
                snapshot.entries,
                snapshot.begun_ns,
                snapshot.ended_ns,
                self._in_flight(),
                unreported=unreported,
                ends=snapshot.ends,
            )
            self._tracker.uncertain = self.is_needed
            self._survey()
        controller.caught_up(self._source.now_ns())

    def _in_flight(self, until_ns: float = inf) -> InFlight:
        held = self._order.held()
        return InFlight(value_of(event) for event in held if event.timestamp_ns <= until_ns)

    def _read(self, not_before_ns: int = 0) -> ProcSnapshot | None:
        snapshot = self._source.read_snapshot(self._intake.keep_up, not_before_ns)
        if snapshot is None:
            return None
        begun_ns, ended_ns, readings = snapshot
        entries = procfs.link_entries(readings, ended_ns)
        if self.filter_controller is None:
            return ProcSnapshot(begun_ns, ended_ns, entries)
        return ProcSnapshot(begun_ns, ended_ns, *self.filter_controller.complete(entries))
