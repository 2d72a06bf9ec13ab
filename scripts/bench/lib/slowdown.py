"""Slowdown and completeness: what watching costs those who are watched, and what it tells."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING

from context import say
from figures import Figure, NotRunError
from peers import Bpftrace, Execsnoop, Forkstat, Ours, Strace, Told
from spawning import Burst, build, spawn
from tracing import tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from context import Bench
    from peers import Peer
    from spawning import Spawned

# A filter in the kernel is set, and a tool's last probe is attached, some time after it says so.
_SETTLING_S = 0.5
UNTRACED = "untraced"
# Whom the spawners run under.
_ALL = ("--ancestor", "spawner", "--filter-in", "kernel")
_NONE = ("--ancestor", "nobody", "--filter-in")


def peers_of(program: str, *, are_all: bool) -> list[Peer]:
    """Return those that are compared."""
    peers: list[Peer] = [
        Ours("jsonl", program, "jsonl"),
        Ours("table", program, "table"),
        Ours("chain", program, "chain"),
        Ours("kernel filter, nothing matches", program, "jsonl", *_NONE, "kernel"),
        Ours("kernel filter, all match", program, "jsonl", *_ALL),
        Bpftrace(),
        Forkstat(),
        Strace(),
    ]
    if are_all:
        peers += [
            Ours("user-space filter, nothing matches", program, "jsonl", *_NONE, "user"),
            Ours("proc connector, jsonl", program, "jsonl", "--source", "proc-connector"),
            Execsnoop(),
        ]
    return peers


def judge(spawned: list[Spawned], told: Iterable[Told], directory: Path) -> dict[str, float]:
    """Compare what a tool told with the truth; percentages of all that were spawned."""
    by_pid = {one.pid: one for one in spawned}
    names = {one.name for one in spawned}
    right: dict[str, set[int]] = {part: set() for part in ("name", "arguments", "creator", "end")}
    wrong = 0
    asked = set()
    for one in told:
        truth = by_pid.get(one.pid)
        if truth is None:
            continue
        facts = {
            "name": (one.name, truth.name),
            "arguments": (one.args, truth.args(directory)),
            "creator": (one.creator, truth.creator),
            "end": (one.code, truth.status >> 8),
        }
        for part, (said, true) in facts.items():
            if said is not None and (part != "creator" or truth.creator):
                asked.add(part)
                if said == true and (part != "end" or one.kind == "exit"):
                    right[part].add(one.pid)
        wrong += one.name in names and one.name != truth.name
        if one.kind == "exit" and one.code is None:
            asked.add("end without its status")
            right.setdefault("end without its status", set()).add(one.pid)
    each = 100 / len(by_pid)
    shares = {f"right {part}": each * len(right[part]) for part in right if part in asked}
    return {**shares, "records with a wrong name": float(wrong)}


class _Way:
    """One tool's figures over all rounds."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.refusal = ""
        self.error = ""
        self.speed = Figure(f"{peer.name}: speed", "/s", beside=UNTRACED)
        self.cpu = Figure(f"{peer.name}: its own CPU", "µs/process")
        self.stop = Figure(f"{peer.name}: to its end", "s")
        self.lost = Figure(f"{peer.name}: says it lost", "events")
        self.shares: dict[str, Figure] = {}

    def measure(self, directory: Path, count: int) -> float:
        """Run a round; return its rate."""
        count = max(2, int(count * self.peer.share))
        command = self.peer.command(directory)
        if command:
            with tool(command, directory / "out", directory / "err") as running:
                running.await_ready(lambda: self.peer.is_ready(directory))
                time.sleep(_SETTLING_S)
                burst = spawn(directory, count)
                self.peer.catch_up(directory)
                running.interrupt()
            self.cpu.samples.append(running.cpu_s / count * 1e6)
            self.stop.samples.append(running.stop_s)
        else:
            burst = spawn(directory, count, [self.peer.prefix(directory, n) for n in range(2)])
        self.speed.samples.append(burst.per_second)
        self._judge(burst, directory)
        return burst.per_second

    def _judge(self, burst: Burst, directory: Path) -> None:
        self.speed.note = self.peer.remark(directory, len(burst.spawned))
        lost = self.peer.lost(directory)
        if lost is not None:
            self.lost.samples.append(lost)
        told = self.peer.told(directory)
        if told is None:
            return
        for part, share in judge(burst.spawned, told, directory).items():
            unit = "%" if part.startswith("right") else ""
            figure = self.shares.setdefault(part, Figure(f"{self.peer.name}: {part}", unit))
            figure.samples.append(share)

    def figures(self) -> Iterator[Figure]:
        """Yield what was measured, or why it was not."""
        if self.refusal or self.error:
            note = (self.refusal and f"not run: {self.refusal}") or f"failed: {self.error}"
            yield Figure(self.peer.name, note=note)
        for figure in (self.speed, self.cpu, self.stop, self.lost, *self.shares.values()):
            if figure.samples:
                yield figure


def _measure(way: _Way, bench: Bench, built: Path, count: int) -> float | None:
    try:
        directory = bench.place("round")
        for path in built.iterdir():
            (directory / path.name).symlink_to(path.resolve())
        for name in ("out", "err"):
            (directory / name).write_bytes(b"")
        return way.measure(directory, count)
    except NotRunError as reason:
        way.refusal = str(reason)
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        way.error = f"{type(error).__name__}: {error}"
    return None


def slowdown(bench: Bench) -> Iterator[Figure]:
    """Run all ways in a new order each round, each between two untraced runs."""
    count = bench.pick(2_000, 30_000)
    built = bench.place("built")
    build(built)
    ways = [_Way(peer) for peer in peers_of(bench.program, are_all=not bench.is_quick)]
    untraced = Figure(f"{UNTRACED}: speed", "/s")
    spawn(built, count)  # the first is slower
    untraced.samples.append(spawn(built, count).per_second)
    for number in range(bench.pick(2, 5)):
        say(f"slowdown: round {number + 1}")
        for way in random.sample(ways, len(ways)):
            if way.refusal or way.error:
                continue
            rate = _measure(way, bench, built, count)
            if rate is None:
                continue
            untraced.samples.append(spawn(built, count).per_second)
            way.speed.ratios.append(rate / statistics.mean(untraced.samples[-2:]))
    yield untraced
    for way in ways:
        yield from way.figures()
    errors = [f"{way.peer.name}: {way.error}" for way in ways if way.error]
    if errors:
        raise RuntimeError("; ".join(errors))
