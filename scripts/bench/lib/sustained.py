"""A load that goes on: whether all is told, in how much memory, and how soon it ends."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from context import say
from figures import Figure, NotRunError
from spawning import ENDLESS, TOKEN, build, loading
from tracing import last_line, says_it_traces, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from context import Bench
    from spawning import Burst
    from tracing import Tool

_MB = 1e6
# Generously: two records of 1 kB of each process, 25 000 a second.
_BYTES_A_SECOND = 50e6
_UNTRACED_S = 3.0
_STAMP = re.compile(rb'^\{"@timestamp":"([^"]+)"')


class _Run:
    """One run of our program beside a load."""

    def __init__(self, bench: Bench, spawners: int) -> None:
        self.directory = bench.place("sustained")
        build(self.directory)
        self._spawners = spawners
        self.records = self.directory / "records"
        self._stats = self.directory / "stats"
        self.command = [
            bench.program, "trace", "-f", "jsonl", "-o", str(self.records),
            "--stats-file", str(self._stats),
        ]  # fmt: skip

    def check_room(self, seconds: float) -> None:
        need = _BYTES_A_SECOND * seconds
        if shutil.disk_usage(self.directory).free < need:
            raise NotRunError(f"its records may need {need / 1e9:.0f} GB of {self.directory}")

    def untraced(self) -> float:
        with loading(self.directory, ENDLESS, self._spawners) as load:
            time.sleep(_UNTRACED_S)
            return load.stop().per_second

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self._stats.read_bytes())
        return stats


def _exits_written(records: Path) -> int:
    """Count the records of the ends of those that were spawned."""
    wanted = re.compile(rb'"action":"exit"\},"process":\{[^{}]*"name":"name-')
    with records.open("rb") as lines:
        return sum(1 for line in lines if TOKEN.encode() in line and wanted.search(line))


def _traced(run: _Run, spawners: int, seconds: float) -> tuple[Burst, Tool]:
    """Let a load go on for so long under a trace, and press Ctrl-C once it has ended."""
    err = run.directory / "err"
    with tool(run.command, run.directory / "out", err) as running:
        running.await_ready(says_it_traces(err))
        with loading(run.directory, ENDLESS, spawners) as load:
            time.sleep(seconds)
            burst = load.stop()
        running.interrupt()
    return burst, running


def _endured(bench: Bench, spawners: int, seconds: float) -> Iterator[Figure]:
    run = _Run(bench, spawners)
    run.check_room(seconds)
    around = [run.untraced()]
    burst, running = _traced(run, spawners, seconds)
    around.append(run.untraced())
    stats = run.stats()
    what = f"{spawners} spawners, {seconds:.0f} s"
    ratio = burst.per_second / statistics.mean(around)
    count = len(burst.spawned)
    yield Figure(f"{what}: speed", "/s", [burst.per_second], [ratio], "untraced")
    missing = count - _exits_written(run.records)
    lost = stats.get("by_kind", {}).get("exit", {}).get("lost", 0)
    yield Figure(f"{what}: ends not written", "", [missing], note=f"of {count}")
    note = "as many as are missing" if lost == missing else f"but {missing} are missing"
    yield Figure(f"{what}: ends said to be lost", "", [lost], note=note)
    yield Figure(f"{what}: records said to be lost", "", [stats["lost"]])
    yield Figure(f"{what}: RSS at its highest", "MB", [running.peak_bytes / _MB])
    yield Figure(f"{what}: Ctrl-C to its end", "s", [running.stop_s], note=last_line(running.err))
    yield Figure(f"{what}: its own CPU", "µs/process", [running.cpu_s / count * 1e6])
    run.records.unlink()


def sustained(bench: Bench) -> Iterator[Figure]:
    """Two spawners for a minute."""
    yield from _endured(bench, 2, bench.pick(4.0, 60.0))


def overload(bench: Bench) -> Iterator[Figure]:
    """More spawners than CPUs: what is lost must be told exactly."""
    for spawners in bench.pick((8,), (4, 8)):
        yield from _endured(bench, spawners, bench.pick(3.0, 20.0))


def stopping(bench: Bench) -> Iterator[Figure]:
    """Press Ctrl-C, or reach the end of -d, while the load goes on."""
    seconds = bench.pick(2.0, 10.0)
    for way in ("Ctrl-C", "end of -d"):
        run = _Run(bench, 2)
        run.check_room(seconds * 7)
        say(f"stopping: {way}")
        stop_s, stopped_at = _stop_under_load(run, way, seconds)
        yield Figure(f"{way} after {seconds:.0f} s of load: to its end", "s", [stop_s])
        after, latest = _recorded_after(run.records, stopped_at)
        note = f"the last {latest:.3f} s after" if after else ""
        yield Figure(f"{way}: records of what happened after it", "", [after], note=note)
        run.records.unlink()


def _stop_under_load(run: _Run, way: str, seconds: float) -> tuple[float, float]:
    """Return the seconds that the end took, and when it was asked for."""
    err = run.directory / "err"
    command = run.command if way == "Ctrl-C" else [*run.command, "-d", str(seconds)]
    with tool(command, run.directory / "out", err) as running:
        running.await_ready(says_it_traces(err))
        asked_at = time.time() + seconds
        with loading(run.directory, ENDLESS) as load:
            time.sleep(seconds)
            if way == "Ctrl-C":
                asked_at = time.time()
                running.interrupt()
            while not running.has_ended():
                time.sleep(0.01)
            ended_at = time.time()
            load.stop()
    return ended_at - asked_at, asked_at


def _recorded_after(records: Path, asked_at: float) -> tuple[int, float]:
    """Count the records of what happened later than a tenth of a second after it was asked for."""
    allowed = asked_at + 0.1
    count, latest = 0, asked_at
    with records.open("rb") as lines:
        for line in lines:
            found = _STAMP.match(line)
            if found:
                at = datetime.fromisoformat(found[1].decode()[:26]).replace(tzinfo=UTC).timestamp()
                latest = max(latest, at)
                count += at > allowed
    return count, latest - asked_at
