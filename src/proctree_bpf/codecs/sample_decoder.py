"""What was in a perf buffer -> samples -> events. Pure.

The layout of a buffer is that of include/uapi/linux/perf_event.h: records of a multiple of 8
bytes, each headed by its type (32 bits), 16 bits that do not matter here, and its size (16 bits).
A raw sample goes on with the 32-bit size of its data, which the kernel pads until the record
ends with them (perf_prepare_sample); so the record's size is enough. The layout of samples is
bpf/proctree.h, whose sizes a test compares.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.codecs.proc_files import decode_name
from proctree_bpf.core.compact import CompactExec, CompactExit, CompactFork, value_of
from proctree_bpf.core.events import AncestorAnnounced, Rename
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.events import ProcEvent

WIRE_VERSION = 3
KINDS = ("fork", "exec", "exit", "rename", "met", "met-by-rename", "met-by-fork", "met-by-exit")
ALWAYS_TOLD = KINDS[:4]
"""The others come only where the kernel filters."""
MAX_COPIES = 4
"""Of each program; a sample of copy n has ``n * len(KINDS)`` added to its kind."""

PERF_RECORD_SAMPLE = 9
_SAMPLE_HEAD = 12
_LEAST_RECORD = 16  # none that comes here is but its head
_perf_head = struct.Struct("=IxxH").unpack_from

_ARGS_TRUNCATED = 0x1
_ARGS_UNREADABLE = 0x2
_EXE_INCOMPLETE = 0x4
_NOBODY = 0xFFFF_FFFF

HEADER = struct.Struct("=QQHHHH")
FORK = struct.Struct("=QQHHHHQQQQIIIIII16s")
EXEC = struct.Struct("=QQHHHHQQQIIII16sIHHII")
EXIT = struct.Struct("=QQHHHHQQQQIIIIII16s")
KEY_START = struct.Struct("=Q")
"""Behind an exit that names a reaper, or a rename that names a parent: when that one began."""
RENAME = struct.Struct("=QQHHHHQII16s")
MET = struct.Struct("=QQHHHHQQQIIIIII16s")


_fork_fields = struct.Struct("=QQ8xQQQQIIIIII16s").unpack_from
_exec_fields = struct.Struct("=QQ4xH2xQQQIIII16s4xHHI4x").unpack_from
_exit_fields = struct.Struct("=QQ8xQQQQIIIIII16s").unpack_from
_key_start = KEY_START.unpack_from
_rename_fields = struct.Struct("=QQ8xQII16s").unpack_from
_met_fields = struct.Struct("=QQ8xQQQIIII8x16s").unpack_from
HEADER_KEY = slice(16, 20)
"""Where version and kind lie, by which ``DECODERS`` are found."""

_NAMES_KEPT = 4096


def take_samples(cpu: int, data: bytes, samples: list[tuple[int, bytes]]) -> None:
    """Append (CPU, bytes) for each sample; other records (losses, which BPF counts) are left out.

    Raises:
        DecodeError: from somewhere on, these are no records; those before it are appended.

    """
    end = len(data)
    if end % 8:
        raise DecodeError(f"{end} bytes of a perf ring are no whole words")
    append, unpack = samples.append, _perf_head
    at = 0
    while at < end:
        kind, size = unpack(data, at)
        following = at + size
        if size < _LEAST_RECORD or size & 7 or following > end:
            raise DecodeError(f"a perf record of {size} bytes, where {end - at} are left")
        if kind == PERF_RECORD_SAMPLE:
            append((cpu, data[at + _SAMPLE_HEAD : following]))
        at = following


def samples_in(chunks: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return (CPU, sample) for each sample in what was in the buffers of CPUs.

    Those behind bytes that are no record are left out: they are missed by their numbers.
    """
    samples: list[tuple[int, bytes]] = []
    for cpu, data in chunks:
        with suppress(DecodeError):
            take_samples(cpu, data, samples)
    return samples


class PerfRecord(NamedTuple):
    """One decoded sample: the event, and what the transport needs to account for it.

    ``kind`` is as it was sent: that of the event, and which copy of the program sent it.
    """

    kind: int
    seq: int
    event: ProcEvent


class _Texts(dict[bytes, str]):
    """Texts by their bytes: a machine runs few programs, and each text is kept once."""

    def __init__(self, decoder: Callable[[bytes], str]) -> None:
        super().__init__()
        self._decoder = decoder

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= _NAMES_KEPT:
            self.clear()
        text = self[raw] = self._decoder(raw)
        return text


def _comm(raw: bytes) -> str:
    return decode_name(raw.partition(b"\0")[0])


def _path(components: bytes) -> str:
    """Join path components that come innermost first, each ended by NUL."""
    names = components.rstrip(b"\0").split(b"\0")
    return decode_name(b"/" + b"/".join(reversed(names)))


_comms, _paths = _Texts(_comm), _Texts(_path)
# As ProcessKey(pid, start), without the call of a Python function.
_key = partial(tuple.__new__, ProcessKey)


