#!/usr/bin/env python3
"""Fuzz the decoders: nothing but DecodeError may leave them.

    scripts/fuzz/decoders.py TARGET [LIBFUZZER OPTIONS...] [CORPUS DIRECTORY]

TARGET is one of: samples, netlink, connector-stream, proc-stat, proc-status, btf,
recording, recording-frames, replay. It runs until something else escapes, or as long as
libFuzzer's options say, such as -max_total_time=60. It needs atheris beside the package's
own dependencies, and is no part of the test suite:

    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris cachetools typer
    PYTHONPATH=src /tmp/fuzz/bin/python scripts/fuzz/decoders.py netlink -max_total_time=60

Without a corpus directory it begins with valid samples in a temporary one.
"""

from __future__ import annotations

import io
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atheris

with atheris.instrument_imports(include=["proctree_bpf"]):
    from proctree_bpf.codecs import recording
    from proctree_bpf.codecs.btf import Btf
    from proctree_bpf.codecs.cn_proc import NetlinkMessageIter, What
    from proctree_bpf.codecs.inputs import CpuCounters, Drain, Received, Walk
    from proctree_bpf.codecs.proc_files import Stat, parse_stat, parse_status
    from proctree_bpf.codecs.recording import FrameKind, SnapshotPart
    from proctree_bpf.codecs.sample_decoder import (
        EXEC,
        EXIT,
        FORK,
        KEY_START,
        MET,
        RENAME,
        WIRE_VERSION,
        decode,
    )
    from proctree_bpf.core.model import ProcInfo
    from proctree_bpf.core.stores import PidTree, ProcCache
    from proctree_bpf.core.tracker import Tracker
    from proctree_bpf.errors import DecodeError, SourceUnavailableError
    from proctree_bpf.pipeline import Pipeline
    from proctree_bpf.sinks.jsonl.json_record import RecordOptions
    from proctree_bpf.sinks.jsonl.jsonl import JsonlSink
    from proctree_bpf.sources.replay import ReplaySource
    from proctree_bpf.streams.connector import ConnectorStream

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_STEPS = 10_000


# Samples, to begin with.


def _samples() -> list[bytes]:
    head = (1, 10**9, WIRE_VERSION)
    text = b"sh\0/bin/sh\0sh\0-c\0"
    return [
        FORK.pack(*head, 0, 0, 0, 5, 4, 4, 1, 300, 200, 200, 300, 0, 0, b"sh"),
        EXEC.pack(*head, 1, 0, 0, 5, 4, 1, 300, 200, 0, 0, b"sh", 6, 3, 8, 6, 0) + text,
        EXIT.pack(*head, 2, 0, 0, 5, 4, 7, 9, 300, 200, 0, 0, 256, 0, b"sh"),
        EXIT.pack(*head, 2, 0, 0, 4, 3, 7, 9, 200, 1, 0, 0, 256, 1, b"sh") + KEY_START.pack(3),
        RENAME.pack(*head, 3, 0, 0, 5, 300, 0, b"other"),
        RENAME.pack(*head, 3, 0, 0, 5, 300, 1, b"sh") + KEY_START.pack(3),
        MET.pack(*head, 4, 0, 0, 5, 4, 0, 300, 200, 0, 0, 0, 0, b"sh"),
    ]


def _netlink(what: int, body: bytes, seq: int = 0) -> bytes:
    event = struct.pack("=IIQ", what, 0, 10**9 + seq) + body
    message = struct.pack("=IIIIHH", 1, 1, seq, 0, len(event), 0) + event
    return struct.pack("=IHHII", 16 + len(message), 3, 0, 0, 0) + message


def _datagrams() -> list[bytes]:
    fork = _netlink(What.FORK, struct.pack("=IIII", 200, 200, 300, 300), 0)
    exec_ = _netlink(What.EXEC, struct.pack("=II", 300, 300), 1)
    comm = _netlink(What.COMM, struct.pack("=II16s", 300, 300, b"name"), 2)
    uid = _netlink(What.UID, struct.pack("=IIII", 300, 300, 1, 1), 3)
    exit_ = _netlink(What.EXIT, struct.pack("=IIIIII", 300, 300, 9, 17, 200, 200), 9)
    error = struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -1)
    return [fork, exec_, comm, uid, exit_, error, fork + exec_ + comm, exec_ + exit_]


_STAT = Stat(300, "sh", "S", 200, 0, 1, 100)
_INFO = ProcInfo("sh", "root", 200, 300, 10**9, 0, 0, "/bin/sh", b"sh\0-c\0")


def _frames() -> list[bytes]:
    counters = CpuCounters((1, 1, 1, 1), (0, 0, 0, 0))
    readings = [(_STAT, _INFO)]
    received = Received(_datagrams(), overrun=False, monotonic_ns=10**9, boottime_ns=10**9)
    looks = [_STAT, None, (_STAT, _INFO)]
    return [
        recording.encode_snapshot(SnapshotPart(10**9, 10**9, True, readings)),  # noqa: FBT003
        recording.encode_drain(Drain(2 * 10**9, [counters], [(0, r) for r in _samples()])),
        recording.encode_received(received, looks),
        recording.encode_walk(Walk(2 * 10**9, [_STAT]), looks),
    ]


