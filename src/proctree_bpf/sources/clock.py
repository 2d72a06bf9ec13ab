"""The two clocks of the program."""

from __future__ import annotations

import time


def boottime_ns() -> int:
    """Return CLOCK_BOOTTIME in ns, the clock of every event."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_offset_ns() -> int:
    """Return what to add to CLOCK_BOOTTIME to get the time of day (UTC), in ns.

    Sampled between two readings of the other clock; a program takes it once, so that
    one process's start is the same in every record even if the wall clock is set.
    """
    before = boottime_ns()
    wall = time.time_ns()
    return wall - (before + boottime_ns()) // 2
