"""What can happen to a process. Immutable values, one class per kind of event.

All times are ns on ``CLOCK_BOOTTIME``. Names and paths are ``str`` decoded as
UTF-8 with ``surrogateescape``, so any bytes survive; arguments stay bytes until
somebody asks for them. ``None`` means that the source could not tell.

They are ``msgspec`` structs, which cost a tenth of a frozen dataclass to make: change a copy
with ``msgspec.structs.replace``. They hold no reference that could lead back to them.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import msgspec

from proctree_bpf.core.identity import ProcessKey  # noqa: TC001 - a struct's types can be asked for

_CORE_DUMP_FLAG = 0x80
_SIGNAL_MASK = 0x7F


def split_args(args_raw: bytes | None) -> tuple[str, ...]:
    """Split an argument block, each argument ended by NUL, as the kernel keeps it."""
    if not args_raw:
        return ()
    parts = args_raw.decode("utf-8", "surrogateescape").split("\0")
    if not parts[-1]:
        parts.pop()
    return tuple(parts)


def exit_code_of(status: int | None) -> int | None:
    """Return the code that a process passed to exit, or None if a signal ended it."""
    if status is None or status & _SIGNAL_MASK:
        return None
    return (status >> 8) & 0xFF


def exit_signal_of(status: int | None) -> int | None:
    """Return the number of the signal that ended a process, or None."""
    if status is None:
        return None
    return status & _SIGNAL_MASK or None


def dumped_core(status: int | None) -> bool:
    """Tell whether the kernel wrote a core dump of a process that ended so."""
    return status is not None and bool(status & _CORE_DUMP_FLAG)


class Fork(msgspec.Struct, frozen=True, gc=False):
    """A process was created.

    ``creator`` called fork or clone; ``parent`` is the kernel's parent at birth,
    another process with ``CLONE_PARENT``. ``ns_pid`` is the child's PID inside
    its own PID namespace. ``comm`` is the child's name at birth.

    ``observed`` says that the source did not see the call but found the child later:
    then ``creator`` is the parent it had by then; or that it only saw the parent at birth, and
    another may have called. ``approximate`` says that the child's start time is the time of the
    event, because the real one could not be read. ``name_unsure`` says, where ``comm`` is None,
    that the child may have another name than its creator: that of a thread.
    """

    kind: ClassVar[Literal["fork"]] = "fork"
    timestamp_ns: int
    child: ProcessKey
    creator: ProcessKey
    parent: ProcessKey | None = None
    ns_pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    cgroup_id: int | None = None
    comm: str | None = None
    observed: bool = False
    approximate: bool = False
    name_unsure: bool = False

    @property
    def key(self) -> ProcessKey:
        """The process that this event is about: the child."""
        return self.child

    @property
    def child_pid(self) -> int:
        """The child's PID."""
        return self.child.pid

    @property
    def pid(self) -> int:
        """The child's PID."""
        return self.child.pid

    @property
    def start_time_ns(self) -> int:
        """The child's start time."""
        return self.child.start_time_ns

    @property
    def parent_pid(self) -> int:
        """The creator's PID, as other projects name it; the kernel's parent is ``parent``."""
        return self.creator.pid

    @property
    def creator_pid(self) -> int:
        """The creator's PID."""
        return self.creator.pid

    @property
    def creator_start_ns(self) -> int:
        """The creator's start time."""
        return self.creator.start_time_ns

    @property
    def other_parent(self) -> ProcessKey | None:
        """The kernel's parent, unless that is the creator or not known."""
        return None if self.parent == self.creator else self.parent


