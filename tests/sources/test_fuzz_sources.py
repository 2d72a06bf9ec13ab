"""Whatever the bytes are: nothing but DecodeError leaves a decoder, and a stream raises nothing."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.cli.tracing.display_options import DisplayOptions, Format
from proctree_bpf.cli.tracing.sink_factory import make_clock, make_sink
from proctree_bpf.codecs.cn_proc import CnProcEvent, NetlinkMessageIter
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
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.errors import DecodeError, SourceUnavailableError
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.streams.connector import ConnectorStream
from support import connector_messages as wire
from support.fake_proc_reader import FakeProcReader
from support.hostile_names import unhurried

_WHAT = st.sampled_from(
    [wire.NONE, wire.FORK, wire.EXEC, wire.UID, wire.GID, wire.SID, wire.PTRACE, wire.COMM,
     wire.COREDUMP, wire.EXIT, 0x8]
)  # fmt: skip
_SMALL = st.integers(0, 5)
_U32 = st.integers(0, 2**32 - 1)
_BODIES = st.one_of(
    st.builds(wire.fork_body, _SMALL, _SMALL, thread_of=_SMALL),
    st.builds(wire.task, _SMALL, _SMALL),
    st.builds(wire.id_body, _SMALL, _U32, _U32, _SMALL),
    st.builds(wire.comm_body, _SMALL, st.binary(max_size=16), _SMALL),
    st.builds(wire.exit_body, _SMALL, _U32, tid=_SMALL, parent=_SMALL),
    st.binary(max_size=40),
)
_EVENTS = st.builds(wire.event, _WHAT, _BODIES, st.integers(0, 2**64 - 1), st.integers(0, 3), _U32)
_MESSAGES = st.one_of(
    _EVENTS,
    st.builds(wire.netlink, st.binary(max_size=60), st.integers(0, 9), st.none() | _U32),
    st.binary(max_size=60),
)
_DATAGRAMS = st.lists(_MESSAGES, max_size=4).map(b"".join) | st.binary(max_size=200)


def _read(data: bytes) -> int:
    """Iterate to the end; return the number of messages, read or not."""
    messages = NetlinkMessageIter(data)
    steps = 0
    while True:
        steps += 1
        try:
            message = next(messages, messages)
        except DecodeError:
            continue
        if message is messages:
            return steps
        assert message is None or isinstance(message, CnProcEvent)


@given(_DATAGRAMS)
@unhurried
def test_only_decode_errors_leave_the_iteration_and_it_ends(data: bytes) -> None:
    assert _read(data) <= len(data) // 16 + 2


@given(st.binary(max_size=200), st.integers(-5, 300))
@unhurried
def test_only_decode_errors_leave_the_iteration_of_a_part(data: bytes, n: int) -> None:
    with suppress(DecodeError):
        list(NetlinkMessageIter(data, n))


@given(
    st.lists(
        st.tuples(st.lists(_DATAGRAMS, max_size=4), st.booleans(), _U32, _U32, st.booleans()),
        max_size=4,
    )
)
@unhurried
def test_a_connector_stream_raises_nothing(
    polls: list[tuple[list[bytes], bool, int, int, bool]],
) -> None:
    proc = FakeProcReader()
    stream = ConnectorStream(proc)
    for datagrams, overrun, monotonic_ns, boottime_ns, there in polls:
        proc.processes.clear()
        if there:
            for pid in range(6):
                proc.add(pid, boottime_ns, threads=pid % 3)
        stream.feed(Received(datagrams, overrun, monotonic_ns, boottime_ns))
        summary = stream.summary()
        assert summary["received"] == sum(n["received"] for n in summary["by_kind"].values())


_PAYLOADS = st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["stats", "looks", "entry", "datagrams", "x"]), inner)
    ),
    max_leaves=10,
).map(lambda value: repr(value).replace("'", '"').encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=300))
@unhurried
def test_only_decode_errors_leave_the_reader_of_recordings(data: bytes) -> None:
    with suppress(DecodeError):
        decode_recording(data)
    with suppress(DecodeError):
        decode_recording(MAGIC + data)


@given(st.lists(st.tuples(st.sampled_from(list(FrameKind)), _PAYLOADS), max_size=3))
@unhurried
def test_only_decode_errors_leave_the_reader_though_the_checksums_are_right(
    frames: list[tuple[FrameKind, bytes]],
) -> None:
    body = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    for head in (MAGIC, encode_header({"source": "bpf", "cpus": 1, "started_ns": 1})):
        with suppress(DecodeError):
            decode_recording(head + body + encode_end())


class _InMemory(ReplaySource):
    """A recording that is in no file."""

    def __init__(self, data: bytes) -> None:
        super().__init__(Path("in-memory"))
        self._data = data

    def _read(self) -> bytes:
        return self._data


def _replay(data: bytes) -> ReplaySource:
    return _InMemory(data)


@given(
    st.dictionaries(
        st.sampled_from(["source", "cpus", "started_ns", "blind_spots", "boot_id", "host"]),
        st.sampled_from(["bpf", "proc-connector", "proc-walker"])
        | st.none() | st.integers() | st.lists(st.integers(), max_size=2) | st.text(max_size=3),
    )
)  # fmt: skip
@unhurried
def test_whatever_a_header_says_a_replay_opens_or_is_refused(facts: dict[str, object]) -> None:
    source = _replay(encode_header(facts) + encode_end())
    try:
        source.open()
    except SourceUnavailableError:
        return
    assert all(isinstance(spot, str) for spot in source.blind_spots)
    assert source.poll().end
    source.stats()


@given(
    st.integers(0, 6).flatmap(
        lambda kinds: st.tuples(*[st.lists(_U32, min_size=kinds, max_size=kinds)] * 2)
    ),
    st.lists(st.binary(max_size=100), max_size=3),
)
@unhurried
def test_whatever_a_drain_counts_a_replay_opens_and_goes_on_or_is_refused(
    numbers: tuple[list[int], list[int]], records: list[bytes]
) -> None:
    begun, failed = map(tuple, numbers)
    drain = Drain(5, [CpuCounters(begun, failed)], [(0, record) for record in records])
    header = encode_header({"source": "bpf", "cpus": 1, "started_ns": 1})
    source = _replay(header + encode_drain(drain) + encode_end())
    try:
        source.open()
    except SourceUnavailableError:
        return
    assert source.poll().end


_HUGE = st.sampled_from([0, 1, 2, 7, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
_NAMES = st.text(st.characters() | st.sampled_from("\ud800\udcff\x00\x1b"), max_size=4)
# Few PIDs, so that they come and go.
_PIDS = st.integers(0, 3) | _HUGE
_ANY_STATS = st.builds(Stat, _PIDS, _NAMES, st.sampled_from("RSZX"), _PIDS, _HUGE, _HUGE, _HUGE)
_MAYBE = st.none() | _HUGE
_ANY_INFOS = st.builds(
    ProcInfo, cmd=_NAMES, user=_NAMES, ppid=_HUGE, tgid=_HUGE, start_time_ns=_HUGE, uid=_MAYBE,
    gid=_MAYBE, args_raw=st.none() | st.binary(max_size=9), inherited=st.booleans(),
    cgroup_id=_MAYBE, ns_pid=_MAYBE, exec_ns=_MAYBE, status=_MAYBE, exited_ns=_MAYBE,
    cpu_ns=_MAYBE,
)  # fmt: skip
_ANY_READINGS = st.tuples(_ANY_STATS, _ANY_INFOS)
_ANY_LOOKS = st.lists(st.none() | _ANY_STATS | _ANY_READINGS, max_size=4)
_ANY_PARTS = st.builds(
    SnapshotPart, _HUGE, _HUGE, st.just(value=True), st.lists(_ANY_READINGS, max_size=4)
).map(encode_snapshot)
_ANY_WALKS = st.builds(
    encode_walk, st.builds(Walk, _HUGE, st.lists(_ANY_STATS, max_size=4)), _ANY_LOOKS
)
_ANY_RECEIVED = st.builds(
    encode_received,
    st.builds(Received, st.lists(_DATAGRAMS, max_size=2), st.booleans(), _HUGE, _HUGE),
    _ANY_LOOKS,
)
_ANY_RECORDINGS = st.one_of(
    st.tuples(st.just("proc-walker"), st.lists(_ANY_PARTS | _ANY_WALKS, max_size=5)),
    st.tuples(st.just("proc-connector"), st.lists(_ANY_PARTS | _ANY_RECEIVED, max_size=5)),
)


@given(_ANY_RECORDINGS, st.sampled_from(list(Format)), st.sampled_from([0, 2**62, -(2**62)]))
@unhurried
def test_whatever_the_numbers_are_a_recording_is_written_or_refused(
    recorded: tuple[str, list[bytes]], style: Format, offset_ns: int
) -> None:
    """Through tree and sinks: what a decoder lets pass must not break those behind it."""
    name, frames = recorded
    head = encode_header({"source": name, "wall_offset_ns": offset_ns})
    source = _replay(head + b"".join(frames) + encode_end())
    try:
        source.load()
    except SourceUnavailableError:
        return
    tracker = Tracker(PidTree(), ProcCache(), lambda _uid: "user")
    display, out = DisplayOptions(), io.StringIO()
    clock = make_clock(display, source, 0)
    pipeline = Pipeline(
        source, tracker, make_sink(style, display, out, tracker, source, clock=clock)
    )
    pipeline.start()
    pipeline.run(threading.Event(), 0.0)
    pipeline.finish()
    pipeline.close()
    out.getvalue().encode("utf-8", "backslashreplace")
