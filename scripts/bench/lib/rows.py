"""The rows of the benchmark, in the order in which they are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import same_as_strace
import slowdown
import startup
import sustained_load
import worker_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from context import Bench
    from figures import Figure


class Row(NamedTuple):
    """A family of figures.

    ``quick_s`` and ``full_s`` are the seconds that it may take; 0: not with --quick.
    """

    name: str
    title: str
    measure: Callable[[Bench], Iterator[Figure]]
    quick_s: int
    full_s: int


# All together.
QUICK_S, FULL_S = 170, 1470

_ROWS = (
    Row("slowdown", "two saturating spawners: what they keep of their speed, and what is told"
        " of them", slowdown.slowdown, 60, 600),
    Row("cpu", "CPU per event by stage, as a ratio to plain Python", worker_rows.cpu, 25, 240),
    Row("sustained", "two saturating spawners for a minute", sustained_load.sustained, 20, 240),
    Row("overload", "more spawners than CPUs", sustained_load.overload, 20, 300),
    Row("stopping", "the end of a trace while a load goes on", sustained_load.stopping, 30, 240),
    Row("start", "the start by phase, cold and warm", startup.start, 40, 120),
    Row("command", "a command under a trace", startup.command, 40, 120),
    Row("queries", "questions about ancestry", worker_rows.queries, 15, 240),
    Row("memory", "memory per living and exited process", worker_rows.memory, 10, 60),
    Row("lives", "many lives of one PID", worker_rows.lives, 10, 120),
    Row("children", "many children of one process", worker_rows.children, 10, 120),
    Row("depth", "a deep chain", worker_rows.depth, 10, 120),
    Row("gaps", "losses where many processes are known", worker_rows.gaps, 10, 90),
    Row("proc", "one pass over /proc", worker_rows.proc, 10, 120),
    Row("yardstick", "the yardstick alone", worker_rows.yardstick, 5, 60),
    Row("same-as-strace", "builds of Debian packages, told as strace tells them",
        same_as_strace.same_as_strace, 0, 300),
)  # fmt: skip
ROWS = {row.name: row for row in _ROWS}
