"""Takes in what a snapshot of ``/proc`` shows. Pure: the entries are handed in.

A snapshot comes late: what it shows of a process may be from after events that are still to
be applied, and of one that has ended it shows nothing. So it fills in what the stream
has not told, and overwrites only what the stream may not have told.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING

from proctree_bpf.core.events import Exec, Exit, ProcEvent, Rename
from proctree_bpf.core.model import Edge, PidNode, ProcInfo
from proctree_bpf.core.process import NEVER_OVER, UNCERTAIN, TrackedProcess, info_of
from proctree_bpf.core.stores import take_details, take_place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.process import Era
    from proctree_bpf.core.writer import TableWriter


class InFlight:
    """Events that a snapshot of ``/proc`` may have come after, and that are still to be applied."""

    def __init__(self, events: Iterable[ProcEvent] = ()) -> None:
        self._events = {
            (type(event), event.key.pid, event.key.ticks)
            for event in events
            if isinstance(event, Exec | Exit | Rename)
        }

    def execs(self, process: TrackedProcess) -> bool:
        """Tell whether an exec of this process is among them."""
        return (Exec, process.pid, process.ticks) in self._events

    def renames(self, process: TrackedProcess) -> bool:
        """Tell whether a new name of this process is among them."""
        return (Rename, process.pid, process.ticks) in self._events

    def exits(self, process: TrackedProcess) -> bool:
        """Tell whether the exit of this process is among them."""
        return (Exit, process.pid, process.ticks) in self._events


NOTHING_IN_FLIGHT = InFlight()


class Unreported(Enum):
    """What a stream that leaves out most events has not told of a process."""

    NAME = auto()
    """Perhaps a new name, but no exec."""
    ANYTHING = auto()
    """Nobody knows: perhaps an exec, and what follows from it."""
    EXEC = auto()
    """An exec, and perhaps what follows from it."""


NOBODY_ENDED: Mapping[ProcessKey, Unreported] = MappingProxyType({})


class SnapshotMerger:
    """Takes the entries of one snapshot of ``/proc`` into a table.

    Of processes for which events are ``in_flight``, it may have read what they changed.
    ``era`` is when the names were learnt that it shows.
    """

    def __init__(self, writer: TableWriter, in_flight: InFlight, era: Era) -> None:
        self._writer = writer
        self._table = writer.table
        self._in_flight = in_flight
        self._era = era

    def merge(
        self, entries: Iterable[tuple[PidNode, ProcInfo]], *, are_missed: bool = False
    ) -> int:
        """Add the processes that are not known; return how many.

        ``are_missed``: their forks should have been told.
        """
        added = 0
        for node, info in entries:
            known = self._table.locate(node.pid, node.start_time_ns)
            if known is not None and known.has_place:
                self._complete(known, node, info)
                continue
            if known is not None:
                self._table.remove(known)  # details alone, which are older
            start_ns = node.start_time_ns
            self._writer.presume_former_exited(node.pid, start_ns, start_ns)
            process = self._before_events_in_flight(node, info)
            process.fork_missed = are_missed and process.edge is Edge.OBSERVED
            self._writer.add(process)
            added += 1
        return added

    def _before_events_in_flight(self, node: PidNode, info: ProcInfo) -> TrackedProcess:
        """Make a process of an entry, less what events in flight have changed of it."""
        process = TrackedProcess(
            node.pid, node.start_time_ns, ppid=node.ppid, creator_start_ns=node.creator_start_ns
        )
        take_place(process, node, self._era)
        take_details(process, info)
        process.details_in = self._era
        process.parent = node.parent
        process.exited_ns = None if self._in_flight.exits(process) else node.exited_ns
        is_renamed = self._in_flight.renames(process)
        if self._in_flight.execs(process):
            process.executable = process.args_raw = None
            is_renamed = True
        if is_renamed:
            process.named_in = UNCERTAIN
            creator = self._table.get(node.creator)
            if node.edge is Edge.LEARNT:
                # It was left out when it was born, most likely with its creator's name.
                process.cmd = creator.cmd if creator is not None else ""
        return process

    def _complete(self, known: TrackedProcess, seen: PidNode, details: ProcInfo) -> None:
        """Add what is not known yet of a known process."""
        if not known.has_details:
            cmd = known.cmd
            take_details(known, details)
            known.cmd = cmd
            self._table.touch(known)
        if seen.edge is Edge.LEARNT:
            self._writer.learn_creator(known, seen.creator)
        elif known.fork_missed and not known.ppid:
            self._table.move(known, seen.ppid, seen.creator_start_ns)

    def mend(
        self,
        entries: Collection[tuple[PidNode, ProcInfo]],
        begun_ns: int,
        now_ns: int,
        unreported: Mapping[ProcessKey, Unreported] | None,
        ends: Mapping[ProcessKey, Unreported],
    ) -> None:
        """Add what is missing, bring up to date what is known, and end who is gone.

        See ``Tracker.reconcile``.
        """
        self.merge(entries, are_missed=True)
        for node, info in entries:
            known = self._table.locate(node.pid, node.start_time_ns)
            if known is None:
                continue
            if node.key in ends:
                if ends[node.key] is Unreported.EXEC:
                    self._forget_program(known)
                if (node.exited_ns or 0) < begun_ns and not self._in_flight.exits(known):
                    self._end(known, node, info)
                continue
            what = Unreported.ANYTHING if unreported is None else unreported.get(node.key)
            if what is not None:
                self._refresh(known, node, info, what)
            elif known.named_in is UNCERTAIN and known.exited_ns is None:
                known.named_in = self._era  # nothing that it did was left out
        seen = {(node.pid, node.key.ticks) for node, _ in entries if node.exited_ns is None}
        for process in list(self._table):
            gone = process.exited_ns is None and (process.pid, process.ticks) not in seen
            if gone and 0 < process.start_time_ns < begun_ns and not self._in_flight.exits(process):
                self._writer.presume_exited(process, now_ns)

    def _forget_program(self, known: TrackedProcess) -> None:
        """Take note that it runs something else, of which nothing was told."""
        known.executable = known.args_raw = None
        known.inherited = known.truncated = False
        self._table.touch(known)

    def _end(self, known: TrackedProcess, seen: PidNode, details: ProcInfo) -> None:
        """Let a process of which no exit was told have ended as the kernel's notes say."""
        if known.status is not None:
            return
        if not seen.name_uncertain:
            self._writer.set_name(known, seen.cmd)
            known.named_in = NEVER_OVER
        if details.uid is not None:
            known.uid, known.gid, known.user = details.uid, details.gid, details.user
            self._table.touch(known)
        self._table.end(known, seen.exited_ns)

    def _refresh(
        self, known: TrackedProcess, seen: PidNode, details: ProcInfo, what: Unreported
    ) -> None:
        """Bring a known process up to date with what ``/proc`` says of it now."""
        is_other = what is Unreported.EXEC
        if is_other:
            self._forget_program(known)
        if self._in_flight.execs(known):
            return
        if known.exited_ns is not None or seen.exited_ns is not None:
            return  # what it ran is no longer told there
        may_have_execed = known.named_in.is_over
        has_ended = not seen.creator_start_ns and seen.ppid  # the parent, and others adopt
        parent = self._table.get(known.kernel_parent)
        will_end = parent is not None and self._in_flight.exits(parent)  # which tells who adopts
        is_told = seen.parent is not None or not (seen.edge is Edge.LEARNT or has_ended)
        if is_told and not will_end:
            self._writer.see_parent(known, seen.kernel_parent)
        if self._in_flight.renames(known):
            details = replace(details, cmd=known.cmd)
        else:
            known.named_in = self._era
        if what is Unreported.NAME:
            details = replace(info_of(known), cmd=details.cmd)
        elif details.args_raw is None and may_have_execed:
            # It is ending, and runs nobody knows what.
            self._forget_program(known)
            is_other = True
        elif details.args_raw is None and known.args_raw is not None:  # nor there: it is ending
            details = replace(
                details,
                executable=known.executable,
                args_raw=known.args_raw,
                truncated=known.truncated,
            )
        else:
            known.details_in = self._era
        same_file = None in (known.executable, details.executable) or (
            known.executable == details.executable
        )
        same_program = known.cmd == details.cmd and same_file and _same_args(known, details)
        if same_program and known.uid == details.uid and not is_other:
            return
        inherited = details.inherited or (known.inherited and same_program)
        details = replace(
            details,
            inherited=inherited,
            cgroup_id=known.cgroup_id,
            ns_pid=known.ns_pid,
            exec_ns=known.exec_ns,
        )
        take_details(known, details)
        self._table.touch(known)


def _same_args(known: TrackedProcess, seen: ProcInfo) -> bool:
    """Compare arguments as far as both were kept."""
    ours, theirs = known.args_raw or b"", seen.args_raw or b""
    if known.truncated or seen.truncated:
        shared = min(len(ours), len(theirs))
        return ours[:shared] == theirs[:shared]
    return ours == theirs
