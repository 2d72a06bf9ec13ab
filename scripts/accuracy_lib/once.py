"""One run: a forest grows, the program and the library watch, and both are judged."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import spawner_load
from forest import Forest
from judge import Judge
from library import library
from losses import losses, missing_of_load
from running_tool import wait_for
from tracer import Tracer

from sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from losses import Loss
    from plan import Plan
    from spawner_load import Load, Spawned
    from tally import Tally
    from told import Told
    from truth import Truth

_ENDLESS = 10_000_000
_SEEDS_APART = 1_000_000


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    seed: int
    processes: int
    events: int
    rows: dict[str, Tally]
    answers: dict[str, Any]
    losses: list[Loss]
    stats: dict[str, Any]
    said: str
    spawned: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


class Run:
    """One run, in a directory of its own that holds the forest's programs."""

    def __init__(self, plan: Plan, forest: Path, directory: Path) -> None:
        self._plan, self._directory = plan, directory
        self._place = forest
        self._source = SOURCES[plan.source]
        self._tracer = Tracer(plan, directory)
        self._spawned: list[Spawned] = []
        self._truths: list[Truth] = []

    def run(self) -> Outcome:
        """Grow, watch, judge."""
        begun = time.monotonic()
        with library(self._plan, self._source, self._directory) as asked:
            if self._plan.is_command:
                self._run_as_command()
            else:
                self._run_beside(asked.process.pid, asked.look_at)
            answers = asked.ask([life for truth in self._truths for life in truth.lives])
        outcome = self._judge(answers)
        outcome.seconds = time.monotonic() - begun
        return outcome

    def _run_as_command(self) -> None:
        forest = self._forest(0)
        with ExitStack() as stack:
            load = stack.enter_context(self._load())
            with self._tracer.running(*forest.command) as running:
                wait_for("the forest and the trace end", running.has_ended, 180)
                if running.status:
                    raise RuntimeError(f"the trace ended with {running.status}")
            self._stop(load)
        self._truths.append(forest.truth())

    def _run_beside(self, library_pid: int, look_at: Any) -> None:
        with self._tracer.running() as running:
            with ExitStack() as stack:
                load = stack.enter_context(self._load())
                stop = stack.enter_context(self._stopping([running.pid, library_pid]))
                until = time.monotonic() + self._plan.duration_s
                number = 0
                while not number or time.monotonic() < until or stop.is_alive():
                    forest = self._forest(number)
                    thread = threading.Thread(target=_tell_root, args=(forest, look_at))
                    thread.start()
                    forest.grow()
                    thread.join()
                    self._truths.append(forest.truth())
                    number += 1
                stop.join()
                self._stop(load)
            running.interrupt()

    def _forest(self, number: int) -> Forest:
        seed = self._plan.seed + number * _SEEDS_APART
        return Forest(self._place, seed, self._plan.size, self._plan.pace_ms)

    @contextmanager
    def _load(self) -> Iterator[Load | None]:
        if not self._plan.load:
            yield None
            return
        place = self._directory / "load"
        place.mkdir()
        spawner_load.build(place)
        with spawner_load.loading(place, _ENDLESS, self._plan.load) as load:
            yield load

    def _stop(self, load: Load | None) -> None:
        if load is not None:
            self._spawned = load.stop().spawned

    @contextmanager
    def _stopping(self, pids: list[int]) -> Iterator[threading.Thread]:
        """Stop the readers for some time, once something grows."""
        thread = threading.Thread(target=_stop_for, args=(pids, self._plan.stop_reader_s))
        thread.start()
        try:
            yield thread
        finally:
            thread.join()

    def _judge(self, answers: dict[str, Any]) -> Outcome:
        told = self._tracer.told({one.creator for one in self._spawned})
        rows: dict[str, Tally] = {}
        missing: dict[str, int] = {}
        for truth in self._truths:
            judge = Judge(truth, told, self._source, self._plan.filter)
            for name, row in judge.rows.items():
                if name in rows:
                    rows[name] += row
                else:
                    rows[name] = row
            for kind, count in judge.missing.items():
                missing[kind] = missing.get(kind, 0) + count
        lives = [life for truth in self._truths for life in truth.lives[1:]]
        return Outcome(
            self._plan.seed, len(lives), sum(len(life.events) for life in lives), rows, answers,
            self._losses(told, missing), self._tracer.stats(), self._tracer.said(),
            len(self._spawned),
        )  # fmt: skip

    def _losses(self, told: Told, missing: dict[str, int]) -> list[Loss]:
        is_all = not (self._plan.filter or self._plan.is_command)
        of_load = missing_of_load(told, self._spawned) if is_all and self._spawned else {}
        return losses(told, missing, of_load) if self._source.counts_losses else []


def _tell_root(forest: Forest, look_at: Any) -> None:
    wait_for("the forest begins", lambda: bool(forest.file.stat().st_size))
    with forest.file.open("rb") as lines:
        look_at(int(lines.readline().split()[1]))


def _stop_for(pids: list[int], seconds: float) -> None:
    if not seconds:
        return
    time.sleep(0.2)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
