"""Slowdown and completeness: what watching costs those who are watched, and what it tells."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING

from compared_tools import Bpftrace, Execsnoop, Forkstat, Ours, Report, Strace
from context import say
from figures import Figure, NotRunError
from running_tool import tool
from spawner_load import Burst, build, spawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from compared_tools import ComparedTool
    from context import Bench
    from spawner_load import Spawned

# A filter in the kernel is set, and a tool's last probe is attached, some time after it says so.
_SETTLING_S = 0.5
UNTRACED = "untraced"
# Whom the spawners run under.
_ALL = ("--ancestor", "spawner", "--filter-in", "kernel")
_NONE = ("--ancestor", "nobody", "--filter-in")


def compared_tools(program: str, *, are_all: bool) -> list[ComparedTool]:
    """Return those that are compared."""
    tools: list[ComparedTool] = [
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
        tools += [
            Ours("user-space filter, nothing matches", program, "jsonl", *_NONE, "user"),
            Ours("proc connector, jsonl", program, "jsonl", "--source", "proc-connector"),
            Execsnoop(),
        ]
    return tools


def completeness(
    spawned: list[Spawned], reports: Iterable[Report], directory: Path
) -> dict[str, float]:
    """Compare what a tool reported with the truth; percentages of all that were spawned."""
    by_pid = {one.pid: one for one in spawned}
    names = {one.name for one in spawned}
    right: dict[str, set[int]] = {part: set() for part in ("name", "arguments", "creator", "end")}
    wrong = 0
    asked = set()
    for one in reports:
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


class _ToolRuns:
    """One tool's figures over all rounds."""

    def __init__(self, tool: ComparedTool) -> None:
        self.tool = tool
        self.refusal = ""
        self.error = ""
        self.speed = Figure(f"{tool.name}: speed", "/s", beside=UNTRACED)
        self.cpu = Figure(f"{tool.name}: its own CPU", "µs/process")
        self.stop = Figure(f"{tool.name}: to its end", "s")
        self.lost = Figure(f"{tool.name}: says it lost", "events")
        self.shares: dict[str, Figure] = {}

    def measure(self, directory: Path, count: int) -> float:
        """Run a round; return its rate."""
        count = max(2, int(count * self.tool.share))
        command = self.tool.command(directory)
        if command:
            with tool(command, directory / "out", directory / "err") as running:
                running.await_ready(lambda: self.tool.is_ready(directory))
                time.sleep(_SETTLING_S)
                burst = spawn(directory, count)
                self.tool.catch_up(directory)
                running.interrupt()
            self.cpu.samples.append(running.cpu_s / count * 1e6)
            self.stop.samples.append(running.stop_s)
        else:
            burst = spawn(directory, count, [self.tool.prefix(directory, n) for n in range(2)])
        self.speed.samples.append(burst.per_second)
        self._compare(burst, directory)
        return burst.per_second

    def _compare(self, burst: Burst, directory: Path) -> None:
        self.speed.note = self.tool.remark(directory, len(burst.spawned))
        lost = self.tool.lost(directory)
        if lost is not None:
            self.lost.samples.append(lost)
        reports = self.tool.reports(directory)
        if reports is None:
            return
        for part, share in completeness(burst.spawned, reports, directory).items():
            unit = "%" if part.startswith("right") else ""
            figure = self.shares.setdefault(part, Figure(f"{self.tool.name}: {part}", unit))
            figure.samples.append(share)

    def figures(self) -> Iterator[Figure]:
        """Yield what was measured, or why it was not."""
        if self.refusal or self.error:
            note = (self.refusal and f"not run: {self.refusal}") or f"failed: {self.error}"
            yield Figure(self.tool.name, note=note)
        for figure in (self.speed, self.cpu, self.stop, self.lost, *self.shares.values()):
            if figure.samples:
                yield figure


def _measure(run: _ToolRuns, bench: Bench, built: Path, count: int) -> float | None:
    try:
        directory = bench.place("round")
        for path in built.iterdir():
            (directory / path.name).symlink_to(path.resolve())
        for name in ("out", "err"):
            (directory / name).write_bytes(b"")
        return run.measure(directory, count)
    except NotRunError as reason:
        run.refusal = str(reason)
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        run.error = f"{type(error).__name__}: {error}"
    return None


def slowdown(bench: Bench) -> Iterator[Figure]:
    """Run every tool, in a new order each round, each time between two untraced bursts."""
    count = bench.pick(2_000, 30_000)
    built = bench.place("built")
    build(built)
    runs = [_ToolRuns(tool) for tool in compared_tools(bench.program, are_all=not bench.is_quick)]
    untraced = Figure(f"{UNTRACED}: speed", "/s")
    spawn(built, count)  # the first is slower
    untraced.samples.append(spawn(built, count).per_second)
    for number in range(bench.pick(2, 5)):
        say(f"slowdown: round {number + 1}")
        for run in random.sample(runs, len(runs)):
            if run.refusal or run.error:
                continue
            rate = _measure(run, bench, built, count)
            if rate is None:
                continue
            untraced.samples.append(spawn(built, count).per_second)
            run.speed.ratios.append(rate / statistics.mean(untraced.samples[-2:]))
    yield untraced
    for run in runs:
        yield from run.figures()
    errors = [f"{run.tool.name}: {run.error}" for run in runs if run.error]
    if errors:
        raise RuntimeError("; ".join(errors))
