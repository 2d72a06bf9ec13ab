"""What the rules for events and for snapshots have in common: changes of a table. Pure.

Whoever changes a process that others may see in their chains says so here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proctree_bpf.core.identity import ProcessKey, Sameness, compare, same_start
from proctree_bpf.core.model import UNKNOWN_NAME, Edge

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.mirror import Mirror
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable


class TrackerStats(msgspec.Struct):
    """What a tracker has done, in events or entries."""

    applied: int = 0
    duplicates: int = 0
    unchanged: int = 0
    """What told of no change: ancestors that were announced, a name that was there before."""
    orphans: int = 0
    """Execs and exits of processes whose beginning was not seen."""
    presumed_exits: int = 0
    """Exits that were never seen but follow from a reused PID or a later snapshot of /proc."""
    evicted: int = 0
    expired: int = 0


class TableWriter:
    """Changes a table of processes, and tells stores of another make what it changed.

    Args:
        table: where processes are kept.
        mirror: what else must be told.
        user_name: turns a uid into a name; None gives the uid's decimal form.

    """

    def __init__(
        self,
        table: ProcessTable,
        mirror: Mirror | None,
        user_name: Callable[[int], str | None],
    ) -> None:
        self.table = table
        self.mirror = mirror
        self.stats = TrackerStats()
        self._user_name = user_name

    def add(self, process: TrackedProcess) -> None:
        """Take in a process that is not kept yet."""
        self.table.add(process)
        if len(self.table.current) > self.table.holders.room:
            self.make_room(process)
        self.tell(process)

    def make_room(self, newest: TrackedProcess) -> None:
        """Forget processes until the others are within the capacity."""
        self.stats.evicted += len(self.table.shrink(newest))

    def user_of(self, uid: int | None) -> str:
        """Return a user's name, else the uid in decimal, else ``unknown``."""
        if uid is None:
            return UNKNOWN_NAME
        return self._user_name(uid) or str(uid)

    def set_user(self, process: TrackedProcess, uid: int | None, gid: int | None) -> None:
        """Take over ids that are known."""
        if uid is not None and uid != process.uid:
            process.uid, process.user = uid, self.user_of(uid)
            self.table.touch(process)
        if gid is not None:
            process.gid = gid

    def set_name(self, process: TrackedProcess, name: str) -> None:
        """Give a process a name."""
        if name != process.cmd:
            process.cmd = name
            self.table.touch(process)

    def presume_former_exited(self, pid: int, start_time_ns: int, now_ns: int) -> None:
        """Mark who had this PID before as ended, if that is not known."""
        former = self.table.find(pid)
        if former is None or former.exited_ns is not None:
            return
        known_ns = former.start_time_ns
        if known_ns and known_ns < start_time_ns and not same_start(known_ns, start_time_ns):
            self.presume_exited(former, now_ns)

    def presume_exited(self, process: TrackedProcess, now_ns: int) -> None:
        """Mark a process as ended for a reason that nobody saw."""
        self.stats.presumed_exits += 1
        self.table.presume_end(process, now_ns)
        self.tell(process)

    def tell(self, process: TrackedProcess) -> None:
        """Tell stores of another make of a process that has changed."""
        if self.mirror is not None:
            self.stats.evicted += self.mirror.tell(process)

    def learn_creator(self, process: TrackedProcess, creator: ProcessKey) -> None:
        """Replace a parent that was only seen, by the creator that the kernel's notes tell."""
        if process.edge is not Edge.OBSERVED or not creator.pid:
            return
        seen = process.creator_key
        if compare(creator, seen) is Sameness.SAME:
            return
        process.edge, process.fork_missed = Edge.LEARNT, False
        self.table.wards.set_parent(process, process.parent or (seen if seen.pid else None))
        self.table.move(process, *creator)

    def see_parent(self, process: TrackedProcess, parent: ProcessKey) -> None:
        """Take note of the kernel's parent, as an event or a snapshot tells it.

        After the event of its end the kernel still calls a process the parent of its children,
        until it hands them over. Who adopts them is known already, and stays.
        """
        is_creator = compare(parent, process.creator_key) is Sameness.SAME
        told = None if is_creator or parent == process.creator_key else parent
        if told == process.parent:
            return
        if process.parent is not None and self.has_ended(parent):
            return
        self.table.wards.set_parent(process, told)

    def has_ended(self, who: ProcessKey) -> bool:
        """Tell whether a process is known to have ended."""
        process = self.table.find(*who)
        return process is not None and process.exited_ns is not None

    def hand_over(self, ended: TrackedProcess, reaper: ProcessKey) -> None:
        """Give those whose parent has ended to whoever adopts them."""
        for orphan in self.table.wards.in_care_of(ended):
            is_creator = compare(reaper, orphan.creator_key) is Sameness.SAME
            self.table.wards.set_parent(orphan, None if is_creator else reaper)
            self.tell(orphan)
