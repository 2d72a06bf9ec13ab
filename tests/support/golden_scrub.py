"""Takes out of a recording what is private of the machine it was made on.

What belongs to the scene stays as it is, byte for byte. Of every other process stay its
PIDs, times and place in the tree; its name, arguments, file and user become harmless ones.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from proctree_bpf import CacheParams, Exec, PidTree, ProcCache
from proctree_bpf.codecs import recording
from proctree_bpf.codecs.cn_proc import What
from proctree_bpf.codecs.proc_files import Stat
from proctree_bpf.codecs.recording import Frame, FrameKind, decode_recording
from proctree_bpf.codecs.sample_decoder import (
    EXEC,
    EXIT,
    FORK,
    HEADER,
    KEY_START,
    KINDS,
    MET,
    RENAME,
    decode,
)
from proctree_bpf.core import lineage
from proctree_bpf.core.identity import TICK_NS
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.streams.connector_count import SOURCE as CONNECTOR

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf.core.model import ProcInfo

STAGE = "/tmp/golden"  # where every program of a scene lies
_OF_THE_SCENE = (f"{STAGE}/", "/memfd:")
_KTHREADD = 2
_MOST_STRANGERS = 400
_BOOT_ID = "5e1f0000-0000-4000-8000-0000000901de"
_BEGIN_NS = 1_767_323_045_000_000_000  # 2026-01-02 03:04:05 UTC
DIRECTOR = "director"  # what the one is called that begins all of a scene
_HEADER_FACTS = ("source", "cpus", "started_ns", "blind_spots", "boottime_ns")
_CN_EVENT = struct.Struct("=IIQII")  # what, cpu, time and what follows: pid and tgid
_CN_EVENT_AT = 16 + 20  # behind the netlink header and the cn_msg


class StrangerError(Exception):
    """Another process of the machine was in the way of the scene."""


class _Nothing:
    """A sink that keeps nothing."""

    def write(self, _applied: object) -> None: ...
    def gap(self, _gap: object) -> None: ...
    def flush(self) -> None: ...
    def finish(self) -> None: ...


class Who(NamedTuple):
    """A process by its PID and, if it is known, its start in ticks."""

    pid: int
    ticks: int | None = None


def _who(pid: int, start_ns: int) -> Who:
    return Who(pid, start_ns // TICK_NS)


@dataclass
class Cast:
    """Who plays in a scene: the descendants of its director."""

    director: int
    tracer: int
    members: set[Who] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)
    kernel: set[int] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)

    def is_member(self, who: Who) -> bool:
        return who in self.members if who.ticks is not None else who.pid in self.pids

    def other(self, pid: int, comm: str) -> str:
        """Return a harmless name for a stranger's."""
        if pid in self.kernel:
            return comm
        if pid == 1:
            return "init"
        if pid in {self.director, self.tracer}:
            return DIRECTOR
        return self.names.setdefault(comm, f"other-{len(self.names) + 1}")

    def name(self, who: Who, comm: str) -> str:
        """Return the name of anybody; a member may have that of the director still."""
        if not self.is_member(who):
            return self.other(who.pid, comm)
        return DIRECTOR if comm.startswith(("python", "proctree-bpf")) else comm


def cast_of(path: Path, director: int, tracer: int) -> Cast:
    """Replay a recording, and find out who descends from the director."""
    bounds = CacheParams(1 << 20, 1e6)
    tree, cache = PidTree(bounds), ProcCache(bounds)
    source = ReplaySource(path)
    pipeline = Pipeline(source, Tracker(tree, cache), _Nothing())
    pipeline.start()
    while not pipeline.ended:
        pipeline.pump()
    pipeline.finish()
    pipeline.close()
    cast = Cast(director, tracer)
    strangers = set()
    for node in tree.all_nodes():
        above = [creator.pid for creator in lineage.lineage(tree, node.key)]
        assert len(above) < 58, f"a chain of {len(above)} links is too deep for a golden run"
        if _KTHREADD in above:
            cast.kernel.add(node.pid)
        elif director in above[1:] and node.pid != tracer:
            cast.members.add(_who(*node.key))
        else:
            strangers.add(node.pid)
    if len(strangers) > _MOST_STRANGERS:
        raise StrangerError(f"{len(strangers)} strangers are too many for a small recording")
    cast.pids = {who.pid for who in cast.members}
    taken = cast.pids & strangers
    if taken and source.header["source"] == CONNECTOR:  # its messages tell no start times
        raise StrangerError(f"a stranger had the PID of a member: {taken}")
    return cast


def scrub(path: Path, director: int, tracer: int) -> bytes:
    """Return a recording without what is private."""
    cast = cast_of(path, director, tracer)
    header, *frames = decode_recording(path.read_bytes()).frames
    parts = [recording.encode_header(_header(header.content))]
    parts += [_frame(cast, frame) for frame in frames]
    return b"".join([*parts, recording.encode_end()])


def _header(content: dict[str, Any]) -> dict[str, Any]:
    facts = {name: content[name] for name in _HEADER_FACTS if name in content}
    copies = content.get("offsets", {}).get("COPIES", 1)
    offset = _BEGIN_NS - content["boottime_ns"]
    return {
        **facts,
        "host": "golden",
        "kernel": content["kernel"].partition("-")[0],
        "machine": content["machine"],
        "boot_id": _BOOT_ID,
        "wall_offset_ns": offset,
        "offsets": {"COPIES": copies},
    }


