r"""Recordings: what a source read, byte for byte, so that a run can be had again. Pure.

A file is ``PTREC1\r\n`` and then frames: kind (1 byte), length (4), payload, CRC-32 (4)
of kind, length and payload; numbers little-endian. The first frame is the header, the
last one says that the recording is complete; without it, it was cut short. Payloads are
JSON, but for the drains of perf buffers, which are binary.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import MISSING, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, get_type_hints

import msgspec

from proctree_bpf.codecs.inputs import CpuCounters, Drain, Received, Walk
from proctree_bpf.codecs.proc_files import Reading, Stat
from proctree_bpf.core.model import ProcInfo
from proctree_bpf.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

MAGIC = b"PTREC1\r\n"
FORMAT = 3
_FRAME = struct.Struct("<BI")
_CRC = struct.Struct("<I")
_DRAIN_HEAD = struct.Struct("<QQHHI")
_U64 = struct.Struct("<Q")
_SAMPLE = struct.Struct("<HI")

_MOST_U64 = 2**64 - 1


class FrameKind(IntEnum):
    """What a frame holds."""

    HEADER = 1
    SNAPSHOT = 2
    DRAIN = 3
    RECEIVED = 4
    WALK = 5
    END = 6


class SnapshotPart(NamedTuple):
    """Some processes of a snapshot of ``/proc``, read between two times (CLOCK_BOOTTIME).

    What the source read between two parts lies between them in the recording.
    """

    begun_ns: int
    ended_ns: int
    last: bool
    readings: Sequence[Reading]


Answers: TypeAlias = Sequence[Stat | Reading | None]
"""The answers of ``/proc`` to the questions that arose while a frame was decoded."""


class Frame(NamedTuple):
    """A decoded frame; the type of ``content`` goes with ``kind``."""

    kind: FrameKind
    content: Any


def encode_frame(kind: FrameKind, payload: bytes) -> bytes:
    """Return a frame."""
    body = _FRAME.pack(kind, len(payload)) + payload
    return body + _CRC.pack(zlib.crc32(body))


def encode_header(header: dict[str, Any]) -> bytes:
    """Return the start of a file."""
    return MAGIC + encode_frame(FrameKind.HEADER, _json({"format": FORMAT, **header}))


def encode_snapshot(part: SnapshotPart) -> bytes:
    """Return the frame of a part of a snapshot of ``/proc``."""
    readings = [_from_reading(reading) for reading in part.readings]
    content = _Part(part.begun_ns, part.ended_ns, part.last, readings)
    return encode_frame(FrameKind.SNAPSHOT, _json(content))


def encode_drain(drain: Drain) -> bytes:
    """Return the frame of a drain of the perf buffers."""
    kinds = len(drain.counters[0].begun) if drain.counters else 0
    cpus, samples = len(drain.counters), len(drain.samples)
    parts = [_DRAIN_HEAD.pack(drain.taken_ns, drain.missed, cpus, kinds, samples)]
    for counters in drain.counters:
        parts += [_U64.pack(number) for number in (*counters.begun, *counters.failed)]
    for cpu, data in drain.samples:
        parts += [_SAMPLE.pack(cpu, len(data)), data]
    return encode_frame(FrameKind.DRAIN, b"".join(parts))


def encode_received(received: Received, answers: Answers) -> bytes:
    """Return the frame of what was read from the proc connector."""
    content = _Received(*received, list(map(_from_answer, answers)))
    return encode_frame(FrameKind.RECEIVED, _json(content))


def encode_walk(walk: Walk, answers: Answers) -> bytes:
    """Return the frame of a walk of ``/proc``."""
    content = _Walk(*walk, list(map(_from_answer, answers)))
    return encode_frame(FrameKind.WALK, _json(content))


def encode_end() -> bytes:
    """Return the frame that says that the recording is complete."""
    return encode_frame(FrameKind.END, b"")


class Recording(NamedTuple):
    """A decoded file: its first frame is the header, the END frame is left out.

    ``cut_at`` is the byte at which it is cut short, None if it is complete. All frames
    before that are whole.
    """

    frames: list[Frame]
    cut_at: int | None


def decode_recording(data: bytes) -> Recording:
    """Decode a file; one of a recorder that was killed, or had no more room, up to the cut."""
    if not data.startswith(MAGIC):
        raise DecodeError("not a recording of proctree-bpf")
    frames: list[Frame] = []
    position = len(MAGIC)
    while True:
        found = _next_frame(data, position)
        if found is None:
            _check_cut(data, frames)
            return Recording(frames, position)
        kind, payload, position = found
        if kind is FrameKind.END:
            if position != len(data):
                raise DecodeError("bytes follow the end of the recording")
            _check_header(frames)
            return Recording(frames, None)
        frames.append(Frame(kind, _decode_payload(kind, payload)))
        if len(frames) == 1:
            _check_header(frames)  # the frames of another version need not be readable


def _check_cut(data: bytes, frames: list[Frame]) -> None:
    if not frames:
        raise DecodeError("the recording is cut short before its header ends")
    # A length that was changed answers like a cut, but for the end of the file.
    if data.endswith(encode_end()):
        raise DecodeError("the recording is damaged: a frame reaches beyond its end")


def _next_frame(data: bytes, position: int) -> tuple[FrameKind, bytes, int] | None:
    """Return a frame and where the next one begins; None if it is cut short."""
    end_of_head = position + _FRAME.size
    if end_of_head > len(data):
        return None
    number, length = _FRAME.unpack_from(data, position)
    try:
        kind = FrameKind(number)
    except ValueError as error:
        raise DecodeError(f"frame kind {number} is not understood") from error
    if kind is FrameKind.END and length:
        raise DecodeError(f"the recording is damaged at byte {position}")
    end_of_payload = end_of_head + length
    if end_of_payload + _CRC.size > len(data):
        return None
    if zlib.crc32(data[position:end_of_payload]) != _CRC.unpack_from(data, end_of_payload)[0]:
        raise DecodeError(f"the recording is damaged at byte {position}")
    return kind, data[end_of_head:end_of_payload], end_of_payload + _CRC.size


def _check_header(frames: list[Frame]) -> None:
    if not frames or frames[0].kind is not FrameKind.HEADER:
        raise DecodeError("the recording does not begin with a header")
    header = frames[0].content
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DecodeError("the recording is of another version")
    if not isinstance(header.get("source"), str):
        raise DecodeError("the header names no source")


def _decode_payload(kind: FrameKind, payload: bytes) -> Any:
    decoders: dict[FrameKind, Callable[[bytes], Any]] = {
        FrameKind.HEADER: json.loads,
        FrameKind.SNAPSHOT: _decode_snapshot,
        FrameKind.DRAIN: _decode_drain,
        FrameKind.RECEIVED: _decode_received,
        FrameKind.WALK: _decode_walk,
    }
    try:
        return decoders[kind](payload)
    except (ValueError, msgspec.MsgspecError, RecursionError, struct.error) as error:
        raise DecodeError(f"a frame of kind {kind.name} is malformed") from error


def _decode_snapshot(payload: bytes) -> SnapshotPart:
    part = _decode(payload, _Part)
    readings = [_to_reading(reading) for reading in part.readings]
    return SnapshotPart(part.begun_ns, part.ended_ns, part.last, readings)


def _decode_drain(payload: bytes) -> Drain:
    taken_ns, missed, cpus, kinds, count = _DRAIN_HEAD.unpack_from(payload)
    position = _DRAIN_HEAD.size
    counters = []
    for _ in range(cpus):
        numbers = struct.unpack_from(f"<{2 * kinds}Q", payload, position)
        position += 2 * kinds * _U64.size
        counters.append(CpuCounters(numbers[:kinds], numbers[kinds:]))
    samples = []
    for _ in range(count):
        cpu, length = _SAMPLE.unpack_from(payload, position)
        position += _SAMPLE.size
        if cpu >= cpus or position + length > len(payload):
            raise ValueError("record")
        samples.append((cpu, payload[position : position + length]))
        position += length
    if position != len(payload):
        raise ValueError("trailing bytes")
    return Drain(taken_ns, counters, samples, missed)


def _decode_received(payload: bytes) -> tuple[Received, Answers]:
    *received, looks = msgspec.structs.astuple(_decode(payload, _Received))
    return Received(*received), list(map(_to_answer, looks))


def _decode_walk(payload: bytes) -> tuple[Walk, Answers]:
    *walk, looks = msgspec.structs.astuple(_decode(payload, _Walk))
    return Walk(*walk), list(map(_to_answer, looks))


# What the payloads of JSON look like; bytes travel as base64.


class _Look(msgspec.Struct, omit_defaults=True):
    """An answer that found somebody: one of the two."""

    stat: Stat | None = None
    entry: tuple[Stat, Any] | None = None


class _Part(msgspec.Struct):
    begun_ns: int
    ended_ns: int
    last: bool
    readings: list[tuple[Stat, Any]]


class _Received(msgspec.Struct):
    datagrams: Sequence[bytes]
    overrun: bool
    monotonic_ns: int
    boottime_ns: int
    complete: bool
    looks: list[_Look | None]


class _Walk(msgspec.Struct):
    taken_ns: int
    stats: Sequence[Stat]
    looks: list[_Look | None]


_INFO_FIELDS = [field for field in fields(ProcInfo) if field.init]
_INFO_TYPES = get_type_hints(ProcInfo)
# The details of a process: all that a ProcInfo is made of.
_Details = msgspec.defstruct(
    "_Details",
    [
        (
            field.name,
            _INFO_TYPES[field.name],
            *([] if field.default is MISSING else [field.default]),
        )
        for field in _INFO_FIELDS
    ],
    forbid_unknown_fields=True,
)


def _json(value: Any) -> bytes:
    # Python's JSON keeps surrogates, so names survive.
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def _decode(payload: bytes, kind: type[_T]) -> _T:
    return msgspec.convert(json.loads(payload, parse_int=_number), kind)


def _number(text: str) -> int:
    value = int(text)
    if not 0 <= value <= _MOST_U64:
        raise ValueError("an impossible number")
    return value


def _from_reading(reading: Reading) -> tuple[Stat, Any]:
    stat, info = reading
    return stat, {field.name: getattr(info, field.name) for field in _INFO_FIELDS}


def _to_reading(reading: tuple[Stat, Any]) -> Reading:
    stat, details = reading
    return stat, ProcInfo(*msgspec.structs.astuple(msgspec.convert(details, _Details)))


def _from_answer(answer: Stat | Reading | None) -> _Look | None:
    if answer is None:
        return None
    return _Look(answer) if isinstance(answer, Stat) else _Look(entry=_from_reading(answer))


def _to_answer(look: _Look | None) -> Stat | Reading | None:
    if look is None:
        return None
    if look.entry is not None:
        return _to_reading(look.entry)
    if look.stat is None:
        raise ValueError("an answer that says nothing")
    return look.stat
