"""Replays golden recordings through the program and through the library.

The one place that knows what of a replay depends on the machine or the moment:
``_UNSTABLE`` of the statistics, and the seconds that messages tell.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import pty
import re
import struct
import sys
import tempfile
import termios
import threading
import tty
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proctree_bpf import (
    CacheParams,
    Collector,
    PidNode,
    ProcInfo,
    ReplaySource,
    ancestry,
    children,
    descendants,
    display,
    find_by_cmd,
    find_by_user,
    siblings,
)
from proctree_bpf.cli import main
from proctree_bpf.codecs.recording import FrameKind, decode_recording
from proctree_bpf.core.lineage import build_chain_string
from support.golden_scrub import DIRECTOR, STAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import Enum

_UNSTABLE = ("startup_seconds", "traced_seconds", "repair_seconds")
_COLUMNS, _ROWS = 110, 40

ALL_EVENTS = ("-e", "fork,exec,exit")
_JSON = ("-f", "jsonl", *ALL_EVENTS)
_CHAIN = ("-f", "chain", *ALL_EVENTS)
EVERY = {
    "all": _JSON,
    "table": ("-f", "table", "--utc", *ALL_EVENTS),
    "terminal": ("-f", "table", "-t", "--utc"),
    "chain": _CHAIN,
    "tree": ("-f", "tree", "-T", "--utc"),
    "capacity": (*_JSON, "--capacity", "60"),
    "ttl-0": (*_JSON, "--ttl", "0"),
    "ancestor": ("-f", "jsonl", "--ancestor", "actor,clansman,sshd"),
}
"""What each recording is replayed with."""
FILTERED = {
    "defaults": ("-f", "jsonl"),
    "fields": ("-f", "table", "--fields", "timestamp,event,pid,ppid,uid,comm,exit,cpu,command"),
    "colour": ("-f", "table", "--utc", "--color", "always", "--max-args", "1"),
    "capacity-8": (*_CHAIN, "--capacity", "8"),
    "ttl-1": (*_CHAIN, "--ttl", "1"),
    "not-ancestor": (*_CHAIN, "--not-ancestor", "sshd"),
    "without-itself": (*_CHAIN, "--ancestor", "bash", "--no-include-self"),
    "by-parent": (*_JSON, "--by-parent", "--ancestor", "sshd"),
    "exe": (*_CHAIN, "--ancestor-exe", f"{STAGE}/make"),
    "exe-glob": (*_CHAIN, "--ancestor-exe", f"{STAGE}/c*"),
    "regex": (*_CHAIN, "--ancestor-regex", r"login\.sh|compile.sh [12]"),
    "failed": ("-f", "jsonl", "--failed"),
    "not-failed": (*_CHAIN, "--not-failed", "--ancestor", "make"),
    "user": (*_CHAIN, "--user", "4000001"),
    "not-user": (*_CHAIN, "--not-user", "4000001", "--ancestor", "sshd"),
    "name": (*_CHAIN, "--name", "cc,quit", "--not-line", "status="),
    "line": (*_JSON, "--line", r"quit.* [0-9]$"),
    "age": ("-f", "jsonl", "--min-age", "0.002", "--max-age", "30"),
    "short-of-room": (*_CHAIN, "--capacity", "40", "--not-ancestor", "make"),
    "tree-below": ("-f", "tree", "--utc", "--ancestor", "make"),
    "ancestor-pid": (*_CHAIN, "--ancestor-pid", "DIRECTOR", "--not-pid", "DIRECTOR"),
    "ppid": (*_JSON, "--ppid", "DIRECTOR"),
}
"""What recordings of a session are replayed with beside."""
QUERIES = {
    "queries": CacheParams(),
    "queries-capacity": CacheParams(60),
    "queries-ttl-0": CacheParams(ttl_secs=0),
}
"""The bounds under which the library is asked about the tree that is left at the end."""
NAMES = ("init", "actor", "clansman", "sshd", "bash", "make", "former", "no such name")


def replays_of(recording: str) -> list[str]:
    """Return the names of the replays of a recording."""
    more = FILTERED if recording.startswith("session") else {}
    return [*EVERY, *more, *QUERIES]


def replay(recording: Path, name: str) -> dict[str, list[str]]:
    """Replay a recording; return lines by what they are: the output, and what was told."""
    if name in QUERIES:
        return {"out": _asked(recording, QUERIES[name])}
    return _traced(recording, (EVERY | FILTERED)[name], terminal=name == "terminal")


def _traced(recording: Path, options: tuple[str, ...], *, terminal: bool) -> dict[str, list[str]]:
    options = tuple(_director(recording) if word == "DIRECTOR" else word for word in options)
    with tempfile.TemporaryDirectory() as directory:
        stats, out = Path(directory, "stats"), Path(directory, "out")
        words = ["trace", *options, "--source", f"replay:{recording}", "--stats-file", str(stats)]
        if terminal:
            with _terminal(out) as path:
                code, said = _run([*words, "-o", path])
        else:
            code, said = _run([*words, "-o", str(out)])
        told = {"status": code, "said": said, "stats": _stable(json.loads(stats.read_text()))}
        lines = out.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    return {"out": lines, "told": json.dumps(told, indent=1).split("\n")}


def _director(recording: Path) -> str:
    """Return the PID of the process that began everything of the scene."""
    frames = decode_recording(recording.read_bytes()).frames
    parts = [frame.content for frame in frames if frame.kind is FrameKind.SNAPSHOT]
    found = [info.tgid for part in parts for _, info in part.readings if info.cmd == DIRECTOR]
    return str(min(found))


def _stable(stats: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in stats.items() if name not in _UNSTABLE}
    kept["snapshot"] = kept["snapshot"]["processes"]
    return kept


def _run(words: list[str]) -> tuple[object, list[str]]:
    """Run the program in this process; return its status and what it said on stderr."""
    thresholds, argv, environment = gc.get_threshold(), sys.argv, dict(os.environ)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        os.environ.pop(name, None)
    os.environ["TERM"] = "xterm-256color"
    sys.argv = ["proctree-bpf", *words]
    status: object = None
    with _stderr() as said:
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ.update(environment)
            gc.unfreeze()
            gc.set_threshold(*thresholds)
    lines = [re.sub(r"\b\d+\.\d+ s\b", "N s", line) for line in said]
    return status, lines


@contextmanager
def _stderr() -> Iterator[list[str]]:
    """Catch what is written to descriptor 2; the lines are there when the block has ended."""
    lines: list[str] = []
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            lines += file.read().decode("utf-8", "surrogateescape").splitlines()


@contextmanager
def _terminal(copy: Path) -> Iterator[str]:
    """Offer a terminal of a fixed width; what is written to it goes to a file at the end."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    parts: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # EIO: nobody has the other end any more
                return
            if not part:
                return
            parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield os.ttyname(theirs)
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
        copy.write_bytes(b"".join(parts))