class _OfProcess(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to one process, which is named by its identity."""

    timestamp_ns: int
    key: ProcessKey

    @property
    def pid(self) -> int:
        """The PID."""
        return self.key.pid

    @property
    def start_time_ns(self) -> int:
        """Its start time."""
        return self.key.start_time_ns


class _WithParent(_OfProcess, frozen=True, gc=False):
    """The same, with the kernel's parent at that moment."""

    parent: ProcessKey | None = None

    @property
    def parent_pid(self) -> int | None:
        """The PID of the kernel's parent."""
        return None if self.parent is None else self.parent.pid

    @property
    def parent_start_ns(self) -> int | None:
        """The start time of the kernel's parent."""
        return None if self.parent is None else self.parent.start_time_ns


class Exec(_WithParent, frozen=True, gc=False):
    """A process replaced its program.

    ``filename`` is the path as given to execve, ``executable`` the resolved path
    of the file that runs (the interpreter, for a script). ``args_raw`` is the
    argument block, each argument ended by NUL; ``truncated`` says that it was
    longer than the limit. An exec whose ``comm`` and ``args_raw`` are None is known to
    have happened, but not what was run.
    """

    kind: ClassVar[Literal["exec"]] = "exec"
    uid: int | None = None
    gid: int | None = None
    cgroup_id: int | None = None
    comm: str | None = None
    filename: str | None = None
    executable: str | None = None
    args_raw: bytes | None = None
    truncated: bool = False

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments, ``argv[0]`` first."""
        return split_args(self.args_raw)


class Exit(_WithParent, frozen=True, gc=False):
    """A process ended: the last thread of its group is gone.

    ``status`` is a wait(2) status; None if the end was seen but not its reason.
    ``cpu_ns`` is the CPU time that its threads took, in user and in kernel mode. ``reaper``
    adopts its children, if it has any: init, or a subreaper; None if the source does not say.
    """

    kind: ClassVar[Literal["exit"]] = "exit"
    status: int | None = None
    uid: int | None = None
    gid: int | None = None
    comm: str | None = None
    cpu_ns: int | None = None
    cgroup_id: int | None = None
    reaper: ProcessKey | None = None

    @property
    def exit_code(self) -> int | None:
        """The code passed to exit; None if a signal ended the process."""
        return exit_code_of(self.status)

    @property
    def signal(self) -> int | None:
        """The signal that ended the process, or None."""
        return exit_signal_of(self.status)

    @property
    def core_dumped(self) -> bool:
        """Whether the kernel wrote a core dump."""
        return dumped_core(self.status)


class Rename(_OfProcess, frozen=True, gc=False):
    """A process changed its name without exec (``prctl(PR_SET_NAME)``, ``/proc/PID/comm``).

    ``parent`` is the kernel's at that moment, or None if the source does not tell.
    """

    kind: ClassVar[Literal["rename"]] = "rename"
    parent_pid: ClassVar[None] = None
    comm: str
    parent: ProcessKey | None = None


class Setid(_OfProcess, frozen=True, gc=False):
    """A process changed its real user or group id."""

    kind: ClassVar[Literal["setid"]] = "setid"
    parent_pid: ClassVar[None] = None
    uid: int | None = None
    gid: int | None = None


class AncestorAnnounced(_OfProcess, frozen=True, gc=False):
    """A process that has been there for a while: an ancestor of one that is followed.

    A source that leaves out most processes tells so of those whose names are needed.
    ``creator`` has PID 0 if it is not known; ``comm`` and the ids are None if they are as they
    were before the source began.
    """

    kind: ClassVar[Literal["met"]] = "met"
    parent_pid: ClassVar[None] = None
    creator: ProcessKey
    comm: str | None
    uid: int | None = None
    gid: int | None = None
    exited_ns: int | None = None


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Events are known to be lost: how many, of which kind, where and when.

    The lost events happened between ``from_ns`` and ``until_ns``. ``kind`` is
    ``fork``, ``exec``, ``exit`` or ``rename``; ``count`` is None if the source
    knows only that something was lost.
    """

    timestamp_ns: int
    source: str
    count: int | None
    kind: str | None = None
    cpu: int | None = None
    from_ns: int = 0
    until_ns: int = 0


ProcEvent: TypeAlias = Fork | Exec | Exit | Rename | Setid | AncestorAnnounced
EVENT_KINDS: dict[type[ProcEvent], str] = {
    event: event.kind for event in (Fork, Exec, Exit, Rename, Setid, AncestorAnnounced)
}
