"""What a fork does to a table of processes. Pure.

A forked process carries its creator's name and arguments, marked inherited, until its own exec:
a worker that never execs is not nameless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.identity import Sameness, compare, same_start
from proctree_bpf.core.model import Edge
from proctree_bpf.core.process import UNCERTAIN, TrackedProcess, may_have_created
from proctree_bpf.core.writer import TableWriter

if TYPE_CHECKING:
    from proctree_bpf.core.compact import AnyFork
    from proctree_bpf.core.identity import ProcessKey

_CREATED, _OBSERVED = Edge.CREATED, Edge.OBSERVED


class BirthWriter(TableWriter):
    """Writes down who was born."""

    def take_birth(self, event: AnyFork) -> TrackedProcess | None:
        """Apply a fork; return the child, or None if it was known already."""
        table = self.table
        ppid, creator_start_ns = event.creator_pid, event.creator_start_ns
        former = table.current.get(event.pid)
        known = None
        if former is not None:
            known = self._known_of(event)
            if known is not None and self._is_known_birth(event, known):
                return None
        creator = table.current.get(ppid)
        if creator is None or creator.start_time_ns != creator_start_ns:
            creator = table.find(ppid, creator_start_ns)
            if creator is not None:
                table.sharpen(creator, creator_start_ns)
                self.tell(creator)
        process = self._newborn(event, creator)
        if known is not None:
            return self._late_birth(event, known, process, creator)
        if creator is None or not (creator_start_ns or may_have_created(creator, process)):
            process.creator = None
            table.add(process)
        else:
            table.add_born(process, creator)
        if len(table.current) > table.holders.room:
            self.make_room(process)
        return process

    def _known_of(self, event: AnyFork) -> TrackedProcess | None:
        """Return the child if it is known already; else who had its PID before has ended."""
        pid, start_ns = event.pid, event.start_time_ns
        known = self.table.locate(pid, start_ns)
        if known is None:
            self.presume_former_exited(pid, start_ns, event.timestamp_ns)
        elif same_start(known.start_time_ns, start_ns) or self._is_known_birth(event, known):
            return known
        else:  # somebody had this PID, but this one was born just now
            self.presume_former_exited(pid, start_ns, event.timestamp_ns)
        return None

    def _newborn(self, event: AnyFork, creator: TrackedProcess | None) -> TrackedProcess:
        """Make a process of a fork and of what it has from its creator."""
        parent = event.other_parent
        if parent is not None:
            parent = self._other_parent(event, parent, creator)
        pid, uid, edge = event.pid, event.uid, _OBSERVED if event.observed else _CREATED
        if creator is None:
            era = self.table.era if event.comm is not None else UNCERTAIN
            process = TrackedProcess(
                pid, event.start_time_ns, event.comm or "",
                event.creator_pid, event.creator_start_ns, edge,
                uid, event.gid, self.user_of(uid), None, None,
                True, False,  # noqa: FBT003 - inherited, and not truncated
                event.cgroup_id, event.ns_pid, era, self.table.era, None, None, parent,
            )  # fmt: skip
        else:
            comm, era = event.comm, self.table.era
            if comm is None:
                comm = creator.cmd
                era = UNCERTAIN if event.name_unsure else creator.named_in
            if uid is None or uid == creator.uid:
                uid, user = creator.uid, creator.user
            else:
                user = self.user_of(uid)
            # Of equal numbers, the object that is there is kept.
            start_ns, cgroup_id = creator.start_time_ns, creator.cgroup_id
            process = TrackedProcess(
                pid, event.start_time_ns, comm, creator.pid,
                start_ns if start_ns == event.creator_start_ns else event.creator_start_ns, edge,
                uid, event.gid, user, creator.executable, creator.args_raw,
                True, creator.truncated,  # noqa: FBT003 - inherited
                cgroup_id if cgroup_id == event.cgroup_id else event.cgroup_id,
                pid if pid == event.ns_pid else event.ns_pid, era, creator.details_in,
                creator, None, parent,
            )  # fmt: skip
        if event.approximate:
            process.approximate = True
        if event.observed:
            process.fork_missed = True
        return process

    def _other_parent(
        self, event: AnyFork, parent: ProcessKey, creator: TrackedProcess | None
    ) -> ProcessKey | None:
        """Return the kernel's parent, which is the creator's, or None if it is the creator."""
        if compare(parent, event.creator) is Sameness.SAME:
            return None
        if creator is not None and creator.parent is not None and self.has_ended(parent):
            return creator.parent  # to whom both are about to be handed over
        return parent

    def _late_birth(
        self,
        event: AnyFork,
        known: TrackedProcess,
        born: TrackedProcess,
        creator: TrackedProcess | None,
    ) -> TrackedProcess:
        """Take in the birth of a process that is known by later events, or by a snapshot."""
        told_another = _told_another(known, born.cmd)
        self.table.sharpen(known, event.start_time_ns)
        known.edge = Edge.OBSERVED if event.observed else Edge.CREATED
        known.fork_missed, known.approximate = event.observed, born.approximate
        self.table.wards.set_parent(known, born.parent)
        self.table.move(known, event.creator_pid, event.creator_start_ns)
        self.table.touch(known)
        if known.exec_ns is not None:
            return known  # its details are the newer ones
        known.uid, known.gid, known.user = born.uid, born.gid, born.user
        known.cgroup_id, known.ns_pid = born.cgroup_id, born.ns_pid
        if told_another:
            # Its exit was applied first, and told a name that is not the creator's.
            known.executable = known.args_raw = None
            known.inherited = False
            return known
        known.inherited = True
        # The name that a snapshot read is better than one that its creator may have changed.
        if known.named_in.is_over or not born.named_in.is_over:
            known.cmd, known.named_in = born.cmd, born.named_in
        is_known = creator is not None and creator.args_raw is not None
        if is_known and (known.details_in.is_over or not born.details_in.is_over):
            known.executable, known.args_raw = born.executable, born.args_raw
            known.truncated, known.details_in = born.truncated, born.details_in
        return known

    @staticmethod
    def _is_known_birth(event: AnyFork, process: TrackedProcess) -> bool:
        """Tell whether this fork has been applied before."""
        if process.edge is not Edge.CREATED:
            return False
        if same_start(process.start_time_ns, event.start_time_ns):
            return True
        # Without start times: nobody forks a PID that lives, so this is a copy.
        same_creator = process.ppid == event.creator_pid
        return not event.start_time_ns and same_creator and process.exited_ns is None


def _told_another(ended: TrackedProcess, comm: str) -> bool:
    """Tell whether an exit that was applied already had another name than this.

    What was learnt from the kernel's notes is from after events that are still to come.
    """
    return ended.exited_ns is not None and ended.cmd != comm and ended.edge is not Edge.LEARNT
