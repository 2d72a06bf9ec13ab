"""Takes in what a look at ``/proc`` shows. Pure: the entries are handed in.

A look comes late: what it shows of a process may be from after events that are still to
be applied, and of one that has ended it shows nothing. So it fills in what the stream
has not told, and overwrites only what the stream may not have told.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from proctree_bpf.core.events import Exec, Exit, ProcEvent, Rename
from proctree_bpf.core.model import Edge, PidNode, ProcInfo
from proctree_bpf.core.records import parent_after, with_creator

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.records import Records


class Pending:
    """Events that a look at ``/proc`` may have come after, and that are still to be applied."""

    def __init__(self, events: Iterable[ProcEvent] = ()) -> None:
        self._events = {
            (type(event), event.key.pid, event.key.ticks)
            for event in events
            if isinstance(event, Exec | Exit | Rename)
        }

    def execs(self, node: PidNode) -> bool:
        """Tell whether an exec of this process is among them."""
        return (Exec, node.pid, node.key.ticks) in self._events

    def renames(self, node: PidNode) -> bool:
        """Tell whether a new name of this process is among them."""
        return (Rename, node.pid, node.key.ticks) in self._events

    def exits(self, node: PidNode) -> bool:
        """Tell whether the exit of this process is among them."""
        return (Exit, node.pid, node.key.ticks) in self._events


NOTHING_PENDING = Pending()


class Untold(Enum):
    """What a stream that leaves out most events has not told of a process."""

    NAME = auto()
    """Perhaps a new name, but no exec."""
    ALL = auto()
    """Perhaps an exec, and what follows from it."""


class Look:
    """Takes the entries of one look at ``/proc`` into the records.

    Of processes for which events are ``pending``, it may have read what they changed.
    """

    def __init__(self, records: Records, pending: Pending) -> None:
        self._records = records
        self._pending = pending

    def merge(self, entries: Iterable[tuple[PidNode, ProcInfo]]) -> int:
        """Add the processes that are not known; return how many."""
        added = 0
        for node, info in entries:
            known = self._records.known(node.key)
            if known is not None:
                self._complete(known[0], node, info)
                continue
            self._records.presume_former_exited(node.key, node.start_time_ns)
            self._records.store(*self._before_pending(node, info))
            added += 1
        return added

    def _before_pending(self, node: PidNode, info: ProcInfo) -> tuple[PidNode, ProcInfo]:
        """Take back what pending events have changed of a process that was not known."""
        is_renamed = self._pending.renames(node)
        if self._pending.execs(node):
            info = replace(info, executable=None, args_raw=None)
            is_renamed = True
        creator = self._records.tree.get_node(node.creator)
        if is_renamed and node.edge is Edge.LEARNT and creator is not None:
            # It was left out when it was born, most likely with its creator's name.
            node = replace(node, cmd=creator.cmd, name_uncertain=True)
            info = replace(info, cmd=creator.cmd)
        return node, info

    def _complete(self, known: PidNode, seen: PidNode, details: ProcInfo) -> None:
        """Add what is not known yet of a known process."""
        info = self._records.cache.get_info(known.key)
        if info is None:
            self._records.cache.insert_info(known.pid, replace(details, exited_ns=known.exited_ns))
        if seen.edge is not Edge.LEARNT:
            return
        node = with_creator(known, seen.creator)
        if node is not known:
            self._records.store(node, replace(info or details, ppid=node.ppid))

    def mend(
        self,
        entries: Collection[tuple[PidNode, ProcInfo]],
        begun_ns: int,
        now_ns: int,
        untold: Mapping[ProcessKey, Untold] | None,
        ends: Container[ProcessKey],
    ) -> None:
        """Add what is missing, bring up to date what is known, and end who is gone.

        See ``Tracker.reconcile``.
        """
        self.merge(entries)
        for node, info in entries:
            if node.key in ends:
                if (node.exited_ns or 0) < begun_ns and not self._pending.exits(node):
                    self._end(node, info)
                continue
            what = Untold.ALL if untold is None else untold.get(node.key)
            if what is not None and not self._pending.execs(node):
                self._refresh(node, info, what, keep_name=self._pending.renames(node))
        seen = {(node.pid, node.key.ticks) for node, _ in entries if node.exited_ns is None}
        for node in self._records.tree.all_nodes():
            gone = node.exited_ns is None and (node.pid, node.key.ticks) not in seen
            if gone and 0 < node.start_time_ns < begun_ns:
                self._records.presume_exited(node, now_ns)

    def _end(self, seen: PidNode, details: ProcInfo) -> None:
        """Let a process of which no exit was told have ended as the kernel's notes say."""
        known = self._records.known(seen.key)
        if known is None or known[1].status is not None:
            return
        node, info = known
        name = node.cmd if seen.name_uncertain else seen.cmd
        if details.uid is not None:
            info = replace(info, uid=details.uid, gid=details.gid, user=details.user)
        self._records.store(
            replace(node, cmd=name, exited_ns=seen.exited_ns),
            replace(info, cmd=name, exited_ns=seen.exited_ns),
        )

    def _refresh(self, seen: PidNode, details: ProcInfo, what: Untold, *, keep_name: bool) -> None:
        """Bring a known process up to date with what ``/proc`` says of it now."""
        known = self._records.known(seen.key)
        if known is None or known[0].exited_ns is not None:
            return
        if seen.exited_ns is not None:
            return  # what it ran is no longer told there
        node, info = known
        if keep_name:
            details = replace(details, cmd=info.cmd)
        if what is Untold.NAME:
            details = replace(info, cmd=details.cmd)
        elif details.args_raw is None and info.args_raw is not None:  # nor there: it is ending
            details = replace(
                details,
                executable=info.executable,
                args_raw=info.args_raw,
                truncated=info.truncated,
            )
        if node.name_uncertain and not keep_name:
            node = replace(node, name_uncertain=False)
            self._records.tree.insert_node(node.pid, node)
        same_file = None in (info.executable, details.executable) or (
            info.executable == details.executable
        )
        same_program = info.cmd == details.cmd and same_file and _same_args(info, details)
        if same_program and info.uid == details.uid:
            return
        node = replace(node, cmd=details.cmd, parent=parent_after(node, seen.creator))
        info = replace(
            details,
            ppid=node.ppid,
            start_time_ns=node.start_time_ns,
            inherited=details.inherited or (info.inherited and same_program),
            cgroup_id=info.cgroup_id,
            ns_pid=info.ns_pid,
            exec_ns=info.exec_ns,
        )
        self._records.store(node, info)


def _same_args(known: ProcInfo, seen: ProcInfo) -> bool:
    """Compare arguments as far as both were kept."""
    ours, theirs = known.args_raw or b"", seen.args_raw or b""
    if known.truncated or seen.truncated:
        shared = min(len(ours), len(theirs))
        return ours[:shared] == theirs[:shared]
    return ours == theirs
