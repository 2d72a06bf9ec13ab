"""The table of processes: who is there, who created whom, and who is forgotten when. Pure.

- A living process never expires. One that has ended stays for a TTL counted from its end,
  and beyond it, without its details, as long as something that it created is kept: a chain
  must not break ten minutes after a daemon's launcher ended.
- When room is short, the ended go first, then ended creators, then living processes that
  have created nothing that is kept, young ones before old ones: roots of chains stay.

One writer, and readers in other threads that hold ``lock``. Time is handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from threading import RLock
from typing import TYPE_CHECKING

from proctree_bpf.core.due import EndedQueue
from proctree_bpf.core.eras import NameEras
from proctree_bpf.core.holders import PidHolders
from proctree_bpf.core.identity import TICK_NS, ProcessKey, same_start
from proctree_bpf.core.model import CacheParams
from proctree_bpf.core.process import NEVER_OVER, TrackedProcess, may_have_created
from proctree_bpf.core.waiting import Waiting
from proctree_bpf.core.wards import Wards

if TYPE_CHECKING:
    from collections.abc import Iterator


_SECOND_NS = 1_000_000_000


class ProcessTable(NameEras):
    """Processes by identity, each pointing at its creator, within bounds."""

    def __init__(self, params: CacheParams | None = None) -> None:
        super().__init__()
        self.params = params or CacheParams()
        self.lock = RLock()
        self.chains_changed = 0
        """Counts the changes that show in the chain of another process than the changed one."""
        self.partial = False
        """Whether some processes may have no place in the tree, or no details."""
        self.lost_until_ns = 0
        """Until when events are known to have been lost (CLOCK_BOOTTIME); 0: none."""
        self.evicted_living = 0
        """Living processes that were forgotten for want of room."""
        self.holders = PidHolders(self.params.capacity)
        """Who has had each PID."""
        self.wards = Wards()
        """Who has which parent."""
        self.current = self.holders.current
        """By PID: whom a bare PID means; for the hottest look-up."""
        self._ttl_ns = int(self.params.ttl_secs * _SECOND_NS)
        self._now_ns = 0
        self._ended = EndedQueue()
        # Ended, but the creator of something still kept; in the order of their becoming so.
        self._pinned: OrderedDict[TrackedProcess, None] = OrderedDict()
        self._waiting = Waiting()
        self._roots: dict[TrackedProcess, None] = {}
        self._leaves: list[TrackedProcess] = []
        self._evictions_until_look = 0

    def __len__(self) -> int:
        return len(self.holders)

    def __iter__(self) -> Iterator[TrackedProcess]:
        return iter(self.holders)

    # Finding

    def find(self, pid: int, start_time_ns: int = 0) -> TrackedProcess | None:
        """Return the process with this PID and start time.

        Without a start time it is the living process, else the last one to have the PID.
        With one it is never another process.
        """
        current = self.current.get(pid)
        if current is None or not start_time_ns or current.start_time_ns == start_time_ns:
            return current
        return self.holders.find(pid, start_time_ns)

    def get(self, who: int | ProcessKey) -> TrackedProcess | None:
        """Return a process by its key or its bare PID; see ``find``."""
        return self.find(*who) if isinstance(who, ProcessKey) else self.find(who)

    def locate(self, pid: int, start_time_ns: int) -> TrackedProcess | None:
        """Return the process that an event is about.

        Where only the event knows a start time, the living process of that PID is meant.
        """
        found = self.find(pid, start_time_ns)
        if found is None and start_time_ns:
            current = self.current.get(pid)
            if current is not None and not current.start_time_ns and current.exited_ns is None:
                return current
        return found

    def replaced_by(self, pid: int, start_time_ns: int) -> TrackedProcess | None:
        """Return the process of which an insert under this identity tells.

        Where start times cannot tell, that is the living one, never one that has ended.
        """
        current = self.current.get(pid)
        if current is None:
            return None
        if start_time_ns:
            found = self.find(pid, start_time_ns)
            if found is not None:
                return found
            is_same = not current.start_time_ns
        else:
            is_same = True
        return current if is_same and current.exited_ns is None else None

    def children(self, who: ProcessKey) -> list[TrackedProcess]:
        """Return what a process created, in the order of insertion; it need not be kept."""
        if not who.pid:
            return list(self._roots)
        creator = self.find(*who)
        if creator is not None:
            return list(creator.children or ())
        waiting = self._waiting.of(who.pid, who.ticks if who.start_time_ns else None)
        return [born for born in waiting if self._is_of(who, born)]

    def _is_of(self, who: ProcessKey, process: TrackedProcess) -> bool:
        if process.creator_start_ns and who.start_time_ns:
            return same_start(process.creator_start_ns, who.start_time_ns)
        if who.pid in self.current:
            return False
        start_ns = process.start_time_ns
        return not (who.start_time_ns and start_ns) or who.ticks <= start_ns // TICK_NS

    # Changing

    def add(self, process: TrackedProcess) -> None:
        """Take in a process that is not kept yet."""
        exited_ns, process.exited_ns = process.exited_ns, None
        self.holders.add(process)
        process.is_kept = True
        if exited_ns is not None:
            self.end(process, exited_ns)
        else:
            self.wards.add(process)
        if process.has_place:
            self.link(process)
        if process.pid in self._waiting.by_pid:
            self._adopt(process)

    def add_born(self, process: TrackedProcess, creator: TrackedProcess) -> None:
        """Take in a process that was born just now, and is pointing at its creator."""
        pid = process.pid
        if pid in self.current:
            self.holders.add(process)
        else:
            self.current[pid] = process
        process.is_kept = True
        siblings = creator.children
        if siblings is None:
            self._attach(creator, process)
        else:
            siblings[process] = None
        if process.parent is not None:
            self.wards.add(process)
        if pid in self._waiting.by_pid:
            self._adopt(process)

    def link(self, process: TrackedProcess) -> None:
        """Let a process point at its creator."""
        ppid = process.ppid
        if ppid == process.pid:
            return
        if not ppid:
            self._roots[process] = None
            return
        creator = self.find(ppid, process.creator_start_ns)
        if creator is not None and creator is not process and may_have_created(creator, process):
            self._attach(creator, process)
        else:
            self._waiting.add(process)

    def move(self, process: TrackedProcess, ppid: int, creator_start_ns: int) -> None:
        """Give a process another creator, or the same one known better."""
        if (ppid, creator_start_ns) == (process.ppid, process.creator_start_ns):
            return
        self._unlink(process)
        process.ppid, process.creator_start_ns = ppid, creator_start_ns
        process.creator = None
        self.link(process)
        self.touch(process)

    def touch(self, process: TrackedProcess) -> None:
        """Forget what was kept of a process as a link: its name, user, start or creator is new."""
        process.link = None
        if process.children:
            self.chains_changed += 1

    def sharpen(self, process: TrackedProcess, start_time_ns: int) -> None:
        """Take over a start time if it says more than the one that is known."""
        known_ns = process.start_time_ns
        if known_ns % TICK_NS or not start_time_ns or (known_ns and not start_time_ns % TICK_NS):
            return
        process.start_time_ns = start_time_ns
        self.holders.reconsider(process)
        self.touch(process)
        if process.pid in self._waiting.by_pid:
            self._adopt(process)

    def end(self, process: TrackedProcess, exited_ns: int | None) -> None:
        """Note when a process ended, or that it lives after all."""
        if process.exited_ns == exited_ns:
            return
        process.exited_ns = exited_ns
        if process.pid in self.holders.others:
            self.holders.reconsider(process)
        if exited_ns is None:
            self._pinned.pop(process, None)
            self.wards.add(process)
            return
        if process.parent is not None:
            self.wards.discard(process)
        era = process.named_in
        if not era.is_over or exited_ns <= era.doubted_from_ns:
            process.named_in = NEVER_OVER
        era = process.details_in  # of which nobody asks after the record of the end
        if era.is_over and exited_ns <= era.doubted_from_ns:
            process.details_in = NEVER_OVER
        self._ended.push(process, exited_ns)
        if process.children:
            self._pinned[process] = None
        if process.is_kept and process.pid in self._waiting.by_pid:
            self._adopt(process)

    def presume_end(self, process: TrackedProcess, exited_ns: int) -> None:
        """Note that a process ended, though nobody saw it, nor what it was called then."""
        self.end(process, exited_ns)
        self.note_presumed(process)

    # Forgetting

    def expire(self, now_ns: int) -> list[TrackedProcess]:
        """Forget what ended longer than the TTL before ``now_ns``; return it.

        Time only moves forward: an earlier ``now_ns`` than before changes nothing.
        """
        self._now_ns = max(self._now_ns, now_ns)
        removed = []
        while process := self._ended.pop(self._now_ns - self._ttl_ns):
            if process.children:
                self.partial = True
                _drop_details(process)
            else:
                self.remove(process)
                removed.append(process)
        return removed

    def shrink(self, newest: TrackedProcess) -> list[TrackedProcess]:
        """Forget processes until the rest is within the capacity; return them.

        The newest goes last among its like.
        """
        evicted = []
        while len(self.current) > self.holders.room:
            process = self._first_ended() or self._first_pinned() or self._living_leaf(newest)
            if process.exited_ns is None:
                self.evicted_living += 1
            self.remove(process)
            evicted.append(process)
        return evicted

    def remove(self, process: TrackedProcess) -> None:
        """Forget a process. It still points at its creator, for whoever holds it."""
        self.holders.discard(process)
        process.is_kept = False
        self._pinned.pop(process, None)
        self.wards.discard(process)
        if process.children:
            self.chains_changed += 1
            for child in process.children:
                child.creator = None
                self._waiting.add(child)
            process.children = None
        self._unlink(process)

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` unless all that is kept agrees with itself; for tests."""
        kept = list(self)
        assert len(kept) == len(set(kept)) == len(self) <= self.params.capacity  # noqa: S101
        self.holders.check_invariants()
        for process in kept:
            assert process.is_kept  # noqa: S101
            assert process.children is None or process.children  # noqa: S101
            is_pinned = process.exited_ns is not None and process.children is not None
            assert (process in self._pinned) is is_pinned, process  # noqa: S101
            if process.creator is not None:
                assert process in (process.creator.children or ())  # noqa: S101
                assert process.creator.is_kept  # noqa: S101
            elif process.has_place and process.ppid != process.pid:
                assert process in (self._waiting if process.ppid else self._roots)  # noqa: S101
            for child in process.children or ():
                assert child.is_kept and child.creator is process  # noqa: S101, PT018
        assert set(self._pinned) <= set(kept)  # noqa: S101
        living = {process for process in kept if process.exited_ns is None}
        assert set(self.wards) == {each for each in living if each.parent}  # noqa: S101
        waiting = list(self._waiting)
        self._waiting.check_invariants()
        assert {*waiting, *self._roots} <= set(kept)  # noqa: S101
        assert all(child.creator is None for child in waiting)  # noqa: S101

    # How it is kept in step.

    def _attach(self, creator: TrackedProcess, process: TrackedProcess) -> None:
        process.creator = creator
        if creator.children is None:
            creator.children = {process: None}
            if creator.exited_ns is not None:
                self._pinned[creator] = None
        else:
            creator.children[process] = None

    def _unlink(self, process: TrackedProcess) -> None:
        """Take a process out of its creator's children, or of those who wait for a creator."""
        creator = process.creator
        if creator is None:
            self._roots.pop(process, None)
            self._waiting.discard(process)
            return
        born = creator.children
        if born is None or process not in born:
            return
        del born[process]
        if not born:
            creator.children = None
            if creator.exited_ns is not None and creator.is_kept:
                self._pinned.pop(creator, None)
                self._ended.push(creator, creator.exited_ns)

    def _adopt(self, process: TrackedProcess) -> None:
        """Let those who waited for this process point at it."""
        for child in self._waiting.of(process.pid, process.start_time_ns // TICK_NS):
            is_creator = (
                same_start(child.creator_start_ns, process.start_time_ns)
                if child.creator_start_ns
                else may_have_created(process, child)
            )
            if is_creator and child is not process:
                self._unlink(child)
                self._attach(process, child)
                self.touch(child)

    def _first_ended(self) -> TrackedProcess | None:
        """Return the first that ended of those that created nothing that is kept."""
        while process := self._ended.pop(inf):
            if not process.children:
                return process
        return None

    def _first_pinned(self) -> TrackedProcess | None:
        return next(iter(self._pinned), None)

    def _living_leaf(self, newest: TrackedProcess) -> TrackedProcess:
        """Return a living process that has created nothing that is kept, a young one.

        What has been there for long is the root of chains to come, if it has no child now.
        """
        self._evictions_until_look -= 1
        if self._evictions_until_look <= 0:
            # Rarely enough that looking at all costs each eviction the same in the mean.
            self._evictions_until_look = len(self) // 4
            found = (p for p in self if not p.children and p is not newest)
            self._leaves = sorted(found, key=_by_start)
        while self._leaves:
            process = self._leaves.pop()
            if process.is_kept and process.exited_ns is None and not process.children:
                return process
        return newest


def _by_start(process: TrackedProcess) -> int:
    return process.start_time_ns


def _drop_details(process: TrackedProcess) -> None:
    """Keep only what a chain needs of a process that ended long ago."""
    process.has_details = False
    process.executable = process.args_raw = None
    process.uid = process.gid = process.cgroup_id = process.ns_pid = None
