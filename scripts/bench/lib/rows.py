"""The rows of the benchmark, in the order in which they are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import inside
import same_as_strace
import slowdown
import starting
import sustained

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
    Row("cpu", "CPU per event by stage, as a ratio to plain Python", inside.cpu, 25, 240),
    Row("sustained", "two saturating spawners for a minute", sustained.sustained, 20, 240),
    Row("overload", "more spawners than CPUs", sustained.overload, 20, 300),
    Row("stopping", "the end of a trace while a load goes on", sustained.stopping, 30, 240),
    Row("start", "the start by phase, cold and warm", starting.start, 40, 120),
    Row("command", "a command under a trace", starting.command, 40, 120),
    Row("queries", "questions about ancestry", inside.queries, 15, 240),
    Row("memory", "memory per living and exited process", inside.memory, 10, 60),
    Row("lives", "many lives of one PID", inside.lives, 10, 120),
    Row("children", "many children of one process", inside.broods, 10, 120),
    Row("depth", "a deep chain", inside.depth, 10, 120),
    Row("gaps", "losses where many processes are known", inside.gaps, 10, 90),
    Row("proc", "one pass over /proc", inside.proc, 10, 120),
    Row("yardstick", "the yardstick alone", inside.yardstick, 5, 60),
    Row("same-as-strace", "builds of Debian packages, told as strace tells them",
        same_as_strace.same_as_strace, 0, 300),
)  # fmt: skip
ROWS = {row.name: row for row in _ROWS}
