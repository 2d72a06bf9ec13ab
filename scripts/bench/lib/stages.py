"""CPU per event, stage by stage, as a ratio to the yardstick in the same round."""

from __future__ import annotations

import gc
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import internals
import yardstick
from figures import Figure
from spawning import spawn
from workload import Sender, drains, one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workload import Raw

APPLY, JSON = "yardstick: decode and apply", "yardstick: the same with JSON lines"
WHOLE = "decode, order, apply"
# (case, style, terms, what it is compared with)
_WAYS = (
    (WHOLE, "", "", APPLY),
    ("the same under a filter that nothing matches", "", "ancestor=nobody", APPLY),
    ("the same under a filter that all match", "", "ancestor=bash", APPLY),
    ("the same with jsonl", "jsonl", "", JSON),
    ("the same with table", "table", "", JSON),
    ("the same with chain", "chain", "", JSON),
    ("the same with tree", "tree", "", JSON),
)
_PAGES = 4096
_BUFFER_BYTES = 65_536


class _Found:
    """Figures by case; each is compared with what the yardstick took in its round."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self._rules: dict[str, float] = {}

    def rule(self, case: str, us: float) -> None:
        self._rules[case] = us
        self._of(case).samples.append(us)

    def add(self, case: str, us: float, beside: str) -> None:
        figure = self._of(case)
        figure.samples.append(us)
        figure.ratios.append(us / self._rules[beside])
        figure.beside = beside.partition(":")[0] + (" with JSON" if beside == JSON else "")

    def _of(self, case: str) -> Figure:
        return self.figures.setdefault(case, Figure(case, "µs/event"))


def _measure_yardstick(found: _Found, records: list[bytes]) -> None:
    gc.collect()
    gc.freeze()
    found.rule(APPLY, yardstick.applied_us(records))
    found.rule(JSON, yardstick.written_us(records))
    gc.unfreeze()


def _whole(raws: list[Raw], style: str, terms: str) -> float:
    with open(os.devnull, "w", _BUFFER_BYTES, encoding="utf-8") as out, internals.calm_collector():  # noqa: PTH123
        pipeline = internals.new_pipeline(raws, style, terms, out)
        begun = time.process_time()
        while internals.pump(pipeline):
            pass
        seconds = time.process_time() - begun
        if not internals.applied_count(pipeline):
            raise RuntimeError("nothing was applied")
        internals.finish(pipeline)
    return seconds


def _single_stages(found: _Found, raws: list[Raw], count: int) -> None:
    with internals.calm_collector():
        seconds, decoded = internals.decode(raws)
        found.add("decode", seconds / count * 1e6, APPLY)
        seconds, events = internals.order(decoded)
        found.add("order", seconds / count * 1e6, APPLY)
        found.add("apply", internals.apply(events) / count * 1e6, APPLY)


def _drain(found: _Found, directory: Path, processes: int) -> None:
    def load() -> None:
        spawn(directory, processes)

    seconds, count = internals.drain_live(load, _PAGES)
    if count < processes:
        raise RuntimeError(f"only {count} records came of {processes} processes")
    found.add("drain, from a live kernel", seconds / count * 1e6, APPLY)


def _way(found: _Found, raws: list[Raw], count: int, way: tuple[str, str, str, str]) -> None:
    case, style, terms, beside = way
    found.add(case, _whole(raws, style, terms) / count * 1e6, beside)


def stages(processes: int, rounds: int, directory: str, live: int) -> Iterator[Figure]:
    """Yield the yardstick, and each stage; ``live`` processes are spawned for the drain."""
    sender = Sender()
    raws = list(drains(sender, one_by_one(sender, processes)))
    records = [record.data for record in one_by_one(Sender(), processes)]
    found = _Found()
    for _ in range(rounds):
        _measure_yardstick(found, records)
        tasks: list[Callable[[], None]] = [lambda: _single_stages(found, raws, len(records))]
        if live:
            tasks.append(lambda: _drain(found, Path(directory), live))
        tasks += [partial(_way, found, raws, len(records), way) for way in _WAYS]
        for task in random.sample(tasks, len(tasks)):
            task()
    order = [APPLY, JSON, "drain, from a live kernel", "decode", "order", "apply"]
    order += [way[0] for way in _WAYS]
    yield from (found.figures[case] for case in order if case in found.figures)


def yardstick_alone(processes: int, rounds: int) -> Iterator[Figure]:
    """Yield the yardstick's own two figures."""
    records = [record.data for record in one_by_one(Sender(), processes)]
    found = _Found()
    for _ in range(rounds):
        _measure_yardstick(found, records)
    yield from found.figures.values()
