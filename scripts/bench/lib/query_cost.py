"""What questions about ancestry cost, beside psutil where it can answer them."""

from __future__ import annotations

import importlib
import random
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import internals
from figures import Figure, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AT_LEAST_S = 0.02
_FIELDS = ["pid", "ppid", "name", "cmdline", "exe", "username", "create_time"]


def microseconds(question: Callable[[], object]) -> float:
    """Return the CPU time of one answer, from as many as a short while allows."""
    repeats = 1
    while True:
        begun = time.process_time()
        for _ in range(repeats):
            question()
        seconds = time.process_time() - begun
        if seconds >= _AT_LEAST_S:
            return seconds / repeats * 1e6
        repeats *= 4


def queries(nodes: int, depth: int, rounds: int) -> Iterator[Figure]:
    """Yield what each question costs at the end of a chain in a tree."""
    begun = time.process_time()
    forest = internals.QueryTree(nodes, depth)
    where = f"{grouped(nodes)} nodes, depth {grouped(depth)}"
    built = (time.process_time() - begun) / nodes * 1e6
    yield Figure(f"{where}: building it", "µs/node", [built])
    questions = forest.questions()
    found = {name: Figure(f"{where}: {name}", "µs") for name in questions}
    for _ in range(rounds):
        for name in random.sample(list(questions), len(questions)):
            found[name].samples.append(microseconds(questions[name]))
    yield from found.values()
    subtree, count = forest.subtree()
    samples = [microseconds(subtree) / count for _ in range(min(rounds, 3))]
    yield Figure(f"{where}: all {grouped(count)} descendants", "µs each", samples)


def _psutil() -> Any:
    """Return psutil, or None where it is not installed."""
    try:
        return importlib.import_module("psutil")
    except ImportError:
        return None


@contextmanager
def _idle_processes(program: str, kind: str, count: int) -> Iterator[int]:
    """Have so many processes; the value is the PID of the last."""
    first = subprocess.Popen([program, kind, str(count)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None  # noqa: S101 - a pipe
        answer = first.stdout.readline()
        if not answer:
            raise RuntimeError(f"{count} processes cannot be had here")
        yield int(answer)
    finally:
        first.kill()
        first.wait()


def beside_psutil(program: str, depths: list[int]) -> Iterator[Figure]:
    """Yield what psutil takes for the same question, of processes that are really there."""
    psutil = _psutil()
    if psutil is None:
        yield Figure("psutil", note="not run: psutil is not installed")
        return
    for depth in depths:
        with _idle_processes(program, "chain", depth) as deepest:
            samples = [microseconds(lambda: psutil.Process(deepest).parents()) for _ in range(3)]
        yield Figure(f"psutil, depth {grouped(depth)}: parents", "µs", samples)


def reading_proc(program: str, sizes: list[int], rounds: int) -> Iterator[Figure]:
    """Yield what one pass over ``/proc`` takes with so many processes, beside psutil's."""
    psutil = _psutil()
    for size in sizes:
        ours = Figure(f"{grouped(size)} more processes", "µs each", beside="psutil.process_iter")
        theirs = Figure(f"{grouped(size)} more processes: psutil.process_iter", "µs each")
        with _idle_processes(program, "flat", size):
            for _ in range(rounds):
                count = internals.read_proc_once()
                ours.samples.append(microseconds(internals.read_proc_once) / count)
                if psutil is not None:
                    theirs.samples.append(_pass_of_psutil(psutil) / count)
                    ours.ratios.append(ours.samples[-1] / theirs.samples[-1])
        if psutil is None:
            theirs.note = "not run: psutil is not installed"
        yield ours
        yield theirs


def _pass_of_psutil(psutil: Any) -> float:
    def look() -> None:
        cache = getattr(psutil, "_pmap", None)  # a second pass would only ask who is new
        if cache:
            cache.clear()
        for process in psutil.process_iter(_FIELDS):
            process.info  # noqa: B018 - it is read by then

    return microseconds(look)