def _header(source: str) -> bytes:
    facts = {"source": source, "cpus": 1, "started_ns": 10**9, "boot_id": "", "wall_offset_ns": 0}
    return recording.encode_header(facts)


def _file(frames: bytes, source: str = "bpf") -> bytes:
    return _header(source) + frames + recording.encode_end()


def _btf() -> list[bytes]:
    strings = b"\0int\0task\0pid\0"
    types = struct.pack("=IIII", 1, 1 << 24, 4, 32)
    types += struct.pack("=III", 5, 4 << 24 | 2, 8) + struct.pack("=IIIIII", 10, 1, 0, 0, 3, 32)
    types += struct.pack("=III", 0, 4 << 24 | 1, 4) + struct.pack("=III", 10, 1, 0)
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return [head + types + strings]


# Targets: what is done with the bytes.


class _NoLook:
    def stat(self, _pid: int) -> Stat | None:
        return None

    def entry(self, _pid: int) -> tuple[Stat, ProcInfo] | None:
        return None


class _KnowingLook:
    def stat(self, pid: int) -> Stat | None:
        return Stat(pid, "sh", "S", 1, 0, 1, 100)

    def entry(self, pid: int) -> tuple[Stat, ProcInfo] | None:
        return Stat(pid, "sh", "S", 1, 0, 1, 100), _INFO


def _iterate(data: bytes) -> None:
    messages = NetlinkMessageIter(data)
    for _ in range(_MOST_STEPS):
        try:
            if next(messages, messages) is messages:
                return
        except DecodeError:
            pass
    raise AssertionError("the iteration does not end")


def _stream(data: bytes) -> None:
    half = len(data) // 2
    for look in (_NoLook(), _KnowingLook()):
        stream = ConnectorStream(look)
        for datagrams in ([data], [data[:half], data[half:]]):
            received = Received(datagrams, overrun=False, monotonic_ns=10**9, boottime_ns=10**9)
            stream.feed(received)
            stream.summary()


def _search(data: bytes) -> None:
    btf = Btf(data)
    for name, path in (("task", "pid"), ("task", "int.pid"), ("int", "pid")):
        btf.member(name, path)
    btf.prototype_arity("int")


def _with_frame(data: bytes) -> bytes:
    """Make a recording of whose frame only the payload is fuzzed: its checksum is right."""
    kinds = [kind for kind in FrameKind if kind is not FrameKind.END]
    kind = kinds[data[0] % len(kinds)] if data else FrameKind.HEADER
    sources = {FrameKind.RECEIVED: "proc-connector", FrameKind.WALK: "proc-walker"}
    return _file(recording.encode_frame(kind, data[1:]), sources.get(kind, "bpf"))


class _InMemory(ReplaySource):
    """A recording that is in no file."""

    def __init__(self, data: bytes) -> None:
        super().__init__(Path("in-memory"))
        self._data = data

    def _read(self) -> bytes:
        return self._data


def _replay(data: bytes) -> None:
    """Run a recording with a right checksum through the whole pipeline."""
    source = _InMemory(_with_frame(data))
    tree, cache = PidTree(), ProcCache()
    sink = JsonlSink(io.StringIO(), tree, cache, RecordOptions("replay", "0", 0))
    pipeline = Pipeline(source, Tracker(tree, cache), sink)
    try:
        pipeline.start()
    except SourceUnavailableError:
        return
    for _ in range(4):
        pipeline.pump()
    pipeline.finish()
    pipeline.summary()


_TARGETS: dict[str, tuple[Callable[[bytes], Any], Callable[[], list[bytes]]]] = {
    "samples": (decode, _samples),
    "netlink": (_iterate, _datagrams),
    "connector-stream": (_stream, _datagrams),
    "proc-stat": (
        parse_stat,
        lambda: [b"7 (a) b) S 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0\n"],
    ),
    "proc-status": (
        parse_status,
        lambda: [b"Name:\tsh\nTgid:\t7\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t7\t1\n"],
    ),
    "btf": (_search, _btf),
    "recording": (
        recording.decode_recording,
        lambda: [_file(frame) for frame in _frames()],
    ),
    "recording-frames": (
        lambda data: recording.decode_recording(_with_frame(data)),
        lambda: [bytes([frame[0] - 1]) + frame[5:-4] for frame in _frames()],
    ),
    "replay": (
        _replay,
        # _with_frame() counts kinds from 0, without END.
        lambda: [bytes([frame[0] - 1]) + frame[5:-4] for frame in _frames()],
    ),
}


def main() -> None:
    """Run a target."""
    if len(sys.argv) < 2 or sys.argv[1] not in _TARGETS:  # noqa: PLR2004 - its name
        sys.exit(f"{__doc__}\nTargets: {', '.join(_TARGETS)}")
    function, samples = _TARGETS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        with suppress(DecodeError):
            function(data)

    with tempfile.TemporaryDirectory(prefix="proctree-bpf-corpus-") as corpus:
        for number, sample in enumerate(samples()):
            one(sample)
            Path(corpus, f"sample-{number}").write_bytes(sample)
        options = sys.argv[1:]
        own = [] if any(not option.startswith("-") for option in options) else [corpus]
        atheris.Setup([sys.argv[0], *options, *own], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