def _frame(cast: Cast, frame: Frame) -> bytes:
    content = frame.content
    if frame.kind is FrameKind.SNAPSHOT:
        readings = [_reading(cast, *reading) for reading in content.readings]
        return recording.encode_snapshot(content._replace(readings=readings))
    if frame.kind is FrameKind.DRAIN:
        samples = [(cpu, _record(cast, data)) for cpu, data in content.samples]
        return recording.encode_drain(content._replace(samples=samples))
    what, looks = content
    looks = [_answer(cast, answer) for answer in looks]
    if frame.kind is FrameKind.WALK:
        stats = [_stat(cast, stat) for stat in what.stats]
        return recording.encode_walk(what._replace(stats=stats), looks)
    datagrams = [_datagram(cast, data) for data in what.datagrams]
    return recording.encode_received(what._replace(datagrams=datagrams), looks)


def _stat(cast: Cast, stat: Stat) -> Stat:
    return stat._replace(comm=cast.name(Who(stat.pid, stat.start_ticks), stat.comm))


def _answer(cast: Cast, answer: Any) -> Any:
    if isinstance(answer, Stat):
        return _stat(cast, answer)
    return answer if answer is None else _reading(cast, *answer)


def _reading(cast: Cast, stat: Stat, info: ProcInfo) -> tuple[Stat, ProcInfo]:
    who = Who(stat.pid, stat.start_ticks)
    name = cast.name(who, info.cmd)
    info = replace(info, cmd=name)
    if not cast.is_member(who):
        info = replace(info, uid=0, gid=0, user="root")
    if not _is_of_the_scene(cast, who, info.executable):
        path, args = _harmless(cast, who, name, info.executable, info.args_raw)
        info = replace(info, executable=path, args_raw=args)
    return _stat(cast, stat), info


def _is_of_the_scene(cast: Cast, who: Who, path: str | None) -> bool:
    return cast.is_member(who) and path is not None and path.startswith(_OF_THE_SCENE)


def _harmless(
    cast: Cast, who: Who, name: str, path: str | None, args: bytes | None
) -> tuple[str | None, bytes | None]:
    own = DIRECTOR if cast.is_member(who) else name
    count = min(args.count(b"\0"), 3) if args else 0
    words = [f"/usr/bin/{own}", "--an-option", "value"][:count]
    raw = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
    return path and f"/usr/bin/{own}", raw if args is not None else None


def _comm(cast: Cast, who: Who, raw: bytes) -> bytes:
    comm = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return cast.name(who, comm).encode("utf-8", "surrogateescape")[:15]


def _record(cast: Cast, data: bytes) -> bytes:
    kind = KINDS[HEADER.unpack_from(data)[3] % len(KINDS)]
    if kind == "exec":
        return _exec(cast, data)
    layout, pid_at, ids_at = {
        "fork": (FORK, 10, (14, 15)),
        "exit": (EXIT, 10, (12, 13)),
        "rename": (RENAME, 7, ()),
    }.get(kind, (MET, 9, (11, 12)))
    fields = list(layout.unpack_from(data))
    who = _who(fields[pid_at], fields[6])
    if not fields[-1][-1]:  # or the BPF side has noted no name
        fields[-1] = _comm(cast, who, fields[-1])
    if not cast.is_member(who):
        for index in ids_at:
            fields[index] = 0
    start = data[layout.size :][: KEY_START.size] if kind in {"exit", "rename"} else b""
    return layout.pack(*fields) + start


def _exec(cast: Cast, data: bytes) -> bytes:
    fields = list(EXEC.unpack_from(data))
    who, comm, lengths = _who(fields[9], fields[6]), fields[13], fields[15:18]
    ends = [EXEC.size + sum(lengths[:n]) for n in range(4)]
    parts = [data[begin:end] for begin, end in pairwise(ends)]
    components = [part.decode("utf-8", "surrogateescape") for part in parts[0].split(b"\0") if part]
    path = "/" + "/".join(reversed(components)) if components else None
    if parts[0].startswith(b"memfd:"):
        path = "/memfd:"
    fields[13] = _comm(cast, who, comm)
    if not cast.is_member(who):
        fields[11:13] = 0, 0
    if not _is_of_the_scene(cast, who, path):
        name = cast.name(who, comm.partition(b"\0")[0].decode("utf-8", "surrogateescape"))
        path, args = _harmless(cast, who, name, path, parts[2])
        file = b"\0".join(part.encode() for part in reversed((path or "").split("/")) if part)
        parts = [file + b"\0" if file else b"", (path or "").encode() + b"\0", args or b""]
    fields[15:18] = map(len, parts)
    return EXEC.pack(*fields) + b"".join(parts)


def _datagram(cast: Cast, data: bytes) -> bytes:
    """Change names and users in a datagram of one message, as the kernel sends them."""
    if len(data) < _CN_EVENT_AT + _CN_EVENT.size:
        return data
    what, _, _, _, tgid = _CN_EVENT.unpack_from(data, _CN_EVENT_AT)
    at = _CN_EVENT_AT + _CN_EVENT.size
    changed = bytearray(data)
    if what == What.COMM:
        changed[at : at + 16] = _comm(cast, Who(tgid), data[at : at + 16]).ljust(16, b"\0")
    elif what in {What.UID, What.GID} and not cast.is_member(Who(tgid)):
        changed[at : at + 8] = bytes(8)
    return bytes(changed)


def programs(data: bytes) -> set[str]:
    """Return the paths of all program files that a recording tells of."""
    found: set[str | None] = set()
    for frame in decode_recording(data).frames[1:]:
        content = frame.content
        if frame.kind is FrameKind.DRAIN:
            events = [decode(record).event for _, record in content.samples]
            found.update(event.executable for event in events if isinstance(event, Exec))
            continue
        looked = content.readings if frame.kind is FrameKind.SNAPSHOT else content[1]
        found.update(
            one[1].executable for one in looked if one is not None and not isinstance(one, Stat)
        )
    return {path for path in found if path is not None}
