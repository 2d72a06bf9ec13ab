"""Whether an event costs the same, in time and in memory, as their number grows."""

from __future__ import annotations

import gc
import os
import time
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import internals
import made_records
import yardstick
from figures import Figure, grouped
from made_records import IS_EXEC, RawDrain, RecordMaker, drains, one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from made_records import Record

_SHAPES: dict[str, Callable[[RecordMaker, int], Iterator[Record]]] = {
    "lives of one PID": made_records.one_pid,
    "children of one": made_records.one_parent,
    "deep in a chain": made_records.one_chain,
}
_MANY = 2_000_000


class _Counting:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, text: str) -> int:
        self.length += len(text)
        return len(text)

    def flush(self) -> None:
        """Have nothing to flush."""

    def isatty(self) -> bool:
        return False


def by_size(shape: str, sizes: list[int], style: str, seconds: float) -> Iterator[Figure]:
    """Yield the CPU time per event at growing sizes; the ratio is to the smallest size."""
    first: float | None = None
    for size in sizes:
        out = _Counting()
        figure = Figure(f"{grouped(size)} {shape}{', ' + style if style else ''}", "µs/event")
        us, events = _timed(shape, size, style, out, seconds)
        if us is None:
            figure.note = f"given up after {seconds} s, with {events} of its events"
            yield figure
            return
        first = first or us
        figure.samples = [us]
        if size != sizes[0]:
            figure.ratios, figure.beside = [us / first], f"the same at {grouped(sizes[0])}"
        if style:
            figure.note = f"{out.length / events:.0f} bytes per event"
        yield figure


def _timed(shape: str, size: int, style: str, out: Any, seconds: float) -> tuple[float | None, int]:
    maker = RecordMaker()
    raws = list(drains(maker, _SHAPES[shape](maker, size)))
    done = 0
    with internals.rare_garbage_collection():
        pipeline = internals.new_pipeline(raws, style, "", out, _MANY)
        begun, until = time.process_time(), time.monotonic() + seconds
        for raw in raws:
            internals.pump(pipeline)
            done += len(raw.records)
            if time.monotonic() > until:
                return None, done
        internals.finish(pipeline)
        return (time.process_time() - begun) / done * 1e6, done


def gaps(sizes: list[int], count: int, seconds: float) -> Iterator[Figure]:
    """Yield what one noticed loss costs where so many processes are known."""
    first: float | None = None
    for size in sizes:
        maker = RecordMaker()
        known = list(drains(maker, one_by_one(maker, size, ends=False)))
        with internals.rare_garbage_collection():
            pipeline = internals.new_pipeline(chain(known, _losses(maker, count)), capacity=_MANY)
            for _ in known:
                internals.pump(pipeline)
            begun, until, noticed = time.process_time(), time.monotonic() + seconds, 0
            while noticed < count and time.monotonic() < until:
                internals.pump(pipeline)
                noticed += 1
            us = (time.process_time() - begun) / noticed * 1e6
        if internals.gap_count(pipeline) < noticed:
            raise RuntimeError("a loss was not noticed")
        figure = Figure(f"an exec lost, {grouped(size)} living", "µs/loss", [us])
        first = first or us
        if size != sizes[0]:
            figure.ratios, figure.beside = [us / first], f"the same at {grouped(sizes[0])}"
        yield figure


def _losses(maker: RecordMaker, count: int) -> Iterator[RawDrain]:
    """Yield drains in each of which the kernel says that it could not send an exec."""
    for n in range(count):
        maker.lose(0, IS_EXEC)
        key = (100 + n, maker.now_ns)
        record = maker.exec(0, key, (1, 1000), n)  # its number shows that one is missing
        yield RawDrain(maker.now_ns + 1, maker.counters(), [(record.cpu, record.data)])


def _resident() -> int:
    gc.collect()
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def memory(who: str, kind: str, processes: int) -> Iterator[Figure]:
    """Yield the bytes of resident memory that a process takes, with its arguments."""
    maker = RecordMaker()
    raws = drains(maker, one_by_one(maker, processes, ends=kind == "exited"))
    keep: list[object] = []
    if who == "yardstick":
        lives = yardstick.Lives()
        yardstick.apply([data for raw in islice(raws, 1) for _, data in raw.records], lives)
        before = _resident()
        for raw in raws:
            yardstick.apply([data for _, data in raw.records], lives)
        keep.append(lives)
    else:
        pipeline = internals.new_pipeline(raws)
        internals.pump(pipeline)
        before = _resident()
        while internals.pump(pipeline):
            pass
        keep.append(pipeline)
    used = (_resident() - before) / processes
    yield Figure(f"{'yardstick: ' if who == 'yardstick' else ''}{kind} process", "bytes", [used])
