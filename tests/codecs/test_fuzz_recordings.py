"""Whatever is in a recording, nothing but DecodeError leaves its decoder."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.codecs.inputs import CpuCounters, Drain, Received, Walk
from proctree_bpf.codecs.proc_files import Stat
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
from proctree_bpf.core.model import ProcInfo
from support.broken_bytes import (
    DATAGRAMS,
    PERF_RECORDS,
    Mutation,
    mutate,
    mutations,
    only_decode_error,
    thorough,
)

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
