"""What is known of one process: its place in the tree, and its details. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TypeAlias

import msgspec

from proctree_bpf.core.events import Exec, exit_code_of, exit_signal_of, split_args
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.text import escape

# Default bounds: the usual pid_max of 32768, doubled, for the living and the recently
# dead; ten minutes is longer than most investigations look back for.
PROC_CACHE_CAP = 65_536
PROC_CACHE_TTL_SECS = 600
PID_TREE_CAP = 65_536
PID_TREE_TTL_SECS = 600

UNKNOWN_NAME = "unknown"
CHAIN_SEPARATORS = "|;"
OMISSION = "…"
"""What stands in a chain for the ancestors beyond those that were asked for."""
OBSERVED = "~"
"""What stands before an ancestor that was only seen as a parent: see ``PidNode.fork_missed``."""
MAX_TTL_SECS = 1_000_000_000
"""Thirty years: as good as for ever, and in ns still far within what times are kept in."""


@dataclass(frozen=True, slots=True)
class CacheParams:
    """Bounds of a store: entries, and seconds that an exited process is kept."""

    capacity: int = PROC_CACHE_CAP
    ttl_secs: float = PROC_CACHE_TTL_SECS

    def __post_init__(self) -> None:
        if not self.capacity >= 1:  # not "<": NaN must not pass
            raise ValueError(f"capacity must be at least 1, not {self.capacity}")
        if not 0 <= self.ttl_secs <= MAX_TTL_SECS:
            raise ValueError(f"ttl_secs must be from 0 to {MAX_TTL_SECS}, not {self.ttl_secs}")


class Edge(Enum):
    """How a node's creator was learnt."""

    CREATED = "created"
    """From the fork event itself: certain, and fixed for life."""
    LEARNT = "learnt"
    """From what the kernel's side had noted: as certain, but the fork event, if it is still
    to come, has not been applied."""
    OBSERVED = "observed"
    """It was the kernel's parent when looked at, or when the proc connector told the fork: an
    ancestor, though perhaps only the one that adopted an orphan, or the creator's parent."""


@dataclass(frozen=True, slots=True)
class PidNode:
    """A process's place in the tree.

    Attributes:
        ppid: PID of the creator; 0 for a root.
        cmd: name (comm).
        start_time_ns: start on ``CLOCK_BOOTTIME`` in ns; 0 if unknown.
        pid: PID; stores fill it in.
        creator_start_ns: the creator's start time; with ``ppid`` its identity.
        edge: how the creator was learnt.
        parent: the kernel's parent as last seen, if it is not the creator.
        exited_ns: when it ended (``CLOCK_BOOTTIME``), or None while it lives.
        approximate: ``start_time_ns`` is when the fork was reported, a little later than
            the real start, which was not to be had.
        name_uncertain: an exec may have been lost since the name was learnt.
        held_until_ns: when a command that we had started was let run; 0 for all others.
        user: the user's name, once it has ended: the details may be forgotten first.
        fork_missed: it was born while events were told, but who called fork was not: ``creator``
            is the parent that it had when it was found, or (proc connector) at its fork.
        key: the identity, from ``pid`` and ``start_time_ns``.
        creator: the creator's identity, from ``ppid`` and ``creator_start_ns``.

    """

    ppid: int
    cmd: str
    start_time_ns: int = 0
    pid: int = 0
    creator_start_ns: int = 0
    edge: Edge = Edge.OBSERVED
    parent: ProcessKey | None = None
    exited_ns: int | None = None
    approximate: bool = False
    name_uncertain: bool = False
    held_until_ns: int = 0
    user: str = field(default=UNKNOWN_NAME, compare=False)
    fork_missed: bool = False
    key: ProcessKey = field(init=False, repr=False, compare=False)
    creator: ProcessKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", ProcessKey(self.pid, self.start_time_ns))
        object.__setattr__(self, "creator", ProcessKey(self.ppid, self.creator_start_ns))

    @property
    def creator_key(self) -> ProcessKey:
        """The creator's identity: the same as ``creator``."""
        return self.creator

    @property
    def ticks(self) -> int:
        """The start time in USER_HZ ticks."""
        return self.key.ticks

    @property
    def began_ns(self) -> int:
        """When it began to run (``CLOCK_BOOTTIME``); 0 if unknown."""
        return max(self.start_time_ns, self.held_until_ns) if self.start_time_ns else 0

    @property
    def kernel_parent(self) -> ProcessKey:
        """The kernel's parent, as last seen."""
        return self.parent or self.creator


