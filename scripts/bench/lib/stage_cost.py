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
from made_records import RecordMaker, drains, one_by_one
from spawner_load import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from made_records import RawDrain

APPLY, JSON = "yardstick: decode and apply", "yardstick: the same with JSON lines"
WHOLE = "decode, order, apply"
# (case, style, terms, what it is compared with)
_PIPELINES = (
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


class _StageFigures:
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


def _measure_yardstick(found: _StageFigures, records: list[bytes]) -> None:
    gc.collect()
    gc.freeze()
    found.rule(APPLY, yardstick.applied_us(records))
    found.rule(JSON, yardstick.written_us(records))
    gc.unfreeze()


def _whole(raws: list[RawDrain], style: str, terms: str) -> float:
    devnull = open(os.devnull, "w", _BUFFER_BYTES, encoding="utf-8")  # noqa: PTH123, SIM115
    with devnull as out, internals.rare_garbage_collection():
        pipeline = internals.new_pipeline(raws, style, terms, out)
        begun = time.process_time()
        while internals.pump(pipeline):
            pass
        seconds = time.process_time() - begun
        if not internals.applied_count(pipeline):
            raise RuntimeError("nothing was applied")
        internals.finish(pipeline)
    return seconds


def _single_stages(found: _StageFigures, raws: list[RawDrain], count: int) -> None:
    with internals.rare_garbage_collection():
        seconds, decoded = internals.decode(raws)
        found.add("decode", seconds / count * 1e6, APPLY)
        seconds, events = internals.order(decoded)
        found.add("order", seconds / count * 1e6, APPLY)
        found.add("apply", internals.apply(events) / count * 1e6, APPLY)


def _drain(found: _StageFigures, directory: Path, processes: int) -> None:
    def load() -> None:
        spawn(directory, processes)

    seconds, count = internals.drain_live(load, _PAGES)
    if count < processes:
        raise RuntimeError(f"only {count} records came of {processes} processes")
    found.add("drain, from a live kernel", seconds / count * 1e6, APPLY)


def _add_pipeline(
    found: _StageFigures, raws: list[RawDrain], count: int, pipeline: tuple[str, str, str, str]
) -> None:
    case, style, terms, beside = pipeline
    found.add(case, _whole(raws, style, terms) / count * 1e6, beside)


def stages(processes: int, rounds: int, directory: str, live: int) -> Iterator[Figure]:
    """Yield the yardstick, and each stage; ``live`` processes are spawned for the drain."""
    maker = RecordMaker()
    raws = list(drains(maker, one_by_one(maker, processes)))
    records = [record.data for record in one_by_one(RecordMaker(), processes)]
    found = _StageFigures()
    for _ in range(rounds):
        _measure_yardstick(found, records)
        tasks: list[Callable[[], None]] = [lambda: _single_stages(found, raws, len(records))]
        if live:
            tasks.append(lambda: _drain(found, Path(directory), live))
        tasks += [partial(_add_pipeline, found, raws, len(records), one) for one in _PIPELINES]
        for task in random.sample(tasks, len(tasks)):
            task()
    order = [APPLY, JSON, "drain, from a live kernel", "decode", "order", "apply"]
    order += [pipeline[0] for pipeline in _PIPELINES]
    yield from (found.figures[case] for case in order if case in found.figures)


def yardstick_alone(processes: int, rounds: int) -> Iterator[Figure]:
    """Yield the yardstick's own two figures."""
    records = [record.data for record in one_by_one(RecordMaker(), processes)]
    found = _StageFigures()
    for _ in range(rounds):
        _measure_yardstick(found, records)
    yield from found.figures.values()