class _Whole(ReplaySource):
    """A recording that says when it was replayed to its end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.closed = threading.Event()

    def close(self) -> None:
        super().close()
        self.closed.set()


def _asked(recording: Path, params: CacheParams) -> list[str]:
    """Return what the library says of the tree that is left: a JSON line per process."""
    source = _Whole(recording)
    collector = Collector(source, capacity=params.capacity, ttl_s=params.ttl_secs)
    collector.start()
    source.closed.wait(60)
    collector.stop()
    tree, cache = collector.tree.pid_tree, collector.tree.proc_cache
    nodes = sorted(tree.all_nodes(), key=lambda node: node.key)
    lines = [json.dumps(_answers(collector, node)) for node in nodes]
    living = [node for node in nodes if node.exited_ns is None]
    roots = [node.key for node in nodes if not node.ppid]
    drawn = [line for key in roots for line in display(tree, key).split("\n")]
    users = {info.user for node in nodes if (info := cache.get_info(node.key)) is not None}
    summary = {
        "found": {name: find_by_cmd(tree, name) for name in NAMES},
        "living_found": {name: find_by_cmd(tree, name, live_only=True) for name in NAMES},
        "of_user": {user: find_by_user(tree, cache, user) for user in sorted(users)},
        "processes": len(tree),
        "living": len(living),
        "details": len(cache),
        "pids": len(tree.all_pids()),
        "stats": _stable(collector.stats()),
    }
    return [*lines, *drawn, json.dumps(summary)]


def _answers(collector: Collector, node: PidNode) -> dict[str, Any]:
    tree, cache, key = collector.tree.pid_tree, collector.tree.proc_cache, node.key
    info, process = cache.get_info(key), collector.process(key)
    return {
        "key": list(key),
        "pid": node.pid,
        "has_its_pid": tree.get_node(node.pid) == node,
        "node": _values(node, PidNode),
        "info": None if info is None else _values(info, ProcInfo),
        "chain": build_chain_string(tree, cache, key),
        "ancestry": {name: ancestry(tree, key, name).value for name in NAMES},
        "children": children(tree, key),
        "living_children": children(tree, key, live_only=True),
        "descendants": descendants(tree, key),
        "living_descendants": descendants(tree, key, live_only=True),
        "siblings": siblings(tree, key),
        "parents": [list(above.key) for above in process.creators()],
        "process": [
            process.name(),
            node.ppid,
            process.username() or (None if info is None else info.user),
            process.exe(),
            process.cmdline(),
            process.is_running(),
            [below.pid for below in process.children(recursive=True, live_only=True)],
        ],
    }


def _values(value: PidNode | ProcInfo, kind: type) -> dict[str, Any]:
    found = {item.name: getattr(value, item.name) for item in fields(kind) if item.init}
    if not found.get("fork_missed"):  # said of those that it is true of
        found.pop("fork_missed", None)
    return {name: _plain(item) for name, item in found.items()}


def _plain(value: bytes | Enum | tuple[int, ...] | object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return list(value)
    return getattr(value, "value", value)
