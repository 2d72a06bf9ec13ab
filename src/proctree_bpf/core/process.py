"""All that is known of one process, in one object. Only ``core`` writes to it.

A process points at the one that created it, so an ancestor stays as long as somebody points
at it, and a chain is a walk along pointers. Readers elsewhere get values that do not change
in the hand: ``PidNode`` and ``ProcInfo``.
"""

from __future__ import annotations

import msgspec

from proctree_bpf.core.events import exit_code_of, exit_signal_of, split_args
from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import UNKNOWN_NAME, Edge, PidNode, ProcInfo


class Era:
    """A time during which no new name was lost; all names learnt in it share it.

    So one write makes all of them uncertain, however many processes there are.
    """

    __slots__ = ("doubted_from_ns", "is_over")

    def __init__(self, *, is_over: bool = False) -> None:
        self.is_over = is_over
        self.doubted_from_ns = 0
        """Whoever had ended by then has its name for certain, though the era is over."""

    def end(self, from_ns: int) -> None:
        """Take note that a new name may have been lost since then; 0: nobody knows since when."""
        self.doubted_from_ns = min(self.doubted_from_ns, from_ns) if self.is_over else from_ns
        self.is_over = True


NEVER_OVER = Era()
UNCERTAIN = Era(is_over=True)


class TrackedProcess(msgspec.Struct, eq=False):
    """A process: its identity, its creator, what it runs, and how it ended.

    Attributes that ``PidNode`` and ``ProcInfo`` have, too, are described there.

    Attributes:
        creator: who called fork, if that one is still remembered.
        children: those that it created, oldest first; None if there are none.
        named_in: when the name was learnt.
        details_in: when what it runs was learnt.
        is_kept: whether a table holds it.
        has_place, has_details: whether a tree, and whether a cache, tells of it.
        link: what a sink keeps of it as an ancestor of others; None after each change.

    """

    pid: int
    start_time_ns: int = 0
    cmd: str = ""
    ppid: int = 0
    creator_start_ns: int = 0
    edge: Edge = Edge.OBSERVED
    uid: int | None = None
    gid: int | None = None
    user: str = UNKNOWN_NAME
    executable: str | None = None
    args_raw: bytes | None = None
    inherited: bool = False
    truncated: bool = False
    cgroup_id: int | None = None
    ns_pid: int | None = None
    named_in: Era = NEVER_OVER
    details_in: Era = NEVER_OVER
    creator: TrackedProcess | None = None
    children: dict[TrackedProcess, None] | None = None
    parent: ProcessKey | None = None
    exec_ns: int | None = None
    exited_ns: int | None = None
    status: int | None = None
    cpu_ns: int | None = None
    held_until_ns: int = 0
    approximate: bool = False
    fork_missed: bool = False
    is_kept: bool = False
    has_place: bool = True
    has_details: bool = True
    link: object = None

    def __repr__(self) -> str:
        return f"TrackedProcess(pid={self.pid}, start_time_ns={self.start_time_ns}, {self.cmd!r})"

    @property
    def key(self) -> ProcessKey:
        """Its identity."""
        return ProcessKey(self.pid, self.start_time_ns)

    @property
    def creator_key(self) -> ProcessKey:
        """The creator's identity, as it was known at the birth; PID 0 if there is none."""
        return ProcessKey(self.ppid, self.creator_start_ns)

    @property
    def kernel_parent(self) -> ProcessKey:
        """The kernel's parent, as last seen."""
        return self.parent or ProcessKey(self.ppid, self.creator_start_ns)

    @property
    def ticks(self) -> int:
        """The start time in USER_HZ ticks."""
        return self.start_time_ns // TICK_NS

    @property
    def began_ns(self) -> int:
        """When it began to run (``CLOCK_BOOTTIME``); 0 if unknown."""
        return max(self.start_time_ns, self.held_until_ns) if self.start_time_ns else 0

    @property
    def name_uncertain(self) -> bool:
        """Whether an exec may have been lost since the name was learnt."""
        return self.named_in.is_over

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments, ``argv[0]`` first."""
        return split_args(self.args_raw)

    @property
    def exit_code(self) -> int | None:
        """The code passed to exit; None while it lives, or if a signal ended it."""
        return exit_code_of(self.status)

    @property
    def exit_signal(self) -> int | None:
        """The signal that ended it, or None."""
        return exit_signal_of(self.status)


def node_of(process: TrackedProcess) -> PidNode:
    """Return a process's place in the tree, as it is now."""
    return PidNode(
        ppid=process.ppid,
        cmd=process.cmd,
        start_time_ns=process.start_time_ns,
        pid=process.pid,
        creator_start_ns=process.creator_start_ns,
        edge=process.edge,
        parent=process.parent,
        exited_ns=process.exited_ns,
        approximate=process.approximate,
        name_uncertain=process.named_in.is_over,
        held_until_ns=process.held_until_ns,
        user=process.user,
        fork_missed=process.fork_missed,
    )


def info_of(process: TrackedProcess) -> ProcInfo:
    """Return a process's details, as they are now."""
    return ProcInfo(
        cmd=process.cmd,
        user=process.user,
        ppid=process.ppid,
        tgid=process.pid,
        start_time_ns=process.start_time_ns,
        uid=process.uid,
        gid=process.gid,
        executable=process.executable,
        args_raw=process.args_raw,
        inherited=process.inherited,
        truncated=process.truncated,
        cgroup_id=process.cgroup_id,
        ns_pid=process.ns_pid,
        exec_ns=process.exec_ns,
        status=process.status,
        exited_ns=process.exited_ns,
        cpu_ns=process.cpu_ns,
    )


def may_have_created(creator: TrackedProcess | PidNode, process: TrackedProcess | PidNode) -> bool:
    """Tell whether a process that has the right PID lived when another one was born.

    It keeps a reused PID from posing as the creator where start times are not known. After a
    loss, who seems to live may have ended, and another may have had its PID since.
    """
    start_ns = process.start_time_ns
    if process.creator_start_ns or not start_ns or not creator.start_time_ns:
        return True
    if creator.start_time_ns // TICK_NS > start_ns // TICK_NS:
        return False
    if creator.exited_ns is None:
        return not process.fork_missed
    if process.fork_missed and isinstance(creator, TrackedProcess) and creator.status is None:
        return False  # when it ended is not known
    return creator.exited_ns >= start_ns
