"""Parsers for the files of ``/proc/PID`` (proc_pid_stat(5), proc_pid_status(5)). Pure."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import ProcInfo
from proctree_bpf.errors import DecodeError

# Fields of stat, counted from the one after the name: state is 0, so field N is N - 3.
_PPID, _FLAGS, _NUM_THREADS, _STARTTIME = 4 - 3, 9 - 3, 20 - 3, 22 - 3
_STARTSTACK = 28 - 3
_MAX_U64 = 2**64 - 1
_MAX_U32 = 2**32 - 1
# include/linux/sched.h: set when exit begins, before its event.
_PF_EXITING = 0x4
_PF_FORKNOEXEC = 0x40
_PF_KTHREAD = 0x00200000
# In the middle of an exec, pointers to the arguments are still to be put onto the stack.
_STACK_MOVES = 1 << 20


class Stat(NamedTuple):
    """What the tree needs of ``/proc/PID/stat``; ``start_ticks`` is in USER_HZ since boot.

    ``start_stack`` is where its stack begins, which only an exec changes; 0: not known.
    """

    pid: int
    comm: str
    state: str
    ppid: int
    flags: int
    num_threads: int
    start_ticks: int
    start_stack: int = 0

    @property
    def start_ns(self) -> int:
        """When it started (CLOCK_BOOTTIME), floored to a tick."""
        return self.start_ticks * TICK_NS

    @property
    def key(self) -> ProcessKey:
        """Its identity."""
        return ProcessKey(self.pid, self.start_ns)

    @property
    def leader_ended(self) -> bool:
        """Whether its first thread has ended or is about to; others may live on."""
        return self.state in ("Z", "X") or bool(self.flags & _PF_EXITING)

    def has_stack(self, start_stack: int) -> bool | None:
        """Tell whether its stack is the one that began there; None if that is not known."""
        if not self.start_stack or not start_stack:
            return None
        return abs(self.start_stack - start_stack) < _STACK_MOVES

    @property
    def has_execed(self) -> bool:
        """Whether it has called exec since it was forked."""
        return not self.flags & _PF_FORKNOEXEC

    @property
    def never_execed(self) -> bool:
        """Whether a process of user space runs what its creator ran when it was forked."""
        return self.flags & (_PF_FORKNOEXEC | _PF_KTHREAD) == _PF_FORKNOEXEC

    @property
    def ended(self) -> bool:
        """Whether it is only waited for: a dead leader without other threads."""
        return self.leader_ended and self.num_threads <= 1


class Status(NamedTuple):
    """What the tree needs of ``/proc/PID/status``; ``ns_pid`` is the innermost PID."""

    tgid: int
    uid: int
    gid: int
    ns_pid: int


Reading: TypeAlias = tuple[Stat, ProcInfo]
"""What one opening of a process's directory tells of it."""


def decode_name(raw: bytes) -> str:
    """Decode a name or a path: UTF-8, other bytes kept by surrogateescape."""
    return raw.decode("utf-8", "surrogateescape")


def _number(raw: bytes, limit: int, what: str) -> int:
    if not raw.isdigit() or len(raw) > len(str(limit)) or int(raw) > limit:
        raise DecodeError(f"{what}: {raw[:32]!r} is no number of the right size")
    return int(raw)


def parse_stat(raw: bytes) -> Stat:
    """Parse ``/proc/PID/stat``.

    The name may hold anything, also ``)``, spaces and newlines: it ends at the last ``)``.
    """
    opening, closing = raw.find(b" ("), raw.rfind(b") ")
    if opening < 0 or closing < opening + 2:
        raise DecodeError("stat: no name in parentheses")
    fields = raw[closing + 2 :].split()
    if len(fields) <= _STARTTIME or not fields[0].isalpha():
        raise DecodeError("stat: too few fields")
    stack = fields[_STARTSTACK] if len(fields) > _STARTSTACK else b"0"
    return Stat(
        pid=_number(raw[:opening], _MAX_U32, "stat: pid"),
        comm=decode_name(raw[opening + 2 : closing]),
        state=fields[0].decode("ascii", "replace"),
        ppid=_number(fields[_PPID], _MAX_U32, "stat: ppid"),
        flags=_number(fields[_FLAGS], _MAX_U32, "stat: flags"),
        num_threads=_number(fields[_NUM_THREADS], _MAX_U32, "stat: num_threads"),
        start_ticks=_number(fields[_STARTTIME], _MAX_U64, "stat: starttime"),
        start_stack=_number(stack, _MAX_U64, "stat: startstack"),
    )


def parse_status(raw: bytes) -> Status:
    """Parse ``/proc/PID/status``."""
    wanted = {b"Tgid", b"Uid", b"Gid", b"NSpid"}
    values: dict[bytes, list[bytes]] = {}
    for line in raw.split(b"\n"):
        name, colon, rest = line.partition(b":")
        if colon and name in wanted:
            values.setdefault(name, rest.split())
    try:
        tgid = values[b"Tgid"][0]
        ns_pid = values[b"NSpid"][-1] if b"NSpid" in values else tgid
        return Status(
            tgid=_number(tgid, _MAX_U32, "status: Tgid"),
            uid=_number(values[b"Uid"][0], _MAX_U32, "status: Uid"),
            gid=_number(values[b"Gid"][0], _MAX_U32, "status: Gid"),
            ns_pid=_number(ns_pid, _MAX_U32, "status: NSpid"),
        )
    except (KeyError, IndexError) as error:
        raise DecodeError("status: Tgid, Uid or Gid is missing") from error
