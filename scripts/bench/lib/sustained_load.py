"""A load that goes on: whether all is reported, in how much memory, and how soon it ends."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from context import say
from figures import Figure, NotRunError
from running_tool import says_it_traces, tool
from spawner_load import build, loading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from context import Bench
    from running_tool import Tool
    from spawner_load import Burst, Load

_MB = 1e6
# Generously: two records of 1 kB of each process, 25 000 a second.
_BYTES_A_SECOND = 50e6
_MOST_A_SECOND = 100_000
_STAMP = re.compile(rb'^\{"@timestamp":"([^"]+)"')


class _Run:
    """One run of our program beside a load."""

    def __init__(self, bench: Bench, spawners: int) -> None:
        self.directory = bench.place("sustained")
        build(self.directory)
        self._spawners = spawners
        self._untraced_s = bench.pick(0.7, 5.0)
        self.records = bench.in_memory / "records"
        self._stats = self.directory / "stats"
        self.command = [
            bench.program, "trace", "-f", "jsonl", "-o", str(self.records),
            "--stats-file", str(self._stats),
        ]  # fmt: skip

    def check_room(self, seconds: float) -> None:
        need = _BYTES_A_SECOND * seconds
        place = self.records.parent
        if min(shutil.disk_usage(place).free, _available_memory()) < need:
            raise NotRunError(f"its records may need {need / 1e9:.0f} GB of {place}")

    @contextmanager
    def load(self, seconds: float) -> Iterator[Load]:
        """Have the spawners at work; without us they end by themselves some time."""
        count = int(seconds * _MOST_A_SECOND)
        with loading(self.directory, count, self._spawners) as load:
            yield load

    def untraced(self) -> float:
        with self.load(self._untraced_s) as load:
            time.sleep(self._untraced_s)
            return load.stop().per_second

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self._stats.read_bytes())
        return stats


def _available_memory() -> int:
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024


def _exits_written(records: Path) -> int:
    """Count the records of the ends of those that were spawned."""
    wanted = re.compile(rb'"action":"exit"\},"process":\{[^{}]*"name":"name-')
    with records.open("rb") as lines:
        return sum(1 for line in lines if wanted.search(line))


def _traced(run: _Run, seconds: float) -> tuple[Burst, Tool]:
    """Let a load go on for so long under a trace, and press Ctrl-C once it has ended."""
    err = run.directory / "err"
    with tool(run.command, run.directory / "out", err) as running:
        running.await_ready(says_it_traces(err))
        with run.load(seconds) as load:
            time.sleep(seconds)
            burst = load.stop()
        running.interrupt()
    return burst, running


def loss_note(lost: int, missing: int) -> str:
    """Say whether the loss was reported exactly; who else ended meanwhile is not known."""
    if lost < missing:
        return f"{missing - lost} ARE MISSING WITHOUT A WORD"
    return "all that are missing" + (f", and {lost - missing} of others" if lost > missing else "")


def _endured(bench: Bench, spawners: int, seconds: float) -> Iterator[Figure]:
    run = _Run(bench, spawners)
    run.check_room(seconds)
    around = [run.untraced()]
    burst, running = _traced(run, seconds)
    around.append(run.untraced())
    stats = run.stats()
    what = f"{spawners} spawners, {seconds:g} s"
    ratio = burst.per_second / statistics.mean(around)
    count = len(burst.spawned)
    yield Figure(f"{what}: speed", "/s", [burst.per_second], [ratio], "untraced")
    missing = count - _exits_written(run.records)
    lost = stats.get("by_kind", {}).get("exit", {}).get("lost", 0)
    yield Figure(f"{what}: ends not written", "", [missing], note=f"of {count}")
    yield Figure(f"{what}: ends said to be lost", "", [lost], note=loss_note(lost, missing))
    yield Figure(f"{what}: records said to be lost", "", [stats["lost"]])
    yield Figure(f"{what}: RSS before the load", "MB", [running.ready_bytes / _MB])
    yield Figure(f"{what}: RSS at its highest", "MB", [running.peak_bytes / _MB])
    yield Figure(f"{what}: Ctrl-C to its end", "s", [running.stop_s])
    yield Figure(f"{what}: its own CPU", "µs/process", [running.cpu_s / count * 1e6])
    run.records.unlink()


def sustained(bench: Bench) -> Iterator[Figure]:
    """Two spawners for a minute."""
    yield from _endured(bench, 2, bench.pick(1.5, 60.0))


def overload(bench: Bench) -> Iterator[Figure]:
    """More spawners than CPUs: what is lost must be reported exactly."""
    for spawners in bench.pick((8,), (4, 8)):
        yield from _endured(bench, spawners, bench.pick(1.0, 20.0))


def stopping(bench: Bench) -> Iterator[Figure]:
    """Press Ctrl-C, or reach the end of -d, while the load goes on."""
    seconds, patience = bench.pick((1.0, 6.0), (10.0, 60.0))
    for way in ("Ctrl-C", "end of -d"):
        run = _Run(bench, 2)
        run.check_room(seconds + patience)
        say(f"stopping: {way}")
        asked_at, stop_s = _stop_under_load(run, way, seconds, patience)
        figure = Figure(f"{way} after {seconds:g} s of load: to its end", "s", [stop_s])
        if stop_s >= patience:
            figure.note = "given up then"
        yield figure
        after, latest = _recorded_after(run.records, asked_at)
        note = f"the last {latest:.3f} s after" if after else ""
        yield Figure(f"{way}: records of what happened after it", "", [after], note=note)
        run.records.unlink()


def _stop_under_load(run: _Run, way: str, seconds: float, patience: float) -> tuple[float, float]:
    """Return when the end was asked for, and how many seconds it then took."""
    err = run.directory / "err"
    command = run.command if way == "Ctrl-C" else [*run.command, "-d", str(seconds)]
    with tool(command, run.directory / "out", err) as running:
        running.await_ready(says_it_traces(err))
        begun = time.monotonic()
        asked_at = time.time() + seconds
        with run.load(seconds + patience) as load:
            time.sleep(seconds)
            if way == "Ctrl-C":
                running.press_ctrl_c()
            while not running.has_ended() and time.monotonic() - begun < seconds + patience:
                time.sleep(0.005)
            stop_s = time.monotonic() - begun - seconds
            load.stop()
    return asked_at, max(0.0, stop_s)


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
