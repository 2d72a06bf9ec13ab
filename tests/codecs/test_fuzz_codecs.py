"""Whatever the bytes, nothing but DecodeError leaves a decoder of what a kernel says."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from proctree_bpf.codecs.btf import Btf
from proctree_bpf.codecs.cn_proc import NetlinkMessageIter
from proctree_bpf.codecs.inputs import CpuCounters, Drain
from proctree_bpf.codecs.kernel_layout import MissingFieldError, layout_macros
from proctree_bpf.codecs.proc_files import Stat, parse_stat, parse_status
from proctree_bpf.codecs.sample_decoder import ALWAYS_TOLD, KINDS, decode, take_samples
from proctree_bpf.errors import DecodeError
from proctree_bpf.streams.perf import PerfStream
from support.broken_bytes import (
    BOUNDARIES,
    DATAGRAMS,
    PERF_RECORDS,
    Mutation,
    mutate,
    mutations,
    only_decode_error,
    thorough,
)
from support.btf_blobs import HEADER as BTF_HEADER
from support.btf_blobs import kernel_like
from support.fake_ring import lost, sample

if TYPE_CHECKING:
    from collections.abc import Sequence

# Perf records

_K = len(KINDS)
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
