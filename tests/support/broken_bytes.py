"""Bytes that are well formed, and what breaks them.

Random bytes seldom get past a magic number, so most examples here begin as something well
formed and are then broken the way a decoder fears: a length, a count, an offset or a type
id becomes a boundary value or another field's value; records are cut, joined, repeated;
numbers in text become huge, negative or foreign digits; checksums are made right again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from proctree_bpf.codecs.cn_proc import subscription
from proctree_bpf.codecs.sample_decoder import (
    EXEC,
    EXIT,
    FORK,
    KEY_START,
    KINDS,
    MET,
    RENAME,
    WIRE_VERSION,
)
from proctree_bpf.errors import DecodeError

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


_HEADS = [(9, 1_000, WIRE_VERSION, kind, 0, 0) for kind in range(len(KINDS))]
PERF_RECORDS = [
    FORK.pack(*_HEADS[0], 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, b"bash"),
    EXEC.pack(*_HEADS[1], 1, 2, 3, 4, 5, 6, 7, b"ls", 6, 11, 5, 6, 0)
    + b"ls\0bin\0usr\0./ls\0ls\0-l\0",
    EXIT.pack(*_HEADS[2], 1, 2, 8, 9, 3, 4, 5, 6, 7, 0, b"ls"),
    RENAME.pack(*_HEADS[3], 1, 2, 0, b"ls"),
    EXIT.pack(*_HEADS[2], 1, 2, 8, 9, 3, 4, 5, 6, 7, 8, b"ls") + KEY_START.pack(10),
    RENAME.pack(*_HEADS[3], 1, 2, 3, b"ls") + KEY_START.pack(4),
    *(MET.pack(*head, 1, 2, 0, 3, 4, 5, 6, 0, 0, b"ls") for head in _HEADS[4:]),
]


def _event(what: int, body: bytes) -> bytes:
    event = struct.pack("=IIQ", what, 1, 5) + body.ljust(24, b"\0")
    payload = struct.pack("=IIIIHH", 1, 1, 3, 0, len(event), 0) + event
    return struct.pack("=IHHII", 16 + len(payload), 3, 0, 0, 0) + payload


_KINDS = [0, 1, 2, 4, 0x40, 0x80, 0x100, 0x200, 0x40000000, 0x80000000, 0x7]
DATAGRAMS = [_event(what, b"\1\0\0\0" * 6) for what in _KINDS]
DATAGRAMS += [subscription(1), subscription(2, 7), struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -1)]
