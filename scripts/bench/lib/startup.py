"""The start, by phase, cold and warm; and a command run under a trace."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compared_tools import Strace
from figures import Figure, NotRunError
from running_tool import last_line, says_it_traces, tool, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from context import Bench

# Where compiled programs are kept; aside for a cold start, and back afterwards.
COMPILED = (Path("/var/cache/proctree-bpf"),)
_MB = 1e6
_WAYS = {"unfiltered": (), "kernel filter": ("--ancestor", "nobody", "--filter-in", "kernel")}
_NOTHING = ["true"]


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """Have no compiled programs on disk."""
    suffix = f".aside-{os.getpid()}"
    aside = [(path, path.with_name(path.name + suffix)) for path in COMPILED]
    moved = [(path, other) for path, other in aside if path.is_dir()]
    for path, other in moved:
        path.rename(other)
    try:
        yield
    finally:
        for path, other in moved:
            _put_back(other, path)


def _put_back(aside: Path, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    aside.rename(path)


class _Starts:
    """The figures of one way to start."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.figures: dict[str, Figure] = {}

    def add(self, what: str, unit: str, value: float) -> None:
        figure = self.figures.setdefault(what, Figure(f"{self.name}: {what}", unit))
        figure.samples.append(value)

    def run(self, bench: Bench, words: tuple[str, ...]) -> None:
        directory = bench.place("start")
        stats, err = directory / "stats", directory / "err"
        command = [bench.program, "trace", "-f", "jsonl", "--stats-file", str(stats), *words]
        with tool(command, directory / "out", err) as running:
            running.await_ready(says_it_traces(err))
            self.add("until it says that it traces", "s", running.ready_s)
            self.add("CPU until then", "s", running.cpu_now_s())
            self.add("RSS then", "MB", running.resident_bytes() / _MB)
            running.interrupt()
        self.add("RSS at its highest", "MB", running.peak_bytes / _MB)
        self.add("Ctrl-C to its end", "s", running.stop_s)
        for phase, seconds in json.loads(stats.read_bytes())["startup_seconds"].items():
            self.add(f"phase {phase}", "s", seconds)


def start(bench: Bench) -> Iterator[Figure]:
    """Start and stop, by turns cold and warm."""
    starts = {(way, heat): _Starts(f"{way}, {heat}") for way in _WAYS for heat in ("cold", "warm")}
    for _ in range(bench.pick(1, 7)):
        for way in random.sample(list(_WAYS), len(_WAYS)):
            with nothing_compiled():
                starts[way, "cold"].run(bench, _WAYS[way])
                starts[way, "warm"].run(bench, _WAYS[way])
    for one in starts.values():
        yield from one.figures.values()


def _seconds(bench: Bench, words: list[str]) -> float:
    directory = bench.place("command")
    begun = time.monotonic()
    with tool(words, directory / "out", directory / "err") as running:
        wait_for(f"{words[0]} ends", running.has_ended)
        if running.status:
            raise RuntimeError(f"{words[0]} ended with {running.status}: {last_line(running.err)}")
        return time.monotonic() - begun


def command(bench: Bench) -> Iterator[Figure]:
    """Run ``true`` bare, under strace and under a trace, by turns."""
    log = str(bench.place("log") / "log")
    ours = [bench.program, "trace", "-f", "jsonl", "-o", log, "--", *_NOTHING]
    ways = {"true": _NOTHING, "trace -- true, warm": ours}
    try:
        ways["strace -f true"] = [*Strace().prefix(Path(log).parent, 0), *_NOTHING]
    except NotRunError as reason:
        yield Figure("strace -f true", note=f"not run: {reason}")
    found = {name: Figure(name, "s") for name in (*ways, "trace -- true, cold")}
    for _ in range(bench.pick(2, 9)):
        with nothing_compiled():
            found["trace -- true, cold"].samples.append(_seconds(bench, ours))
            for name in random.sample(list(ways), len(ways)):
                found[name].samples.append(_seconds(bench, ways[name]))
    yield from found.values()
