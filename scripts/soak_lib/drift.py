"""Whether a tree and ``/proc`` agree on who lives, once what is on its way has arrived."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from proc_looks import Who, living

if TYPE_CHECKING:
    from collections.abc import Callable

_AGAIN_S = 0.2
_ARRIVAL_S = 0.1


class Told(NamedTuple):
    """Who lives by what a tracer has told, and until when (CLOCK_BOOTTIME) it has told all.

    That is 0 while its tree calls itself uncertain, because of a loss that is not mended yet.
    """

    living: set[Who]
    until_s: float


class Drift(NamedTuple):
    """Who is said to live by one of both alone, though all until then was told.

    Nobody, where it had not been told within the limit: then they were not ``compared``.
    """

    only_tree: set[Who]
    only_proc: set[Who]
    settled_s: float
    """How long it took until both agreed, or this was clear."""
    compared: bool = True


def drift(
    of_tree: Callable[[], Told],
    of_proc: Callable[[], set[Who]] = living,
    *,
    patience_s: float,
    limit_s: float,
) -> Drift:
    """Compare both again and again until they agree on all who differed at first.

    Who still differs when all that had happened by then was told, and ``patience_s`` are over,
    is drift.
    """
    begun_s = _now_s()
    only_tree: set[Who] | None = None
    only_proc: set[Who] = set()
    while True:
        told, proc = of_tree(), of_proc()
        if only_tree is None:
            begun_s = _now_s()
            only_tree, only_proc = told.living - proc, proc - told.living
        else:
            only_tree, only_proc = (
                only_tree & (told.living - proc),
                only_proc & (proc - told.living),
            )
        took_s = _now_s() - begun_s
        has_all = told.until_s > begun_s + _ARRIVAL_S and took_s > patience_s
        if not (only_tree or only_proc) or has_all:
            return Drift(only_tree, only_proc, took_s)
        if took_s > limit_s:
            return Drift(set(), set(), took_s, compared=False)
        time.sleep(_AGAIN_S)


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