@dataclass(frozen=True, slots=True)
class ProcInfo:
    """The details of a process, as last known.

    Attributes:
        cmd: name (comm).
        user: user name of ``uid``.
        ppid: PID of the creator.
        tgid: PID.
        start_time_ns: start on ``CLOCK_BOOTTIME`` in ns; 0 if unknown.
        uid, gid: real ids, as the initial user namespace has them.
        executable: path of the file that runs.
        args_raw: argument block, each argument ended by NUL.
        inherited: the name is from before: the creator's, as long as there was no exec
            since the fork, or that of an earlier program, if an exec could not be looked
            at. Of the creator's, executable and arguments are inherited as well.
        truncated: ``args_raw`` is cut short.
        cgroup_id: id of its cgroup v2.
        ns_pid: its PID inside its own PID namespace.
        exec_ns: when it last replaced its program (``CLOCK_BOOTTIME``), if that was seen.
        status: wait(2) status once it has ended, if known.
        exited_ns: when it ended (``CLOCK_BOOTTIME``), or None while it lives.
        cpu_ns: the CPU time that it took, once it has ended, if known.

    """

    cmd: str
    user: str
    ppid: int
    tgid: int
    start_time_ns: int = 0
    uid: int | None = None
    gid: int | None = None
    executable: str | None = None
    args_raw: bytes | None = None
    inherited: bool = False
    truncated: bool = False
    cgroup_id: int | None = None
    ns_pid: int | None = None
    exec_ns: int | None = None
    status: int | None = None
    exited_ns: int | None = None
    cpu_ns: int | None = None
    key: ProcessKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", ProcessKey(self.tgid, self.start_time_ns))

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments, ``argv[0]`` first."""
        return split_args(self.args_raw)

    def as_exec(self, timestamp_ns: int, key: ProcessKey, parent: ProcessKey | None = None) -> Exec:
        """Return the exec that made a process what this says: for sources that look."""
        return Exec(
            timestamp_ns=timestamp_ns,
            key=key,
            parent=parent,
            uid=self.uid,
            gid=self.gid,
            comm=self.cmd,
            executable=self.executable,
            args_raw=self.args_raw,
            truncated=self.truncated,
        )

    @property
    def exit_code(self) -> int | None:
        """The code passed to exit; None while it lives, or if a signal ended it."""
        return exit_code_of(self.status)

    @property
    def exit_signal(self) -> int | None:
        """The signal that ended it, or None."""
        return exit_signal_of(self.status)


Entry: TypeAlias = tuple[PidNode, ProcInfo]
"""All that is known of one process at one moment."""


@lru_cache(maxsize=4096)
def _escaped(name: str) -> str:
    return escape(name, CHAIN_SEPARATORS)


class ProcessLink(msgspec.Struct, frozen=True, gc=False):
    """One link of an ancestry chain; ``str(link)`` is ``pid|cmd|user``, escaped.

    ``observed`` says that it was only seen as the parent of the link before it, and may not have
    created that one: ``str(link)`` begins with ``~`` then.
    ``OMITTED`` at the end of a chain stands for all that were not asked for.
    """

    pid: int
    cmd: str
    user: str
    start_time_ns: int = 0
    known: bool = True
    observed: bool = False

    @property
    def omitted(self) -> bool:
        """Whether this is no process, but says that the chain goes on."""
        return self == OMITTED

    def __str__(self) -> str:
        if not self.known and self.omitted:
            return OMISSION
        mark = OBSERVED if self.observed else ""
        return f"{mark}{self.pid}|{_escaped(self.cmd)}|{_escaped(self.user)}"


OMITTED = ProcessLink(0, OMISSION, OMISSION, known=False)
