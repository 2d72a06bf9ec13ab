"""Whatever the bytes, nothing but DecodeError leaves a decoder.

Random bytes seldom get past a magic number, so most examples here begin as something well
formed and are then broken the way a decoder fears: a length, a count, an offset or a type
id becomes a boundary value or another field's value; records are cut, joined, repeated;
numbers in text become huge, negative or foreign digits; checksums are made right again.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proctree_bpf.codecs.btf import Btf
from proctree_bpf.codecs.cn_proc import NetlinkMessageIter, subscription
from proctree_bpf.codecs.inputs import CpuCounters, Drain, Received, Walk
from proctree_bpf.codecs.kernel_layout import MissingFieldError, layout_macros
from proctree_bpf.codecs.proc_files import Stat, parse_stat, parse_status
from proctree_bpf.codecs.recording import (
    MAGIC,
    FrameKind,
    SnapshotPart,
    decode_recording,
    encode_drain,
    encode_end,
    encode_frame,
    encode_header,
    encode_received,
    encode_snapshot,
    encode_walk,
)
from proctree_bpf.codecs.sample_decoder import (
    ALWAYS_TOLD,
    EXEC,
    EXIT,
    FORK,
    KINDS,
    MET,
    RENAME,
    WIRE_VERSION,
    decode,
    take_samples,
)
from proctree_bpf.core.model import ProcInfo
from proctree_bpf.errors import DecodeError
from proctree_bpf.streams.perf import PerfStream
from support.btf_blobs import HEADER as BTF_HEADER
from support.btf_blobs import kernel_like
from support.fake_ring import lost, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

BOUNDARIES = [0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**24, 2**31 - 1]
BOUNDARIES += [2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]

Mutation = tuple[str, int, int]
mutations = st.lists(
    st.tuples(
        st.sampled_from(("flip", "u16", "u32", "u64", "copy", "cut", "drop", "repeat", "grow")),
        st.integers(0, 2**16),
        st.one_of(st.sampled_from(BOUNDARIES), st.integers(0, 2**32)),
    ),
    max_size=4,
)


def mutate(data: bytes, steps: Sequence[Mutation]) -> bytes:
    """Break binary data at places where its fields are: words are aligned."""
    for how, where, value in steps:
        if not data:
            return data
        at = where % len(data)
        width = {"u16": 2, "u32": 4, "u64": 8}.get(how, 4)
        word = at - at % width
        other = value % len(data)
        if how == "flip":
            data = data[:at] + bytes([data[at] ^ 1 << value % 8]) + data[at + 1 :]
        elif how in {"u16", "u32", "u64"}:
            raw = (value % 2 ** (8 * width)).to_bytes(width, "little")
            data = data[:word] + raw[: len(data) - word] + data[word + width :]
        elif how == "copy":
            data = data[:word] + data[other - other % 4 :][:4] + data[word + 4 :]
        elif how == "cut":
            data = data[:at]
        elif how == "drop":
            data = data[:at] + data[at + 1 + value % 16 :]
        elif how == "repeat":
            data = data[:at] + data[other:][:32] + data[at:]
        else:
            data += bytes([value % 256]) * (1 + where % 9)
    return data


def only_decode_error(decoder: Callable[[bytes], object], data: bytes) -> object | None:
    try:
        return decoder(data)
    except DecodeError:
        return None


# Perf records

_K = len(KINDS)
_HEADS = [(9, 1_000, WIRE_VERSION, kind, 0, 0) for kind in range(len(KINDS))]
PERF_RECORDS = [
    FORK.pack(*_HEADS[0], 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, b"bash"),
    EXEC.pack(*_HEADS[1], 1, 2, 3, 4, 5, 6, 7, b"ls", 6, 11, 5, 6, 0)
    + b"ls\0bin\0usr\0./ls\0ls\0-l\0",
    EXIT.pack(*_HEADS[2], 1, 2, 8, 9, 3, 4, 5, 6, 7, 0, b"ls"),
    RENAME.pack(*_HEADS[3], 1, 2, 0, b"ls"),
    *(MET.pack(*head, 1, 2, 0, 3, 4, 5, 6, 0, 0, b"ls") for head in _HEADS[4:]),
]
samples = st.one_of(
    st.binary(max_size=200), st.builds(mutate, st.sampled_from(PERF_RECORDS), mutations)
)


@thorough
@given(samples)
def test_a_perf_record_is_an_event_or_a_decode_error(data: bytes) -> None:
    record = only_decode_error(decode, data)
    if record is not None:
        assert repr(record)


@thorough
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 1), samples), max_size=4),
            st.lists(st.integers(0, 5), min_size=4 * _K, max_size=4 * _K),
        ),
        max_size=4,
    )
)
def test_a_stream_of_samples_never_fails(
    drains: list[tuple[list[tuple[int, bytes]], list[int]]],
) -> None:
    """Not even a DecodeError: what cannot be read is counted."""
    stream = PerfStream("fuzz", 2, 0)
    records = 0
    for number, (arrived, numbers) in enumerate(drains, 1):
        counters = [
            CpuCounters(tuple(numbers[at : at + _K]), tuple(numbers[at + _K : at + 2 * _K]))
            for at in (0, 2 * _K)
        ]
        records += len(arrived)
        stream.feed(Drain(number * 1_000_000, counters, arrived))
    summary = stream.summary()
    assert summary["received"] + summary["undecodable"] == records
    assert set(ALWAYS_TOLD) <= set(summary["by_kind"]) <= set(KINDS)


RINGS = [b"".join(map(sample, PERF_RECORDS)), lost(3) + sample(b"x") + lost(1)]


@thorough
@given(st.one_of(st.binary(max_size=200), st.builds(mutate, st.sampled_from(RINGS), mutations)))
def test_what_a_ring_held_is_samples_or_a_decode_error(data: bytes) -> None:
    samples: list[tuple[int, bytes]] = []
    only_decode_error(lambda data: take_samples(0, data, samples), data)
    assert sum(len(taken) for _, taken in samples) <= len(data)
    assert all(len(taken) % 8 == 4 for _, taken in samples)


# BTF

BTF_BLOB = bytes(kernel_like())
_TYPES_LENGTH = BTF_HEADER.unpack_from(BTF_BLOB)[5]


def mutate_btf(words: Sequence[tuple[int, int]], steps: Sequence[Mutation]) -> bytes:
    """Overwrite words of the type section: kinds, counts, type ids, names, offsets."""
    blob = bytearray(BTF_BLOB)
    for where, value in words:
        at = BTF_HEADER.size + where * 4 % _TYPES_LENGTH
        struct.pack_into("=I", blob, at, value % 2**32)
    return mutate(bytes(blob), steps)


type_words = st.one_of(
    st.sampled_from(BOUNDARIES),
    st.integers(0, 60),  # a type id, or a count
    st.builds(
        lambda kind, vlen, flag: flag << 31 | kind << 24 | vlen,
        st.integers(0, 31),
        st.integers(0, 20),
        st.integers(0, 1),
    ),
)


def use_btf(data: bytes) -> None:
    btf = Btf(data)
    with suppress(MissingFieldError):  # well formed, and not a kernel
        layout_macros(btf)
    for path in ("d_name.name", "d_parent", "pid.tgid", "", "."):
        btf.member("dentry", path)
        btf.member("task_struct", path)
    btf.struct_size("task_struct")
    btf.prototype_arity("btf_trace_sched_process_exit")


@thorough
@given(st.lists(st.tuples(st.integers(0, _TYPES_LENGTH // 4), type_words), max_size=6), mutations)
def test_broken_btf_is_a_decode_error(words: list[tuple[int, int]], steps: list[Mutation]) -> None:
    only_decode_error(use_btf, mutate_btf(words, steps))


@given(st.binary(max_size=200))
@example(BTF_HEADER.pack(0xEB9F, 1, 0, 24, 0, 0, 0, 0))
@example(BTF_HEADER.pack(0xEB9F, 1, 0, 0, 0, 0, 0, 0))
@example(BTF_HEADER.pack(0xEB9F, 1, 0, 24, 0, 4, 4, 0) + b"\0" * 4)
@example(BTF_HEADER.pack(0xEB9F, 1, 0, 2**32 - 1, 2**32 - 1, 0, 2**32 - 1, 0))
def test_bytes_that_are_no_btf_are_a_decode_error(data: bytes) -> None:
    only_decode_error(use_btf, data)


# Files of /proc

STAT = (
    b"42 (a b) S 7 42 42 0 -1 4194560 0 0 0 0 1 2 3 4 20 0 5 0 1234567 44175360 3390 "
    b"18446744073709551615 1 1 0 0 0 0 0 4096 1256 0 0 0 17 1 0 0\n"
)
STATUS = (
    b"Name:\ta b\nState:\tS (sleeping)\nTgid:\t42\nPid:\t42\nPPid:\t7\n"
    b"Uid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\nNSpid:\t42\t3\n"
)
FOREIGN_DIGIT = "\u0663".encode()
tokens = st.sampled_from(
    [
        *(b"", b" ", b"-1", b"0", b"00", b"4294967295", b"4294967296", b"18446744073709551616"),
        *(b"9" * 5_000, b"1_0", b"+1", b"0x10", b"1e3", FOREIGN_DIGIT, b"\xff", b"\0", b"nan"),
        *(b"(", b")", b") ", b" (", b"\n", b"\t", b":", b"Uid:"),
    ]
)


def mutate_text(text: bytes, edits: Sequence[tuple[int, bytes]], separators: bytes) -> bytes:
    """Replace words of a text by others, and leave its separators in place."""
    words: list[bytes] = []
    for byte in text:
        if byte in separators or not words or words[-1][-1] in separators:
            words.append(b"")
        words[-1] += bytes([byte])
    for where, token in edits:
        words[where % len(words)] = token
    return b"".join(words)


edits = st.lists(st.tuples(st.integers(0, 200), tokens), max_size=4)


@thorough
@given(
    st.one_of(st.binary(max_size=100), st.builds(mutate_text, st.just(STAT), edits, st.just(b" "))),
    mutations,
)
def test_any_stat_is_a_process_or_a_decode_error(raw: bytes, steps: list[Mutation]) -> None:
    stat = only_decode_error(parse_stat, mutate(raw, steps))
    if isinstance(stat, Stat):
        assert 0 <= stat.pid < 2**32
        assert 0 <= stat.ppid < 2**32
        assert 0 <= stat.start_ticks < 2**64


@thorough
@given(
    st.one_of(
        st.binary(max_size=100), st.builds(mutate_text, st.just(STATUS), edits, st.just(b"\t\n:"))
    ),
    mutations,
)
def test_any_status_is_a_process_or_a_decode_error(raw: bytes, steps: list[Mutation]) -> None:
    only_decode_error(parse_status, mutate(raw, steps))


# Proc connector datagrams


def _event(what: int, body: bytes) -> bytes:
    event = struct.pack("=IIQ", what, 1, 5) + body.ljust(24, b"\0")
    payload = struct.pack("=IIIIHH", 1, 1, 3, 0, len(event), 0) + event
    return struct.pack("=IHHII", 16 + len(payload), 3, 0, 0, 0) + payload


_KINDS = [0, 1, 2, 4, 0x40, 0x80, 0x100, 0x200, 0x40000000, 0x80000000, 0x7]
DATAGRAMS = [_event(what, b"\1\0\0\0" * 6) for what in _KINDS]
DATAGRAMS += [subscription(1), subscription(2, 7), struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -1)]


def read_all(data: bytes) -> int:
    """Read every message, as the stream does: after an error, the next one."""
    messages = NetlinkMessageIter(data)
    count = 0
    while True:
        try:
            next(messages)
        except StopIteration:
            return count
        except DecodeError:
            pass
        count += 1
        assert count <= 1 + len(data) // 16, "a message was read twice"


@thorough
@given(
    st.one_of(
        st.binary(max_size=100), st.lists(st.sampled_from(DATAGRAMS), max_size=3).map(b"".join)
    ),
    mutations,
)
def test_any_datagram_is_messages_and_decode_errors(data: bytes, steps: list[Mutation]) -> None:
    read_all(mutate(data, steps))


# Recordings

_STAT = Stat(42, "a b", "S", 7, 4_194_560, 1, 1_234_567)
_INFO = ProcInfo("a b", "ada", 7, 42, 12_345_670_000_000, 1000, 100, "/bin/x", b"x\0")
_COUNTERS = CpuCounters((1, 1, 1, 1), (0, 0, 0, 0))
_RECEIVED = Received([DATAGRAMS[1]], overrun=False, monotonic_ns=1, boottime_ns=2)
PAYLOADS = [
    (FrameKind(frame[0]), frame[5:-4])
    for frame in (
        encode_header({"source": "bpf"})[len(MAGIC) :],
        encode_snapshot(SnapshotPart(1, 2, last=True, readings=[(_STAT, _INFO)])),
        encode_drain(Drain(5, [_COUNTERS, _COUNTERS], [(0, PERF_RECORDS[0]), (1, b"")])),
        encode_received(_RECEIVED, [None, _STAT]),
        encode_walk(Walk(5, [_STAT]), [(_STAT, _INFO)]),
    )
]
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=True),
        st.text(max_size=5),
        st.sampled_from(
            ["pid", "stat", "entry", "datagrams", "stats", "looks", "AA==", "=", "bpf"]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["stat", "entry", "datagrams", "looks", "stats", "taken_ns", "format"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


def _replaced(value: object, where: int, by: object) -> object:
    """Replace one part of a JSON value, counted in depth-first order."""
    if isinstance(value, dict) and value:
        name = list(value)[where % len(value)]
        return {**value, name: by if where % 3 == 0 else _replaced(value[name], where // 2, by)}
    if isinstance(value, list) and value:
        at = where % len(value)
        new = by if where % 3 == 0 else _replaced(value[at], where // 2, by)
        return [*value[:at], new, *value[at + 1 :]]
    return by


def broken_payload(payload: bytes, where: int, by: object) -> bytes:
    try:
        value = json.loads(payload)
    except ValueError:
        return payload
    return json.dumps(_replaced(value, where, by)).encode("utf-8", "surrogatepass")


frames = st.one_of(
    st.sampled_from(PAYLOADS),
    st.tuples(st.sampled_from(FrameKind), st.binary(max_size=60)),
    st.builds(
        lambda frame, where, by: (frame[0], broken_payload(frame[1], where, by)),
        st.sampled_from(PAYLOADS),
        st.integers(0, 100),
        json_values,
    ),
    st.builds(
        lambda frame, steps: (frame[0], mutate(frame[1], steps)),
        st.sampled_from(PAYLOADS),
        mutations,
    ),
)


@thorough
@given(st.lists(frames, max_size=4))
def test_any_frames_are_a_recording_or_a_decode_error(
    parts: list[tuple[FrameKind, bytes]],
) -> None:
    """With the right checksums, as somebody with bad intent would have them."""
    body = b"".join(encode_frame(kind, payload) for kind, payload in parts)
    only_decode_error(decode_recording, encode_header({"source": "bpf"}) + body + encode_end())
    only_decode_error(decode_recording, MAGIC + body + encode_end())


@thorough
@given(mutations)
def test_a_damaged_recording_is_a_decode_error(steps: list[Mutation]) -> None:
    whole = encode_header({"source": "bpf"})
    whole += b"".join(encode_frame(kind, payload) for kind, payload in PAYLOADS[1:])
    whole += encode_end()
    assert only_decode_error(decode_recording, whole) is not None
    only_decode_error(decode_recording, mutate(whole, steps))
