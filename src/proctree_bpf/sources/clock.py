"""The two clocks of the program."""

from __future__ import annotations

import time

_TRIES = 10
_AT_ONCE_NS = 20_000


def boottime_ns() -> int:
    """Return CLOCK_BOOTTIME in ns, the clock of every event."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def both_clocks_ns() -> tuple[int, int]:
    """Return CLOCK_MONOTONIC and CLOCK_BOOTTIME of one moment, in ns.

    If we are interrupted between the two readings they are of two moments: then again.
    """
    best: tuple[int, int, int] | None = None
    for _ in range(_TRIES):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        boottime = boottime_ns()
        apart = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - before
        if best is None or apart < best[0]:
            best = apart, before, boottime
        if apart < _AT_ONCE_NS:
            break
    assert best is not None  # noqa: S101 - there was a try
    return best[1:]


def wall_offset_ns() -> int:
    """Return what to add to CLOCK_BOOTTIME to get the time of day (UTC), in ns.

    Sampled between two readings of the other clock; a program takes it once, so that
    one process's start is the same in every record even if the wall clock is set.
    """
    before = boottime_ns()
    wall = time.time_ns()
    return wall - (before + boottime_ns()) // 2
