"""BPF records -> events. The layout is bpf/proctree.h, whose sizes a test compares. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

from proctree_bpf.codecs.errors import DecodeError
from proctree_bpf.codecs.proc_files import decode_name
from proctree_bpf.core.events import Exec, Exit, Fork, Met, ProcEvent, Rename
from proctree_bpf.core.identity import ProcessKey

WIRE_VERSION = 3
KINDS = ("fork", "exec", "exit", "rename", "met", "met-by-rename", "met-by-fork", "met-by-exit")
ALWAYS_TOLD = KINDS[:4]
"""The others come only where the kernel filters."""
MAX_COPIES = 4
"""Of each program; a record of copy n has ``n * len(KINDS)`` added to its kind."""
_FORK, _EXEC, _EXIT, _RENAME = range(4)

_ARGS_TRUNCATED = 0x1
_ARGS_UNREADABLE = 0x2
_EXE_INCOMPLETE = 0x4
_NOBODY = 0xFFFF_FFFF

HEADER = struct.Struct("=QQHHHH")
FORK = struct.Struct("=QQHHHHQQQQIIIIII16s")
EXEC = struct.Struct("=QQHHHHQQQIIII16sIHHII")
EXIT = struct.Struct("=QQHHHHQQQQIIIIII16s")
RENAME = struct.Struct("=QQHHHHQII16s")
MET = struct.Struct("=QQHHHHQQQIIIIII16s")


class PerfRecord(NamedTuple):
    """One decoded record: the event, and what the transport needs to account for it.

    ``kind`` is as it was sent: that of the event, and which copy of the program sent it.
    """

    kind: int
    seq: int
    event: ProcEvent


def id_or_none(number: int) -> int | None:
    """Return a user or group id; the BPF side has PT_NOBODY, which is none, if it has none."""
    return None if number == _NOBODY else number


def noted_name(raw: bytes) -> str | None:
    """Return a name that the BPF side has noted; PT_NO_NAME in its last byte is none."""
    return None if raw[-1] else _comm(raw)


def _comm(raw: bytes) -> str:
    return decode_name(raw.partition(b"\0")[0])


def _fork(data: bytes) -> PerfRecord:
    (
        seq, time_ns, _, _, _, _,
        child_start, creator_start, parent_start, cgroup_id,
        child, creator, parent, ns_pid, uid, gid, comm,
    ) = FORK.unpack_from(data)  # fmt: skip
    creator_key = ProcessKey(creator, creator_start)
    event = Fork(
        timestamp_ns=time_ns,
        child=ProcessKey(child, child_start),
        creator=creator_key,
        parent=ProcessKey(parent, parent_start),
        ns_pid=ns_pid,
        uid=uid,
        gid=gid,
        cgroup_id=cgroup_id,
        comm=_comm(comm),
    )
    return PerfRecord(_FORK, seq, event)


def _exec(data: bytes) -> PerfRecord:
    (
        seq, time_ns, _, _, flags, _,
        start, parent_start, cgroup_id,
        tgid, parent, uid, gid, comm, _, exe_len, filename_len, args_len, _,
    ) = EXEC.unpack_from(data)  # fmt: skip
    exe_end = EXEC.size + exe_len
    filename_end = exe_end + filename_len
    args_end = filename_end + args_len
    if args_end > len(data):
        raise DecodeError(f"exec record: {len(data)} bytes, but its parts need {args_end}")
    filename = data[exe_end:filename_end].partition(b"\0")[0]
    event = Exec(
        timestamp_ns=time_ns,
        key=ProcessKey(tgid, start),
        parent=ProcessKey(parent, parent_start),
        uid=uid,
        gid=gid,
        cgroup_id=cgroup_id,
        comm=_comm(comm),
        filename=decode_name(filename) if filename else None,
        executable=None if flags & _EXE_INCOMPLETE else _path(data[EXEC.size : exe_end]),
        args_raw=None if flags & _ARGS_UNREADABLE else data[filename_end:args_end],
        truncated=bool(flags & _ARGS_TRUNCATED),
    )
    return PerfRecord(_EXEC, seq, event)


def _path(components: bytes) -> str | None:
    """Join path components that come innermost first, each ended by NUL."""
    if not components:
        return None
    names = components.rstrip(b"\0").split(b"\0")
    return decode_name(b"/" + b"/".join(reversed(names)))


def _exit(data: bytes) -> PerfRecord:
    (
        seq, time_ns, _, _, _, _,
        start, parent_start, cgroup_id, cpu_ns, tgid, parent, uid, gid, status, _, comm,
    ) = EXIT.unpack_from(data)  # fmt: skip
    event = Exit(
        timestamp_ns=time_ns,
        key=ProcessKey(tgid, start),
        parent=ProcessKey(parent, parent_start),
        status=status,
        uid=uid,
        gid=gid,
        comm=_comm(comm),
        cgroup_id=cgroup_id,
        cpu_ns=cpu_ns,
    )
    return PerfRecord(_EXIT, seq, event)


def _rename(data: bytes) -> PerfRecord:
    seq, time_ns, _, _, _, _, start, tgid, _, comm = RENAME.unpack_from(data)
    event = Rename(timestamp_ns=time_ns, key=ProcessKey(tgid, start), comm=_comm(comm))
    return PerfRecord(_RENAME, seq, event)


def _met(data: bytes) -> PerfRecord:
    (
        seq, time_ns, _, kind, _, _,
        start, creator_start, exited_ns, tgid, creator, uid, gid, _, _, comm,
    ) = MET.unpack_from(data)  # fmt: skip
    event = Met(
        timestamp_ns=time_ns,
        key=ProcessKey(tgid, start),
        creator=ProcessKey(creator, creator_start),
        uid=id_or_none(uid),
        gid=id_or_none(gid),
        comm=noted_name(comm),
        exited_ns=exited_ns or None,
    )
    return PerfRecord(kind, seq, event)


_DECODERS = (_fork, _exec, _exit, _rename, _met, _met, _met, _met)


def decode(data: bytes) -> PerfRecord:
    """Decode one record; bytes after its end are ignored (perf pads its samples).

    Raises:
        DecodeError: not a record of this version.

    """
    try:
        _, _, version, kind, _, _ = HEADER.unpack_from(data)
        if version != WIRE_VERSION or kind >= len(_DECODERS) * MAX_COPIES:
            raise DecodeError(f"record of version {version}, kind {kind} is not understood")
        record = _DECODERS[kind % len(_DECODERS)](data)
    except struct.error as error:
        raise DecodeError(f"record of {len(data)} bytes is cut short") from error
    return record if kind < len(_DECODERS) else record._replace(kind=kind)
