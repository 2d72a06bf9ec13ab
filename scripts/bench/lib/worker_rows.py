"""Rows that are measured inside a process: ``worker.py``, under the product's own Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import Figure
from spawner_load import build, compiler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from context import Bench

_LIB = Path(__file__).resolve().parent
_ENDING_S = 60  # a million objects are given back one by one


def ask_worker(bench: Bench, task: str, **arguments: Any) -> Iterator[Figure]:
    """Yield the figures of a task as they come.

    Raises:
        RuntimeError: the worker failed; the text is the last that it said.

    """
    errors = bench.place("worker") / "stderr"
    command = [bench.python, "-s", "-B", str(_LIB / "worker.py"), task, json.dumps(arguments)]
    with errors.open("wb") as stderr:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        try:
            assert worker.stdout is not None  # noqa: S101 - a pipe
            for line in worker.stdout:
                yield Figure(**json.loads(line))
            status = worker.wait(_ENDING_S)
        except BaseException:
            worker.kill()
            worker.wait()
            raise
    if status:
        said = errors.read_text("utf-8", "replace").strip().splitlines() or ["nothing said"]
        raise RuntimeError(f"the worker for {task} ended with {status}: {said[-1]}")


def yardstick(bench: Bench) -> Iterator[Figure]:
    """Measure the yardstick alone."""
    yield from ask_worker(
        bench, "yardstick", processes=bench.pick(4_000, 40_000), rounds=bench.pick(2, 5)
    )


def cpu(bench: Bench) -> Iterator[Figure]:
    """Measure each stage."""
    directory = bench.place("live")
    build(directory)
    yield from ask_worker(
        bench, "cpu", processes=bench.pick(2_000, 20_000), rounds=bench.pick(2, 5),
        directory=str(directory), live=bench.pick(1_000, 4_000),
    )  # fmt: skip


def memory(bench: Bench) -> Iterator[Figure]:
    """Measure bytes per process, each kind in a process of its own."""
    for kind in ("living", "exited"):
        for who in ("yardstick", "product"):
            yield from ask_worker(
                bench, "memory", who=who, kind=kind, processes=bench.pick(5_000, 30_000)
            )


def _scaling(bench: Bench, shape: str, sizes: tuple[list[int], list[int]]) -> Iterator[Figure]:
    for style in ("", "jsonl"):
        yield from ask_worker(
            bench, "scaling", shape=shape, sizes=bench.pick(*sizes), style=style,
            seconds=bench.pick(2, 15),
        )  # fmt: skip


def lives(bench: Bench) -> Iterator[Figure]:
    """Measure many lives of one PID."""
    yield from _scaling(bench, "lives of one PID", ([250, 500], [1_250, 2_500, 5_000, 10_000]))


def children(bench: Bench) -> Iterator[Figure]:
    """Measure many children of one process."""
    yield from _scaling(
        bench, "children of one", ([1_000, 2_000], [12_500, 25_000, 50_000, 100_000])
    )


def depth(bench: Bench) -> Iterator[Figure]:
    """Measure a deep chain."""
    yield from _scaling(bench, "deep in a chain", ([100, 200], [1_250, 2_500, 5_000, 10_000]))


def gaps(bench: Bench) -> Iterator[Figure]:
    """Measure what a loss costs where many processes are known."""
    yield from ask_worker(
        bench, "gaps", sizes=bench.pick([500, 1_000], [1_000, 10_000, 40_000]),
        count=bench.pick(100, 200), seconds=bench.pick(2, 20),
    )  # fmt: skip


def queries(bench: Bench) -> Iterator[Figure]:
    """Measure questions about ancestry."""
    forests = [(1_000, 10), (1_000, 100)]
    if not bench.is_quick:
        forests += [(65_000, 10), (65_000, 100), (65_000, 10_000), (1_000_000, 10)]
    theirs: dict[str, float] = {}
    for figure in ask_worker(bench, "psutil", program=_idle_processes(bench), depths=[10, 100]):
        theirs.update((figure.case.removeprefix("psutil, "), us) for us in figure.samples)
        yield figure
    for nodes, levels in forests:
        for figure in ask_worker(
            bench, "queries", nodes=nodes, depth=levels, rounds=bench.pick(3, 7)
        ):
            us = theirs.get(figure.case.partition(", ")[2])
            if us:
                figure.ratios, figure.beside = [one / us for one in figure.samples], "psutil"
            yield figure


def proc(bench: Bench) -> Iterator[Figure]:
    """Measure one pass over ``/proc``."""
    yield from ask_worker(
        bench, "proc", program=_idle_processes(bench), rounds=bench.pick(2, 5),
        sizes=bench.pick([100, 1_000], [100, 1_000, 10_000]),
    )  # fmt: skip


def _idle_processes(bench: Bench) -> str:
    """Compile what makes many processes that do nothing."""
    program = bench.place("idle") / "idle_processes"
    command = [compiler(), "-O2", "-static", "-o", str(program), str(_LIB / "idle_processes.c")]
    subprocess.run(command, check=True)
    return str(program)
