"""Whether what an event costs, in time and in memory, stays the same where there are many."""

from __future__ import annotations

import gc
import os
import time
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import internals
import workload
import yardstick
from figures import Figure, grouped
from workload import IS_EXEC, Raw, Sender, drains, one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workload import Record

_SHAPES: dict[str, Callable[[Sender, int], Iterator[Record]]] = {
    "lives of one PID": workload.one_pid,
    "children of one": workload.one_parent,
    "deep in a chain": workload.one_chain,
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


def growth(shape: str, sizes: list[int], style: str, seconds: float) -> Iterator[Figure]:
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
    sender = Sender()
    raws = list(drains(sender, _SHAPES[shape](sender, size)))
    done = 0
    with internals.calm_collector():
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
    """Yield what one told loss costs where so many processes are known."""
    first: float | None = None
    for size in sizes:
        sender = Sender()
        known = list(drains(sender, one_by_one(sender, size, ends=False)))
        with internals.calm_collector():
            pipeline = internals.new_pipeline(chain(known, _losses(sender, count)), capacity=_MANY)
            for _ in known:
                internals.pump(pipeline)
            begun, until, told = time.process_time(), time.monotonic() + seconds, 0
            while told < count and time.monotonic() < until:
                internals.pump(pipeline)
                told += 1
            us = (time.process_time() - begun) / told * 1e6
        if internals.gap_count(pipeline) < told:
            raise RuntimeError("a loss was not noticed")
        figure = Figure(f"an exec lost, {grouped(size)} living", "µs/loss", [us])
        first = first or us
        if size != sizes[0]:
            figure.ratios, figure.beside = [us / first], f"the same at {grouped(sizes[0])}"
        yield figure


def _losses(sender: Sender, count: int) -> Iterator[Raw]:
    """Yield drains in each of which the kernel says that it could not send an exec."""
    for n in range(count):
        sender.lose(0, IS_EXEC)
        key = (100 + n, sender.now_ns)
        record = sender.exec(0, key, (1, 1000), n)  # its number shows that one is missing
        yield Raw(sender.now_ns + 1, sender.counters(), [(record.cpu, record.data)])


def _resident() -> int:
    gc.collect()
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def memory(who: str, kind: str, processes: int) -> Iterator[Figure]:
    """Yield the bytes of resident memory that a process takes, with its arguments."""
    sender = Sender()
    raws = drains(sender, one_by_one(sender, processes, ends=kind == "exited"))
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
