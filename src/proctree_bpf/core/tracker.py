"""Applies events to a tree and a cache. Pure: no clock, no /proc, no user database.

The rules, each with its reason:

- Events may come twice, or late, or without those before them; applying is
  idempotent, and a known fact is never overwritten by an unknown one.
- A forked process carries its creator's name and arguments, marked inherited,
  until its own exec: a worker that never execs is not nameless.
- A PID that comes back with a later start time proves that its former holder has
  ended, even if that exit was lost.
- A snapshot fills in what the stream has not told; it never overwrites it (``core.look``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from proctree_bpf.core.events import EVENT_KINDS, Exec, Exit, Fork, Met, ProcEvent, Rename, Setid
from proctree_bpf.core.identity import ProcessKey, Sameness, compare, more_exact
from proctree_bpf.core.look import NOTHING_PENDING, Look, Pending
from proctree_bpf.core.model import Edge, PidNode, ProcInfo
from proctree_bpf.core.records import Records, info_of, parent_after, with_creator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.look import Untold

_EXPIRE_EVERY_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Applied:
    """An event, and what is known of its process once it has been applied."""

    event: ProcEvent
    node: PidNode
    info: ProcInfo
    uncertain: bool = False
    """Events are known to be lost and the tree is not repaired yet: names and ancestors
    may be out of date."""

    @property
    def age_ns(self) -> int | None:
        """How long a process that has just ended ran; None for other events, or if unknown."""
        if not isinstance(self.event, Exit) or not self.node.began_ns:
            return None
        return self.event.timestamp_ns - self.node.began_ns


class Tracker(Records):
    """Keeps a tree and a cache in step with a stream of events.

    It takes what ``Records`` takes: a tree, a cache, and what names a user.
    """

    uncertain = False
    """Events are known to be lost, and ``reconcile`` was not called since."""
    _next_expiry_ns = 0

    def apply(self, event: ProcEvent) -> Applied | None:
        """Apply one event; return what came of it, or None if it was known already."""
        if event.timestamp_ns >= self._next_expiry_ns:
            # Before it is applied, and not for its own moment: whoever writes it must find
            # the process and those above it as they are now, whatever the TTL.
            self._next_expiry_ns = event.timestamp_ns + _EXPIRE_EVERY_NS
            self.expire(event.timestamp_ns - 1)
        applied = self._HANDLERS[type(event)](self, event)
        if applied is not None:
            self.stats.applied += 1
        elif isinstance(event, Fork | Exec | Exit):
            self.stats.duplicates += 1
        else:
            self.stats.unchanged += 1
        return applied

    def note_gap(self, gap: Gap) -> None:
        """Take note that events were lost: until ``reconcile``, less is certain.

        A lost exec leaves the name of a living process out of date, so from now on
        nobody can say that it is not the name that is asked for.
        """
        self.uncertain = True
        if gap.kind not in (None, "exec", "rename"):
            return
        for node in self.tree.all_nodes():
            if node.exited_ns is None and not node.name_uncertain:
                self.tree.insert_node(node.pid, replace(node, name_uncertain=True))

    def note_release(self, key: ProcessKey, now_ns: int) -> None:
        """Take note that a command of ours, held since its start, runs from now on."""
        node = self.tree.get_node(key)
        if node is not None:
            self.tree.insert_node(node.pid, replace(node, held_until_ns=now_ns))

    def expire(self, now_ns: int) -> None:
        """Let the stores forget what ended longer than their TTL before ``now_ns``."""
        self.stats.expired += len(self.tree.expire(now_ns))
        self.cache.expire(now_ns)

    def merge_snapshot(
        self,
        entries: Iterable[tuple[PidNode, ProcInfo]],
        pending: Pending = NOTHING_PENDING,
    ) -> int:
        """Add the processes of a ``/proc`` snapshot that the stream has not told of.

        Of processes for which an exec is pending, the snapshot may have read what they run
        after it, so that is left out rather than given to children forked before it.
        Returns the number of entries added.
        """
        return Look(self, pending).merge(entries)

    def reconcile(
        self,
        entries: Collection[tuple[PidNode, ProcInfo]],
        begun_ns: int,
        now_ns: int,
        pending: Pending = NOTHING_PENDING,
        *,
        untold: Mapping[ProcessKey, Untold] | None = None,
        ends: Container[ProcessKey] = (),
    ) -> None:
        """Mend the tree after a gap with a later look at ``/proc``.

        Every event from before the look began, at ``begun_ns``, must have been applied,
        or else be ``pending``: what it changed is not taken from the look. Processes
        that are missing are added, those that are known are brought up to date, and those
        that should have been there have ended. Both times are CLOCK_BOOTTIME.

        ``untold`` says what the stream may not have told of those that are known; None: anything.
        ``ends``: of which the entries are what was noted when they ended.
        """
        Look(self, pending).mend(entries, begun_ns, now_ns, untold, ends)
        self.uncertain = False

    # Handlers, one per kind of event.

    def _fork(self, event: Fork) -> Applied | None:
        known = self.known(event.child)
        if known is not None and self._is_known_birth(event, known[0]):
            return None
        if known is not None and compare(known[0].key, event.child) is not Sameness.SAME:
            known = None  # somebody had this PID, but this one was born just now
        if known is None:
            self.presume_former_exited(event.child, event.timestamp_ns)
        self.sharpen(event.creator)
        creator_info = self.cache.get_info(event.creator)
        parent = event.parent
        if parent is not None and compare(parent, event.creator) is Sameness.SAME:
            parent = None
        uid = event.uid
        if uid is None and creator_info is not None:
            uid = creator_info.uid
        user = creator_info.user if creator_info and uid is None else self.user_of(uid)
        comm = event.comm
        if comm is None:
            comm = creator_info.cmd if creator_info else ""
        program = creator_info
        if known is not None and (program is None or program.args_raw is None):
            program = known[1]  # as a snapshot read it: better than nothing
        exited_ns = known[0].exited_ns if known is not None else None
        node = PidNode(
            ppid=event.creator.pid,
            cmd=comm,
            start_time_ns=event.child.start_time_ns,
            pid=event.child.pid,
            creator_start_ns=event.creator.start_time_ns,
            edge=Edge.OBSERVED if event.observed else Edge.CREATED,
            parent=parent,
            exited_ns=exited_ns,
            approximate=event.approximate,
        )
        info = ProcInfo(
            cmd=comm,
            user=user,
            ppid=event.creator.pid,
            tgid=event.child.pid,
            start_time_ns=event.child.start_time_ns,
            uid=uid,
            gid=event.gid,
            executable=program.executable if program else None,
            args_raw=program.args_raw if program else None,
            inherited=True,
            truncated=program.truncated if program else False,
            cgroup_id=event.cgroup_id,
            ns_pid=event.ns_pid,
            status=known[1].status if known is not None else None,
            exited_ns=exited_ns,
        )
        if known is not None and known[1].exec_ns is not None:
            # The exec was applied first, so its details are the newer ones.
            node = replace(node, cmd=known[0].cmd)
            info = replace(known[1], ppid=info.ppid, start_time_ns=info.start_time_ns)
        elif exited_ns is not None and known is not None and _told_another(known[0], comm):
            # So was the exit, and it told a name that is not the creator's.
            node = replace(node, cmd=known[1].cmd)
            info = replace(info, cmd=known[1].cmd, executable=None, args_raw=None, inherited=False)
        self.store(node, info)
        return Applied(event, node, info, self.uncertain)

    @staticmethod
    def _is_known_birth(event: Fork, node: PidNode) -> bool:
        """Tell whether this fork has been applied before."""
        if node.edge is not Edge.CREATED:
            return False
        if compare(node.key, event.child) is Sameness.SAME:
            return True
        # Without start times: nobody forks a PID that lives, so this is a copy.
        same_creator = node.ppid == event.creator.pid
        return not event.child.start_time_ns and same_creator and node.exited_ns is None

    def _exec(self, event: Exec) -> Applied | None:
        known = self.known(event.key)
        if known is not None and known[1].exec_ns is not None:
            if event.timestamp_ns <= known[1].exec_ns:
                return None
            if known[0].exited_ns is not None and not event.key.start_time_ns:
                known = None  # the dead do not exec: this is the next to have the PID
        node, info = known or self._discover(event)
        uid = event.uid if event.uid is not None else info.uid
        comm = event.comm if event.comm is not None else info.cmd
        start_ns = more_exact(node.key, event.key).start_time_ns
        node = replace(
            node,
            cmd=comm,
            start_time_ns=start_ns,
            parent=parent_after(node, event.parent),
            name_uncertain=event.comm is None,
        )
        info = ProcInfo(
            cmd=comm,
            user=info.user if uid == info.uid else self.user_of(uid),
            ppid=node.ppid,
            tgid=node.pid,
            start_time_ns=start_ns,
            uid=uid,
            gid=event.gid if event.gid is not None else info.gid,
            executable=event.executable,
            args_raw=event.args_raw,
            # After an exec that nobody could look at, the name is from before it.
            inherited=event.comm is None and event.args_raw is None,
            truncated=event.truncated,
            cgroup_id=event.cgroup_id if event.cgroup_id is not None else info.cgroup_id,
            ns_pid=info.ns_pid,
            exec_ns=event.timestamp_ns,
            status=info.status,
            exited_ns=node.exited_ns,
        )
        self.store(node, info)
        return Applied(event, node, info, self.uncertain)

    def _exit(self, event: Exit) -> Applied | None:
        known = self.known(event.key)
        node, info = known or self._discover(event)
        if node.exited_ns is not None and (info.status is not None or event.status is None):
            return None
        uid = event.uid if event.uid is not None else info.uid
        comm = event.comm if event.comm is not None else info.cmd
        start_ns = more_exact(node.key, event.key).start_time_ns
        node = replace(
            node,
            cmd=comm,
            start_time_ns=start_ns,
            exited_ns=event.timestamp_ns,
            parent=parent_after(node, event.parent),
        )
        info = replace(
            info,
            cmd=comm,
            user=info.user if uid == info.uid else self.user_of(uid),
            uid=uid,
            start_time_ns=start_ns,
            status=event.status,
            exited_ns=event.timestamp_ns,
            cgroup_id=event.cgroup_id if event.cgroup_id is not None else info.cgroup_id,
            cpu_ns=event.cpu_ns if event.cpu_ns is not None else info.cpu_ns,
        )
        self.store(node, info)
        return Applied(event, node, info, self.uncertain)

    def _rename(self, event: Rename) -> Applied | None:
        known = self.known(event.key)
        if known is None or known[0].cmd == event.comm:
            return None
        node = replace(known[0], cmd=event.comm, name_uncertain=False)
        info = replace(known[1], cmd=event.comm)
        self.store(node, info)
        return Applied(event, node, info, self.uncertain)

    def _setid(self, event: Setid) -> Applied | None:
        known = self.known(event.key)
        if known is None:
            return None
        node, info = known
        uid = event.uid if event.uid is not None else info.uid
        gid = event.gid if event.gid is not None else info.gid
        if (uid, gid) == (info.uid, info.gid):
            return None
        info = replace(info, uid=uid, gid=gid, user=self.user_of(uid))
        self.store(node, info)
        return Applied(event, node, info, self.uncertain)

    def _met(self, event: Met) -> None:
        """Take in a process that was there already; nothing happened to it now."""
        known = self.known(event.key)
        if known is None:
            self.presume_former_exited(event.key, event.timestamp_ns)
            node = PidNode(
                ppid=event.creator.pid,
                cmd=event.comm or "",
                start_time_ns=event.key.start_time_ns,
                pid=event.key.pid,
                creator_start_ns=event.creator.start_time_ns,
                edge=Edge.LEARNT if event.creator.pid else Edge.OBSERVED,
                exited_ns=event.exited_ns,
            )
            info = info_of(node)
        else:
            start_ns = more_exact(known[0].key, event.key).start_time_ns
            node = with_creator(known[0], event.creator)
            name = node.cmd if event.comm is None else event.comm
            node = replace(node, cmd=name, start_time_ns=start_ns)
            info = replace(known[1], cmd=name, ppid=node.ppid, start_time_ns=start_ns)
        if event.uid is not None:
            info = replace(info, uid=event.uid, gid=event.gid, user=self.user_of(event.uid))
        self.store(node, info)

    def _discover(self, event: Exec | Exit) -> tuple[PidNode, ProcInfo]:
        """Begin the record of a process whose fork was not seen."""
        self.stats.orphans += 1
        self.presume_former_exited(event.key, event.timestamp_ns)
        parent = event.parent or ProcessKey(0)
        node = PidNode(
            ppid=parent.pid,
            cmd=event.comm or "",
            start_time_ns=event.key.start_time_ns,
            pid=event.key.pid,
            creator_start_ns=parent.start_time_ns,
        )
        return node, replace(info_of(node), user=self.user_of(event.uid), uid=event.uid)

    _HANDLERS: ClassVar[Mapping[type, Callable[..., Applied | None]]] = {
        Fork: _fork,
        Exec: _exec,
        Exit: _exit,
        Rename: _rename,
        Setid: _setid,
        Met: _met,
    }


def _told_another(ended: PidNode, comm: str) -> bool:
    """Tell whether an exit that was applied already had another name than this.

    What was learnt from the kernel's notes is from after events that are still to come.
    """
    return ended.cmd != comm and ended.edge is not Edge.LEARNT


def kind_of(event: ProcEvent) -> str:
    """Return ``fork``, ``exec``, ``exit`` or ``rename``."""
    return EVENT_KINDS[type(event)]