def id_or_none(number: int) -> int | None:
    """Return a user or group id; the BPF side has PT_NOBODY, which is none, if it has none."""
    return None if number == _NOBODY else number


def known_name(raw: bytes) -> str | None:
    """Return a name that the BPF side has noted; PT_NO_NAME in its last byte is none."""
    return None if raw[-1] else _comms[raw]


def _fork(data: bytes) -> tuple[int, AnyEvent]:
    (
        seq, time_ns, child_start, creator_start, parent_start, cgroup_id,
        child, creator, parent, ns_pid, uid, gid, comm,
    ) = _fork_fields(data)  # fmt: skip
    is_parent = parent == creator and parent_start == creator_start
    return seq, CompactFork(
        time_ns,
        child,
        child_start,
        creator,
        creator_start,
        None if is_parent else _key((parent, parent_start)),
        ns_pid,
        uid,
        gid,
        cgroup_id,
        _comms[comm],
    )


def _exec(data: bytes) -> tuple[int, AnyEvent]:
    (
        seq, time_ns, flags, start, parent_start, cgroup_id,
        tgid, parent, uid, gid, comm, exe_len, filename_len, args_len,
    ) = _exec_fields(data)  # fmt: skip
    exe_end = _EXEC_SIZE + exe_len
    filename_end = exe_end + filename_len
    args_end = filename_end + args_len
    if args_end > len(data):
        raise DecodeError(f"exec sample: {len(data)} bytes, but its parts need {args_end}")
    executable = _paths[data[_EXEC_SIZE:exe_end]] if exe_len else None
    args_raw: bytes | None = data[filename_end:args_end]
    is_truncated = False
    if flags:
        executable = None if flags & _EXE_INCOMPLETE else executable
        args_raw = None if flags & _ARGS_UNREADABLE else args_raw
        is_truncated = flags & _ARGS_TRUNCATED != 0
    return seq, CompactExec(
        time_ns,
        tgid,
        start,
        parent,
        parent_start,
        uid,
        gid,
        cgroup_id,
        _comms[comm],
        data[exe_end:filename_end],
        executable,
        args_raw,
        is_truncated,
    )


def _exit(data: bytes) -> tuple[int, AnyEvent]:
    (
        seq, time_ns, start, parent_start, cgroup_id, cpu_ns,
        tgid, parent, uid, gid, status, reaper, comm,
    ) = _exit_fields(data)  # fmt: skip
    return seq, CompactExit(
        time_ns,
        tgid,
        start,
        parent,
        parent_start,
        status,
        uid,
        gid,
        _comms[comm],
        cpu_ns,
        cgroup_id,
        _key((reaper, *_key_start(data, _EXIT_SIZE))) if reaper else None,
    )


def _rename(data: bytes) -> tuple[int, AnyEvent]:
    seq, time_ns, start, tgid, parent, comm = _rename_fields(data)
    told = _key((parent, *_key_start(data, _RENAME_SIZE))) if parent else None
    return seq, Rename(time_ns, _key((tgid, start)), _comms[comm], told)


def _met(data: bytes) -> tuple[int, AnyEvent]:
    seq, time_ns, start, creator_start, exited_ns, tgid, creator, uid, gid, comm = _met_fields(data)
    return seq, AncestorAnnounced(
        time_ns,
        _key((tgid, start)),
        _key((creator, creator_start)),
        known_name(comm),
        id_or_none(uid),
        id_or_none(gid),
        exited_ns or None,
    )


_BY_KIND = (_fork, _exec, _exit, _rename, _met, _met, _met, _met)
_EXEC_SIZE, _EXIT_SIZE, _RENAME_SIZE = EXEC.size, EXIT.size, RENAME.size
DECODERS = {
    struct.pack("=HH", WIRE_VERSION, kind): (kind, _BY_KIND[kind % len(_BY_KIND)])
    for kind in range(len(_BY_KIND) * MAX_COPIES)
}
"""By version and kind as they lie in a header: the kind, and what decodes it.

A decoder returns the sample's number and event; it raises ``DecodeError`` or ``struct.error``.
"""


def decode(data: bytes) -> PerfRecord:
    """Decode one sample; bytes after its end are ignored (perf pads them).

    Raises:
        DecodeError: not a sample of this version.

    """
    known = DECODERS.get(data[HEADER_KEY])
    if known is None:
        raise _not_understood(data)
    kind, decoder = known
    try:
        seq, event = decoder(data)
    except struct.error as error:
        raise DecodeError(f"sample of {len(data)} bytes is cut short") from error
    return PerfRecord(kind, seq, value_of(event))


def _not_understood(data: bytes) -> DecodeError:
    if len(data) < HEADER.size:
        return DecodeError(f"sample of {len(data)} bytes is cut short")
    version, kind = HEADER.unpack_from(data)[2:4]
    return DecodeError(f"sample of version {version}, kind {kind} is not understood")
