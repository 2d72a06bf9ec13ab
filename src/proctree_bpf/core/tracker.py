"""Applies events to a table of processes. Pure: no clock, no /proc, no user database.

The rules, each with its reason:

- Events may come twice, or late, or without those before them; applying is
  idempotent, and a known fact is never overwritten by an unknown one.
- A forked process carries what its creator runs until its own exec (``core.births``).
- A PID that comes back with a later start time proves that its former holder has
  ended, even if that exit was lost.
- A snapshot fills in what the stream has not told, and overwrites nothing
  (``core.snapshot_merger``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.births import BirthWriter
from proctree_bpf.core.compact import AnyEvent, CompactExec, CompactExit, CompactFork
from proctree_bpf.core.events import AncestorAnnounced, Exec, Exit, Fork, Rename, Setid
from proctree_bpf.core.mirror import table_of
from proctree_bpf.core.model import Edge, PidNode, ProcInfo
from proctree_bpf.core.process import NEVER_OVER, UNCERTAIN, Era, TrackedProcess
from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.core.snapshot_merger import (
    NOBODY_ENDED,
    NOTHING_IN_FLIGHT,
    InFlight,
    SnapshotMerger,
)
from proctree_bpf.core.stores import PidTree, ProcCache

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from proctree_bpf.core.compact import AnyExec, AnyExit
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.snapshot_merger import Unreported
    from proctree_bpf.core.stores import CacheStore, TreeStore

_EXPIRE_EVERY_NS = 1_000_000_000
_INIT_PID = 1
"""The process that nobody created."""


class Tracker(BirthWriter):
    """Keeps a table of processes in step with a stream of events.

    Args:
        tree, cache: views of the table; or stores of another make, which are told of each
            change and must not be changed by others meanwhile.
        user_name: turns a uid into a name; None gives the uid's decimal form.

    """

    def __init__(
        self,
        tree: TreeStore | None = None,
        cache: CacheStore | None = None,
        user_name: Callable[[int], str | None] = lambda _uid: None,
    ) -> None:
        self.tree: TreeStore = tree if tree is not None else PidTree()
        self.cache: CacheStore = cache if cache is not None else ProcCache()
        super().__init__(*table_of(self.tree, self.cache), user_name)
        self.uncertain = False
        """Events are known to be lost, and ``reconcile`` was not called since."""
        self._certain_from_ns = 0
        """Until then, new names may have been lost."""
        self._next_expiry_ns = 0
        self._next_chore_ns = 0
        self._handlers: dict[type, Callable[..., TrackedProcess | None]] = {
            Fork: self.take_birth,
            CompactFork: self.take_birth,
            Exec: self._exec,
            CompactExec: self._exec,
            Exit: self._exit,
            CompactExit: self._exit,
            Rename: self._rename,
            Setid: self._setid,
            AncestorAnnounced: self._met,
        }

    def apply(self, event: AnyEvent) -> ProcessEvent | None:
        """Apply one event; return what came of it, or None if it was known already.

        What is returned stays as it is, whatever comes later.
        """
        with self.table.lock:
            process = self.take(event)
            if process is None:
                return None
            return ProcessEvent(event, process, self.is_doubted(process)).keep()

    def is_doubted(self, process: TrackedProcess) -> bool:
        """Tell whether something of what a record would say of a process may be out of date."""
        return self.uncertain or process.details_in.is_over

    def take(self, event: AnyEvent) -> TrackedProcess | None:
        """Apply one event; return its process, which goes on changing, or None as ``apply``.

        For whoever holds ``table.lock``, or is alone.
        """
        ((_, process),) = self.take_all((event,))
        return process

    def take_all(
        self, events: Iterable[AnyEvent]
    ) -> Iterator[tuple[AnyEvent, TrackedProcess | None]]:
        """Apply events one by one, each when the next is asked for; see ``take``."""
        handlers, has_mirror = self._handlers, self.mirror is not None
        applied = 0
        try:
            for event in events:
                if event.timestamp_ns >= self._next_chore_ns:
                    self._do_chores(event.timestamp_ns)
                process = handlers[type(event)](event)
                if process is None:
                    self._count_unapplied(event)
                else:
                    applied += 1
                    if has_mirror:
                        self.tell(process)
                yield event, process
        finally:
            self.stats.applied += applied

    def take_all_locked(
        self, events: Iterable[AnyEvent]
    ) -> Iterator[tuple[AnyEvent, TrackedProcess | None]]:
        """Apply events as ``take_all``, and each while no other thread looks."""
        applied = self.take_all(events)
        while True:
            with self.table.lock:
                one = next(applied, None)
            if one is None:
                return
            yield one

    def _do_chores(self, now_ns: int) -> None:
        """Do what is due before an event of this moment.

        Nothing is forgotten for that very moment: whoever writes the event must find the process
        and those above it as they are now, whatever the TTL.
        """
        if now_ns >= self._next_expiry_ns:
            self._next_expiry_ns = now_ns + _EXPIRE_EVERY_NS
            self.expire(now_ns - 1)
        self._next_chore_ns = self._next_expiry_ns
        if self.table.era.is_over:
            if now_ns >= self._certain_from_ns:
                self.table.trust_names()
            else:
                self._next_chore_ns = min(self._next_chore_ns, self._certain_from_ns)

    def _count_unapplied(self, event: AnyEvent) -> None:
        if event.kind in ("fork", "exec", "exit"):
            self.stats.duplicates += 1
        else:
            self.stats.unchanged += 1

    def note_gap(self, gap: Gap) -> None:
        """Take note that events were lost: until ``reconcile``, less is certain.

        A lost exec leaves the name of a process out of date, so nobody can say that it is not
        the name that is asked for. That is so of those that lived in the time of the gap, also
        if what told their name is applied only now; not of names that are told later.
        """
        self.uncertain = True
        until_ns = gap.until_ns or gap.timestamp_ns
        self.table.lost_until_ns = max(self.table.lost_until_ns, until_ns)
        if gap.kind in (None, "exec", "rename"):
            self.table.doubt_names(gap.from_ns)
            self._certain_from_ns = max(self._certain_from_ns, until_ns)
            self._next_chore_ns = min(self._next_chore_ns, self._certain_from_ns)
            if self.mirror is not None:
                for process in self.table:
                    self.tell(process)

    def doubt_names_of(self, processes: Iterable[TrackedProcess]) -> None:
        """Take note that nothing is told of these from now on: they may take other names."""
        with self.table.lock:
            for process in processes:
                process.named_in = UNCERTAIN
                self.tell(process)

    def note_release(self, key: ProcessKey, now_ns: int) -> None:
        """Take note that a command of ours, held since its start, runs from now on."""
        process = self.table.get(key)
        if process is not None:
            process.held_until_ns = now_ns
            self.tell(process)

    def expire(self, now_ns: int) -> None:
        """Forget what ended longer than the TTL before ``now_ns``."""
        with self.table.lock:
            self.stats.expired += len(self.table.expire(now_ns))
        if self.mirror is not None:
            self.mirror.expire(now_ns)

    def merge_snapshot(
        self,
        entries: Iterable[tuple[PidNode, ProcInfo]],
        in_flight: InFlight = NOTHING_IN_FLIGHT,
    ) -> int:
        """Add the processes of a ``/proc`` snapshot that the stream has not told of.

        Of processes for which an exec is in flight, the snapshot may have read what they run
        after it, so that is left out rather than given to children forked before it.
        Returns the number of entries added.
        """
        with self.table.lock:
            return SnapshotMerger(self, in_flight, self.table.looked_era).merge(entries)

    def reconcile(
        self,
        entries: Collection[tuple[PidNode, ProcInfo]],
        begun_ns: int,
        now_ns: int,
        in_flight: InFlight = NOTHING_IN_FLIGHT,
        *,
        unreported: Mapping[ProcessKey, Unreported] | None = None,
        ends: Mapping[ProcessKey, Unreported] = NOBODY_ENDED,
    ) -> None:
        """Mend the tree after a gap with a later snapshot of ``/proc``.

        Every event from before the snapshot began, at ``begun_ns``, must have been applied,
        or else be ``in_flight``: what it changed is not taken from the snapshot. Processes
        that are missing are added, those that are known are brought up to date, and those
        that should have been there have ended. Both times are CLOCK_BOOTTIME.

        ``unreported`` says what the stream may not have told of those known; None: anything.
        ``ends``: the same of those whose entries are what was noted when they ended.
        """
        era = self._era_of_look(begun_ns)
        with self.table.lock:
            merger = SnapshotMerger(self, in_flight, era)
            merger.mend(entries, begun_ns, now_ns, unreported, ends)
        self.uncertain = False

    def _era_of_look(self, begun_ns: int) -> Era:
        """Return when the names were learnt that ``/proc`` showed then."""
        if begun_ns < self._certain_from_ns:
            return UNCERTAIN
        if self.table.looked_era.is_over:
            self.table.looked_era = Era()
        return self.table.looked_era

    # Handlers, one per kind of event.

    def _exec(self, event: AnyExec) -> TrackedProcess | None:
        pid, start_ns = event.pid, event.start_time_ns
        process = self.table.current.get(pid)
        if process is None or process.start_time_ns != start_ns:
            process = self.table.locate(pid, start_ns)
        if process is not None and process.exec_ns is not None:
            if event.timestamp_ns <= process.exec_ns:
                return None
            if process.exited_ns is not None and not start_ns:
                process = None  # the dead do not exec: this is the next to have the PID
        if process is None:
            process = self._discover(event)
        self._update(process, event)
        # To set an attribute of a struct costs five times what it costs to look at it.
        era = self.table.era
        if process.details_in is not era or process.named_in is not era or event.comm is None:
            process.details_in = era
            process.named_in = era if event.comm is not None else UNCERTAIN
        process.executable = event.executable
        process.args_raw = event.args_raw
        # After an exec that nobody could look at, the name is from before it.
        process.inherited = event.comm is None and event.args_raw is None
        if process.truncated is not event.truncated:
            process.truncated = event.truncated
        process.exec_ns = event.timestamp_ns
        if process.link is not None:
            process.link = None
        return process

    def _exit(self, event: AnyExit) -> TrackedProcess | None:
        pid, start_ns = event.pid, event.start_time_ns
        process = self.table.current.get(pid)
        if process is None or process.start_time_ns != start_ns:
            process = self.table.locate(pid, start_ns) or self._discover(event)
        if process.exited_ns is not None and (process.status is not None or event.status is None):
            return None
        self._update(process, event)
        if event.comm is not None and process.named_in.is_over:
            process.named_in = NEVER_OVER  # this is its last name
        process.status = event.status
        if event.cpu_ns is not None:
            process.cpu_ns = event.cpu_ns
        self.table.end(process, event.timestamp_ns)
        if event.reaper is not None:
            self.hand_over(process, event.reaper)
        return process

    def _update(self, process: TrackedProcess, event: AnyExec | AnyExit) -> None:
        """Take over what execs and exits both tell, if they tell it.

        Most often nothing is new, so that is asked first.
        """
        if process.start_time_ns != event.start_time_ns:
            self.table.sharpen(process, event.start_time_ns)
        if event.parent_pid == process.ppid and event.parent_start_ns == process.creator_start_ns:
            if process.parent is not None:
                self.see_parent(process, process.creator_key)
        elif event.parent is not None:
            self.see_parent(process, event.parent)
        if event.comm != process.cmd and event.comm is not None:
            self.set_name(process, event.comm)
        if event.uid != process.uid and event.uid is not None:
            self.set_user(process, event.uid, None)
        if event.gid != process.gid and event.gid is not None:
            process.gid = event.gid
        if event.cgroup_id != process.cgroup_id and event.cgroup_id is not None:
            process.cgroup_id = event.cgroup_id

    def _rename(self, event: Rename) -> TrackedProcess | None:
        process = self.table.locate(*event.key)
        if process is None:
            return None
        if event.parent is not None:
            self.see_parent(process, event.parent)
        process.named_in = self.table.era
        if process.cmd == event.comm:
            return None
        self.set_name(process, event.comm)
        return process

    def _setid(self, event: Setid) -> TrackedProcess | None:
        process = self.table.locate(*event.key)
        if process is None:
            return None
        if event.uid in (None, process.uid) and event.gid in (None, process.gid):
            return None
        self.set_user(process, event.uid, event.gid)
        return process

    def _met(self, event: AncestorAnnounced) -> None:
        """Take in a process that was there already; nothing happened to it now."""
        pid, start_ns = event.key
        process = self.table.locate(pid, start_ns)
        if process is None:
            self.presume_former_exited(pid, start_ns, event.timestamp_ns)
            process = TrackedProcess(
                pid, start_ns, event.comm or "", *event.creator,
                Edge.LEARNT if event.creator.pid else Edge.OBSERVED,
                exited_ns=event.exited_ns,
            )  # fmt: skip
            process.named_in = self.table.era if event.comm is not None else UNCERTAIN
            self.set_user(process, event.uid, event.gid)
            self.add(process)
            return
        # Without a name in it, the one that was known before the source began is still right.
        process.named_in = self.table.era if process.exited_ns is None else NEVER_OVER
        self.table.sharpen(process, start_ns)
        self.learn_creator(process, event.creator)
        if event.comm is not None:
            self.set_name(process, event.comm)
        if event.uid is not None:
            self.set_user(process, event.uid, event.gid)
            process.gid = event.gid
        self.tell(process)

    def _discover(self, event: AnyExec | AnyExit) -> TrackedProcess:
        """Begin to keep a process whose fork was not seen."""
        self.stats.orphans += 1
        pid, start_ns = event.pid, event.start_time_ns
        self.presume_former_exited(pid, start_ns, event.timestamp_ns)
        process = TrackedProcess(pid, start_ns, event.comm or "", *(event.parent or (0, 0)))
        process.uid, process.user = event.uid, self.user_of(event.uid)
        process.named_in = self.table.era if event.comm is not None else UNCERTAIN
        process.fork_missed = pid != _INIT_PID
        self.add(process)
        return process
