"""Recordings: what is written is what is read, and damage of any kind is noticed."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf import ProcInfo
from proctree_bpf.codecs.inputs import CpuCounters, Drain, Received, Walk
from proctree_bpf.codecs.proc_files import Stat
from proctree_bpf.codecs.recording import (
    FORMAT,
    MAGIC,
    Answers,
    Frame,
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
from proctree_bpf.errors import DecodeError
from support.hostile_names import comms, unhurried

if TYPE_CHECKING:
    from collections.abc import Callable

_U64 = st.integers(0, 2**64 - 1)
_U32 = st.integers(0, 2**32 - 1)
_PATHS = st.none() | comms()

_STATS = st.builds(Stat, _U32, comms(), st.sampled_from("RSDZT"), _U32, _U32, _U32, _U64, _U64)
_INFOS = st.builds(
    ProcInfo,
    cmd=comms(),
    user=comms(),
    ppid=_U32,
    tgid=_U32,
    start_time_ns=_U64,
    uid=st.none() | _U32,
    gid=st.none() | _U32,
    executable=_PATHS,
    args_raw=st.none() | st.binary(max_size=60),
    inherited=st.booleans(),
    truncated=st.booleans(),
    cgroup_id=st.none() | _U64,
    ns_pid=st.none() | _U32,
)
_READINGS = st.tuples(_STATS, _INFOS)
_PARTS = st.builds(SnapshotPart, _U64, _U64, st.booleans(), st.lists(_READINGS, max_size=4))
_LOOKS = st.lists(st.none() | _STATS | _READINGS, max_size=5)
_RECEIVED = st.builds(
    Received, st.lists(st.binary(max_size=90), max_size=4), st.booleans(), _U64, _U64, st.booleans()
)
_WALKS = st.builds(Walk, _U64, st.lists(_STATS, max_size=4))
_HEADERS = st.fixed_dictionaries(
    {"source": comms(), "host": comms()}, optional={"blind_spots": st.lists(comms(), max_size=2)}
)


@st.composite
def _drains(draw: st.DrawFn) -> Drain:
    cpus, kinds = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    numbers = st.tuples(*[_U64] * kinds)
    counters = [CpuCounters(draw(numbers), draw(numbers)) for _ in range(cpus)]
    records = st.tuples(st.integers(0, cpus - 1), st.binary(max_size=120))
    return Drain(draw(_U64), counters, draw(st.lists(records, max_size=5)), draw(_U64))


def _content(data: bytes) -> Any:
    """Return the content of the one frame of a recording with a header."""
    _, frame = decode_recording(encode_header({"source": "x"}) + data + encode_end()).frames
    return frame.content


class TestRoundTrips:
    @given(_HEADERS)
    @unhurried
    def test_a_header_comes_back_with_the_format(self, header: dict[str, Any]) -> None:
        (frame,) = decode_recording(encode_header(header) + encode_end()).frames
        assert frame == Frame(FrameKind.HEADER, {"format": FORMAT, **header})

    @given(_PARTS)
    @unhurried
    def test_a_part_of_a_snapshot_comes_back(self, part: SnapshotPart) -> None:
        assert _content(encode_snapshot(part)) == part

    @given(_drains())
    @unhurried
    def test_a_drain_comes_back(self, drain: Drain) -> None:
        assert _content(encode_drain(drain)) == drain

    @given(_RECEIVED, _LOOKS)
    @unhurried
    def test_what_the_connector_sent_comes_back(self, received: Received, looks: Answers) -> None:
        assert _content(encode_received(received, looks)) == (received, looks)

    @given(_WALKS, _LOOKS)
    @unhurried
    def test_a_walk_comes_back(self, walk: Walk, looks: Answers) -> None:
        assert _content(encode_walk(walk, looks)) == (walk, looks)

    @given(st.lists(st.tuples(_WALKS, _LOOKS), max_size=6))
    @unhurried
    def test_frames_come_back_in_their_order(self, walks: list[tuple[Walk, Answers]]) -> None:
        data = b"".join(encode_walk(*walk) for walk in walks)
        frames = decode_recording(encode_header({"source": "x"}) + data + encode_end()).frames
        assert [frame.content for frame in frames[1:]] == walks


_STAT = Stat(7, "a) \udcff\n", "S", 1, 0, 1, 123)
_INFO = ProcInfo("a", "root", 1, 7, 1, 0, 0, "/x", b"\xff\0")
_FRAMES = {
    "snapshot": encode_snapshot(SnapshotPart(3, 4, last=True, readings=[(_STAT, _INFO)])),
    "drain": encode_drain(Drain(5, [CpuCounters((1, 2), (3, 4))], [(0, b"record")])),
    "received": encode_received(Received([b"x"], overrun=True, monotonic_ns=1, boottime_ns=2),
                                [_STAT, None, (_STAT, _INFO)]),
    "walk": encode_walk(Walk(9, [_STAT]), []),
}  # fmt: skip
every_frame = pytest.mark.parametrize("kind", list(_FRAMES))


def recording(*frames: bytes, header: bytes | None = None) -> bytes:
    """Return a recording with these frames."""
    head = encode_header({"source": "x"}) if header is None else header
    return head + b"".join(frames) + encode_end()


def json_frame(kind: FrameKind, content: object) -> bytes:
    """Return a frame whose checksum is right, whatever it holds."""
    return encode_frame(kind, json.dumps(content).encode())


def test_a_stat_of_before_stacks_were_kept_can_be_read() -> None:
    content = {"taken_ns": 1, "stats": [[1, "a", "S", 1, 2, 3, 4]], "looks": []}
    whole = recording(json_frame(FrameKind.WALK, content))
    walk, _ = decode_recording(whole).frames[1].content
    assert walk.stats == [Stat(1, "a", "S", 1, 2, 3, 4, 0)]


class TestDamage:
    def test_cut_at_any_byte_it_is_noticed_and_has_what_was_whole_before(self) -> None:
        head, frames = encode_header({"source": "x"}), list(_FRAMES.values())
        whole = recording(*frames)
        complete = decode_recording(whole)
        assert complete.cut_at is None
        ends = [len(head) + sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
        for end in range(len(whole)):
            if end < len(head):
                with pytest.raises(DecodeError):
                    decode_recording(whole[:end])
                continue
            count = sum(place <= end for place in ends)
            cut = decode_recording(whole[:end])
            assert cut == (complete.frames[:count], ends[count - 1])

    @every_frame
    def test_any_changed_byte_is_noticed(self, kind: str) -> None:
        whole = recording(_FRAMES[kind])
        for at in range(len(whole)):
            for change in (0x01, 0x80, 0xFF):
                damaged = bytearray(whole)
                damaged[at] ^= change
                with pytest.raises(DecodeError):
                    decode_recording(bytes(damaged))

    @pytest.mark.parametrize("more", [b"\0", b"PTREC1\r\n", encode_end(), _FRAMES["walk"]])
    def test_bytes_after_the_end_are_noticed(self, more: bytes) -> None:
        with pytest.raises(DecodeError):
            decode_recording(recording(_FRAMES["walk"]) + more)

    @pytest.mark.parametrize(
        "foreign", [b"", b"\n", b"PTREC2\r\n", b"PTREC1\n", b"\x7fELF", b"{}\n" * 100, bytes(99)]
    )
    def test_a_foreign_file_is_not_taken_for_a_recording(self, foreign: bytes) -> None:
        with pytest.raises(DecodeError, match="not a recording"):
            decode_recording(foreign)

    def test_a_text_transfer_that_changed_line_ends_is_noticed(self) -> None:
        with pytest.raises(DecodeError):
            decode_recording(recording(*_FRAMES.values()).replace(b"\r\n", b"\n"))


class TestHeaders:
    @pytest.mark.parametrize("frames", [(), tuple(_FRAMES.values())])
    def test_without_a_header_it_is_none(self, frames: tuple[bytes, ...]) -> None:
        with pytest.raises(DecodeError, match="header"):
            decode_recording(recording(*frames, header=MAGIC))

    @pytest.mark.parametrize("version", [0, FORMAT - 1, FORMAT + 1, str(FORMAT), None])
    def test_another_version_is_refused(self, version: object) -> None:
        header = json_frame(FrameKind.HEADER, {"format": version, "source": "bpf"})
        with pytest.raises(DecodeError, match="version"):
            decode_recording(recording(header=MAGIC + header))

    def test_another_version_is_named_as_the_reason_though_its_frames_are_not_understood(
        self,
    ) -> None:
        header = json_frame(FrameKind.HEADER, {"format": 1, "source": "bpf"})
        snapshot = json_frame(FrameKind.SNAPSHOT, [])
        with pytest.raises(DecodeError, match="version"):
            decode_recording(recording(snapshot, header=MAGIC + header))

    @pytest.mark.parametrize("content", [[], 1, None, "x", {}, {"format": FORMAT}])
    def test_a_header_that_is_none_is_refused(self, content: object) -> None:
        with pytest.raises(DecodeError):
            decode_recording(recording(header=MAGIC + json_frame(FrameKind.HEADER, content)))

    @pytest.mark.parametrize("source", [None, 1, ["bpf"]])
    def test_a_header_without_a_source_is_refused(self, source: object) -> None:
        header = json_frame(FrameKind.HEADER, {"format": FORMAT, "source": source})
        with pytest.raises(DecodeError, match="source"):
            decode_recording(recording(header=MAGIC + header))


_WRONG_STATS = [
    [], [1], [1, "a", "S", 1, 2, 3], [1, "a", "S", 1, 2, 3, 4, 5, 6], ["1", "a", "S", 1, 2, 3, 4],
    [1, None, "S", 1, 2, 3, 4], [1, "a", 5, 1, 2, 3, 4], [1, "a", "S", 1, 2, 3, 4.5],
    [1, "a", "S", True, 2, 3, 4], "text", None, {"pid": 1},
]  # fmt: skip
_RIGHT_INFO = {"cmd": "a", "user": "b", "ppid": 1, "tgid": 2}
_WRONG_INFOS: list[object] = [
    {}, {**_RIGHT_INFO, "cmd": 1}, {**_RIGHT_INFO, "cmd": None}, {**_RIGHT_INFO, "tgid": "2"},
    {**_RIGHT_INFO, "surplus": 1}, {**_RIGHT_INFO, "args_raw": "not base64!"},
    {**_RIGHT_INFO, "args_raw": 5}, {**_RIGHT_INFO, "inherited": 1}, {**_RIGHT_INFO, "uid": True},
    {**_RIGHT_INFO, "key": [1, 2]}, [], None, "text",
]  # fmt: skip
_RIGHT_RECEIVED = {
    "datagrams": [], "overrun": False, "monotonic_ns": 1, "boottime_ns": 1, "complete": True,
    "looks": [],
}  # fmt: skip
_RIGHT_PART = {"begun_ns": 1, "ended_ns": 2, "last": True, "readings": []}
_RIGHT_STAT = [1, "a", "S", 1, 2, 3, 4]


class TestMalformedFrames:
    """The checksum is right, the content is not: a writer of another mind."""

    @pytest.mark.parametrize("stat", _WRONG_STATS, ids=repr)
    def test_a_wrong_stat_is_refused(self, stat: object) -> None:
        self._refused(FrameKind.WALK, {"taken_ns": 1, "stats": [stat], "looks": []})
        self._refused(FrameKind.WALK, {"taken_ns": 1, "stats": [], "looks": [{"stat": stat}]})
        self._refused(FrameKind.SNAPSHOT, {**_RIGHT_PART, "readings": [[stat, _RIGHT_INFO]]})

    @pytest.mark.parametrize("info", _WRONG_INFOS, ids=repr)
    def test_wrong_details_are_refused(self, info: object) -> None:
        self._refused(FrameKind.SNAPSHOT, {**_RIGHT_PART, "readings": [[_RIGHT_STAT, info]]})
        look = {"entry": [_RIGHT_STAT, info]}
        self._refused(FrameKind.WALK, {"taken_ns": 1, "stats": [], "looks": [look]})

    @pytest.mark.parametrize(
        "content",
        [
            None,
            1,
            [],
            {},
            {"datagrams": []},
            {**_RIGHT_RECEIVED, "datagrams": ["?"]},
            {**_RIGHT_RECEIVED, "datagrams": [1]},
            {**_RIGHT_RECEIVED, "monotonic_ns": "1"},
            {**_RIGHT_RECEIVED, "boottime_ns": 1.5},
            {**_RIGHT_RECEIVED, "complete": 1},
            {**_RIGHT_RECEIVED, "overrun": "no"},
            {**_RIGHT_RECEIVED, "looks": [{}]},
            {**_RIGHT_RECEIVED, "looks": 5},
        ],
        ids=repr,
    )
    def test_what_is_not_what_a_connector_sends_is_refused(self, content: object) -> None:
        self._refused(FrameKind.RECEIVED, content)

    @pytest.mark.parametrize(
        "content",
        [
            None,
            [],
            {},
            {**_RIGHT_PART, "begun_ns": None},
            {**_RIGHT_PART, "ended_ns": 1.5},
            {**_RIGHT_PART, "last": 1},
            {**_RIGHT_PART, "readings": 5},
        ],
        ids=repr,
    )
    def test_what_is_no_part_of_a_snapshot_is_refused(self, content: object) -> None:
        self._refused(FrameKind.SNAPSHOT, content)

    @pytest.mark.parametrize("kind", [k for k in FrameKind if k is not FrameKind.END])
    @pytest.mark.parametrize("payload", [b"", b"\xff", b"[" * 100_000, b"{", b"9" * 5000, b"NaN"])
    def test_garbage_is_refused(self, kind: FrameKind, payload: bytes) -> None:
        with pytest.raises(DecodeError):
            decode_recording(
                recording(encode_frame(kind, payload))
                if kind is not FrameKind.HEADER
                else recording(header=MAGIC + encode_frame(kind, payload))
            )

    @pytest.mark.parametrize("number", [0, 7, 255])
    def test_an_unknown_kind_of_frame_is_refused(self, number: int) -> None:
        body = struct.pack("<BI", number, 2) + b"{}"
        with pytest.raises(DecodeError, match="kind"):
            decode_recording(recording(body + struct.pack("<I", zlib.crc32(body))))

    @pytest.mark.parametrize(
        "change",
        [
            lambda payload: payload[:-1],
            lambda payload: payload + b"\0",
            lambda payload: payload[:16] + b"\xff\xff" + payload[18:],  # CPUs
            lambda payload: payload[:18] + b"\xff\xff" + payload[20:],  # kinds
            lambda payload: payload[:20] + b"\xff\xff\xff\xff" + payload[24:],  # records
        ],
    )
    def test_a_drain_whose_counts_do_not_fit_is_refused(
        self, change: Callable[[bytes], bytes]
    ) -> None:
        payload = _FRAMES["drain"][5:-4]
        with pytest.raises(DecodeError):
            decode_recording(recording(encode_frame(FrameKind.DRAIN, change(payload))))

    def test_a_record_of_a_cpu_that_is_none_is_refused(self) -> None:
        drain = Drain(5, [CpuCounters((1,), (0,))], [(1, b"record")])
        with pytest.raises(DecodeError):
            decode_recording(recording(encode_drain(drain)))

    def _refused(self, kind: FrameKind, content: object) -> None:
        with pytest.raises(DecodeError):
            decode_recording(recording(json_frame(kind, content)))
