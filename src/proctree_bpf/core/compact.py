"""Forks, execs and exits as most of them come: numbers side by side. Immutable values.

A ``Fork`` names up to three processes by a ``ProcessKey`` each, and making those was a third of
what decoding cost. These have the numbers, and the same names for all that the way of an event
asks for; ``value_of`` makes the event that they stand for, for whoever wants to have one.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import msgspec

from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent
from proctree_bpf.core.identity import ProcessKey


class CompactFork(msgspec.Struct, frozen=True, gc=False):
    """A ``Fork``; ``other_parent`` is the kernel's parent if that is not the creator."""

    kind: ClassVar[Literal["fork"]] = "fork"
    observed: ClassVar[bool] = False
    approximate: ClassVar[bool] = False
    name_unsure: ClassVar[bool] = False

    timestamp_ns: int
    pid: int
    start_time_ns: int
    creator_pid: int
    creator_start_ns: int
    other_parent: ProcessKey | None
    ns_pid: int
    uid: int
    gid: int
    cgroup_id: int
    comm: str

    @property
    def child(self) -> ProcessKey:
        """Who was created."""
        return ProcessKey(self.pid, self.start_time_ns)

    @property
    def key(self) -> ProcessKey:
        """The process that this is about: the child."""
        return self.child

    @property
    def creator(self) -> ProcessKey:
        """Who created it."""
        return ProcessKey(self.creator_pid, self.creator_start_ns)

    def value(self) -> Fork:
        """Return the event."""
        creator = self.creator
        return Fork(
            self.timestamp_ns, self.child, creator, self.other_parent or creator,
            self.ns_pid, self.uid, self.gid, self.cgroup_id, self.comm,
        )  # fmt: skip


class _CompactWithParent(msgspec.Struct, frozen=True, gc=False):
    """Whom it happened to, and the kernel's parent at that moment."""

    timestamp_ns: int
    pid: int
    start_time_ns: int
    parent_pid: int
    parent_start_ns: int

    @property
    def key(self) -> ProcessKey:
        """Whom it happened to."""
        return ProcessKey(self.pid, self.start_time_ns)

    @property
    def parent(self) -> ProcessKey:
        """The kernel's parent."""
        return ProcessKey(self.parent_pid, self.parent_start_ns)


class CompactExec(_CompactWithParent, frozen=True, gc=False):
    """An ``Exec``; ``filename_raw`` is its file name, ended by NUL, or empty."""

    kind: ClassVar[Literal["exec"]] = "exec"

    uid: int
    gid: int
    cgroup_id: int
    comm: str
    filename_raw: bytes
    executable: str | None
    args_raw: bytes | None
    truncated: bool

    def value(self) -> Exec:
        """Return the event."""
        filename = self.filename_raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return Exec(
            self.timestamp_ns, self.key, self.parent, self.uid, self.gid, self.cgroup_id,
            self.comm, filename or None, self.executable, self.args_raw, self.truncated,
        )  # fmt: skip


class CompactExit(_CompactWithParent, frozen=True, gc=False):
    """An ``Exit``."""

    kind: ClassVar[Literal["exit"]] = "exit"

    status: int
    uid: int
    gid: int
    comm: str
    cpu_ns: int
    cgroup_id: int
    reaper: ProcessKey | None = None

    def value(self) -> Exit:
        """Return the event."""
        return Exit(
            self.timestamp_ns, self.key, self.parent, self.status, self.uid, self.gid,
            self.comm, self.cpu_ns, self.cgroup_id, self.reaper,
        )  # fmt: skip


AnyFork: TypeAlias = Fork | CompactFork
AnyExec: TypeAlias = Exec | CompactExec
AnyExit: TypeAlias = Exit | CompactExit
AnyEvent: TypeAlias = ProcEvent | CompactFork | CompactExec | CompactExit


def value_of(event: AnyEvent) -> ProcEvent:
    """Return an event as one of those of ``core.events``."""
    if isinstance(event, CompactFork | CompactExec | CompactExit):
        return event.value()
    return event
