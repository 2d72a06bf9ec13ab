"""Replays a recording through the very path that the live events went."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.proc_files import Stat
from proctree_bpf.codecs.recording import Frame, FrameKind, decode_recording
from proctree_bpf.codecs.sample_decoder import ALWAYS_TOLD, KINDS, MAX_COPIES
from proctree_bpf.errors import DecodeError, Refusal, SourceUnavailableError
from proctree_bpf.sources.base import Delivery, Snapshot
from proctree_bpf.sources.system.causes import unavailable_as
from proctree_bpf.streams.connector import ConnectorStream
from proctree_bpf.streams.connector_count import SOURCE as CONNECTOR
from proctree_bpf.streams.perf import PerfStream
from proctree_bpf.streams.walk import SOURCE as WALKER
from proctree_bpf.streams.walk import WalkStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from proctree_bpf.codecs.inputs import Drain
    from proctree_bpf.codecs.proc_files import Reading
    from proctree_bpf.codecs.recording import Answers, SnapshotPart
    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.model import ProcInfo

_BPF = "bpf"
_FRAMES_OF = {_BPF: FrameKind.DRAIN, CONNECTOR: FrameKind.RECEIVED, WALKER: FrameKind.WALK}
# ktime_t: the kernel's own times are less, and a calendar of four digits has room for them.
_MOST_NS = 2**63 - 1


class _RepliedLook:
    """Gives the recorded answers in their order."""

    def __init__(self) -> None:
        self._answers: list[Stat | Reading | None] = []

    def load(self, answers: Answers) -> None:
        self._answers = list(reversed(answers))

    def stat(self, _pid: int) -> Stat | None:
        answer = self._answers.pop() if self._answers else None
        return answer if isinstance(answer, Stat) else None

    def entry(self, _pid: int) -> tuple[Stat, ProcInfo] | None:
        answer = self._answers.pop() if self._answers else None
        return None if isinstance(answer, Stat) else answer


def _check_facts(header: dict[str, Any]) -> None:
    spots = header.get("blind_spots", [])
    if not isinstance(spots, list) or not all(isinstance(spot, str) for spot in spots):
        raise DecodeError("its header's blind spots are no sentences")
    for name, kind in (("boot_id", str), ("has_outside", bool), ("wall_offset_ns", int)):
        if type(header.get(name, kind())) is not kind:
            raise DecodeError(f"its header's {name} is not what it should be")
    if abs(header.get("wall_offset_ns", 0)) > _MOST_NS:
        raise DecodeError("its header's wall_offset_ns is impossible")


def _copies(header: dict[str, Any]) -> int:
    offsets = header.get("offsets", {})
    copies = offsets.get("COPIES", 1) if isinstance(offsets, dict) else None
    if type(copies) is not int or not 0 < copies <= MAX_COPIES:
        raise DecodeError("its header tells of an impossible number of programs")
    return copies


def _check_counters(drain: Drain, cpus: object, copies: int) -> None:
    counted = {len(counters.begun) for counters in drain.counters}
    known = {len(KINDS) * copies}
    if copies == 1:  # recordings from before a kind was added: new ones come last
        known = set(range(len(ALWAYS_TOLD), len(KINDS) + 1))
    if len(drain.counters) != cpus or len(counted) != 1 or not counted <= known:
        raise DecodeError("a drain has counters for other CPUs or kinds")


def _check_times(frame: Frame) -> None:
    """Refuse a process that has started when no clock of the kernel can have been."""
    if frame.kind is FrameKind.SNAPSHOT:
        stats = [stat for stat, _ in frame.content.readings]
        infos = [info for _, info in frame.content.readings]
    elif frame.kind in (FrameKind.WALK, FrameKind.RECEIVED):
        content, answers = frame.content
        stats = list(content.stats) if frame.kind is FrameKind.WALK else []
        found = [answer for answer in answers if answer is not None]
        stats += [each if isinstance(each, Stat) else each[0] for each in found]
        infos = [each[1] for each in found if not isinstance(each, Stat)]
    else:
        return
    times = [stat.start_ns for stat in stats]
    for info in infos:
        times += [info.start_time_ns, info.exec_ns or 0, info.exited_ns or 0, info.cpu_ns or 0]
    if max(times, default=0) > _MOST_NS:
        raise DecodeError(f"a frame of kind {frame.kind.name} tells of an impossible time")


class ReplaySource:
    """An ``EventSource`` that reads a recording, as fast as it can."""

    name = "replay"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames: list[Frame] = []
        self._position = 0
        self._now_ns = 0
        self._watermark_ns = 0
        self._reader = _RepliedLook()
        self._perf: PerfStream | None = None
        self._connector = ConnectorStream(self._reader)
        self._walker = WalkStream(self._reader)
        self._ready: int | None = None
        self.header: dict[str, Any] = {}
        self.cut_at: int | None = None

    @property
    def cut_short(self) -> str:
        """What to say of a recording that is not complete; else empty."""
        if self.cut_at is None:
            return ""
        return f"{self._path} is cut short at byte {self.cut_at}; it is replayed up to there"

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What the recorded source could not know."""
        return tuple(self.header.get("blind_spots", ()))

    def open(self) -> None:
        """Read and check the whole file, unless that was done."""
        if not self.header:
            self.load()

    def load(self) -> None:
        """Read and check the whole file."""
        remedy = "give the name of a file made with --record"
        try:
            with unavailable_as(f"{self._path} cannot be read", remedy, Refusal.BAD_DATA):
                recording = decode_recording(self._read())
            self.cut_at = recording.cut_at
            self._prepare(recording.frames)
        except DecodeError as error:
            raise SourceUnavailableError(
                f"{self._path} cannot be replayed: {error}",
                "give a file made with --record by this version",
                Refusal.BAD_DATA,
            ) from error

    def _read(self) -> bytes:
        """Read a regular file; any other could keep us waiting, or never end."""
        with open(self._path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DecodeError("it is no regular file")
            return file.read()

    def _prepare(self, frames: list[Frame]) -> None:
        header, *self._frames = frames
        self.header = header.content
        source = self.header["source"]
        _check_facts(self.header)
        if source not in _FRAMES_OF:
            raise DecodeError(f"it was recorded from an unknown source, {source}")
        if source == _BPF:
            cpus, started_ns = self.header.get("cpus"), self.header.get("started_ns")
            if type(cpus) is not int or type(started_ns) is not int or not 0 < cpus <= 1 << 16:
                raise DecodeError("its header lacks what the BPF source needs")
            copies = _copies(self.header)
            self._perf = PerfStream(self.name, cpus, started_ns, copies)
        for frame in self._frames:
            if frame.kind not in (_FRAMES_OF[source], FrameKind.SNAPSHOT):
                raise DecodeError(f"a frame of kind {frame.kind.name} does not belong in it")
            _check_times(frame)
            if frame.kind is FrameKind.DRAIN:
                _check_counters(frame.content, cpus, copies)
        self._leave_out_cut_snapshot()

    def _leave_out_cut_snapshot(self) -> None:
        """Leave out the parts of a snapshot that is cut short: who is missing has not ended."""
        for at in range(len(self._frames) - 1, -1, -1):
            frame = self._frames[at]
            if frame.kind is FrameKind.SNAPSHOT:
                if frame.content.last:
                    return
                if self.cut_at is None:
                    raise DecodeError("its last snapshot is not complete")
                del self._frames[at]

    def read_snapshot(
        self, progress: Callable[[], object], not_before_ns: int = 0
    ) -> Snapshot | None:
        """Return the snapshot that was recorded at this place, if there is one."""
        del not_before_ns
        if not self._at_snapshot():
            return None
        parts: list[SnapshotPart] = []
        while not parts or not parts[-1].last:
            before = self._position
            if self._at_snapshot():
                parts.append(self._next_part())
            else:
                progress()
            if self._position == before:
                self.poll()  # it was no progress
        readings = [reading for part in parts for reading in part.readings]
        return Snapshot(parts[0].begun_ns, parts[-1].ended_ns, readings)

    def _at_snapshot(self) -> bool:
        at = self._position
        return at < len(self._frames) and self._frames[at].kind is FrameKind.SNAPSHOT

    def _next_part(self) -> SnapshotPart:
        part: SnapshotPart = self._frames[self._position].content
        self._position += 1
        self._now_ns = part.ended_ns
        if self.header["source"] == CONNECTOR:
            self._connector.meet(stat for stat, _ in part.readings)
        return part

    def poll(self) -> Delivery:
        """Return what the next frame brings."""
        while self._at_snapshot():
            self._next_part()  # nobody wants to know
        if self._position == len(self._frames):
            return Delivery(self._watermark_ns, end=True)
        self._position += 1
        return self._deliver(self._frames[self._position - 1])

    def _deliver(self, frame: Frame) -> Delivery:
        events: Sequence[AnyEvent]
        if frame.kind is FrameKind.DRAIN and self._perf is not None:
            self._now_ns = frame.content.taken_ns
            events, gaps, watermark_ns = self._perf.feed(frame.content)
        elif frame.kind is FrameKind.RECEIVED:
            received, answers = frame.content
            self._reader.load(answers)
            self._now_ns = received.boottime_ns
            events, gaps, watermark_ns = self._connector.feed(received)
            if self._position == len(self._frames):
                events += self._connector.flush()
        else:
            walk, answers = frame.content
            self._reader.load(answers)
            self._now_ns = walk.taken_ns
            events, watermark_ns = self._walker.feed(walk)
            gaps = []
        self._watermark_ns = max(self._watermark_ns, watermark_ns)
        end = self._position == len(self._frames)
        return Delivery(watermark_ns, events, gaps, end)

    def now_ns(self) -> int:
        """Return the recorded time of the last frame."""
        return self._now_ns

    def is_quiet(self) -> bool:
        """Return False: there is more until the end."""
        return False

    def fileno(self) -> int | None:
        """Return a descriptor that is always readable: nothing has to be waited for."""
        if self._ready is None:
            self._ready = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._ready

    def stop(self) -> None:
        """Do nothing: a recording ends by itself."""

    def close(self) -> None:
        """Forget the frames."""
        self._frames = []
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None

    def stats(self) -> dict[str, Any]:
        """Return what was received and lost, as the recorded source would have."""
        source = self.header.get("source")
        stream = self._perf or (self._connector if source == CONNECTOR else self._walker)
        return {
            "startup_seconds": {},
            "recorded_source": source,
            "cut_short": self.cut_at is not None,
            **stream.summary(),
        }


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
