"""The two clocks of the program, as the kernel itself and every other process has them.

In a time namespace (time_namespaces(7)), what clock_gettime(2) says and what ``/proc`` shows
of starts is shifted; what BPF and the proc connector tell is not. Here it is shifted back.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from proctree_bpf.core.identity import TICK_NS

_TRIES = 10
_AT_ONCE_NS = 20_000
_SECOND_NS = 1_000_000_000
# PROC_TIME_INIT_INO, include/linux/proc_ns.h: the initial time namespace's inode.
_INITIAL_TIME_NS = 0xEFFFFFFA
# Before Linux 5.7, the clocks of timens_offsets have numbers (include/uapi/linux/time.h).
_MONOTONIC, _BOOTTIME = ("monotonic", "1"), ("boottime", "7")

_NOT_TOLD = "how far this time namespace's clocks are shifted is not told"


class Shift(NamedTuple):
    """What this process's time namespace adds to the kernel's clocks, in ns.

    ``trouble`` says, in one clause, why the starts in ``/proc`` cannot be shifted back.
    """

    monotonic_ns: int = 0
    boottime_ns: int = 0
    trouble: str | None = None


@lru_cache(maxsize=1)
def shift() -> Shift:
    """Return the shift, found out once: a process gets other clocks by exec or fork only."""
    namespaces = Path("/proc/self/ns")
    try:
        own = (namespaces / "time").stat().st_ino
        of_children = (namespaces / "time_for_children").stat().st_ino
        offsets = Path("/proc/self/timens_offsets").read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return Shift()  # a kernel without time namespaces; without /proc, all sources say so
    if own == _INITIAL_TIME_NS:
        return Shift()
    if own != of_children:  # what the file shows is what children get
        return Shift(trouble=_NOT_TOLD)
    try:
        return _shift_of(offsets)
    except ValueError:
        return Shift(trouble=_NOT_TOLD)


# A process that is forked has the clocks that unshare(2) has made for children.
os.register_at_fork(after_in_child=shift.cache_clear)


def _shift_of(offsets: str) -> Shift:
    found = {
        clock: int(seconds) * _SECOND_NS + int(nanoseconds)
        for clock, seconds, nanoseconds in map(str.split, offsets.splitlines())
    }
    monotonic_ns = next((found[name] for name in _MONOTONIC if name in found), 0)
    boottime_ns = next((found[name] for name in _BOOTTIME if name in found), 0)
    trouble = None
    if boottime_ns < 0:
        trouble = "this time namespace's clock is behind, so /proc shows no start before its zero"
    elif boottime_ns % TICK_NS:
        trouble = "this time namespace's clock is shifted by a part of a tick (10 ms)"
    return Shift(monotonic_ns, boottime_ns, trouble)


def monotonic_ns() -> int:
    """Return the kernel's CLOCK_MONOTONIC in ns, the clock of the proc connector."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) - shift().monotonic_ns


def boottime_ns() -> int:
    """Return the kernel's CLOCK_BOOTTIME in ns, the clock of every event."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - shift().boottime_ns


def both_clocks_ns() -> tuple[int, int]:
    """Return CLOCK_MONOTONIC and CLOCK_BOOTTIME of one moment, in ns.

    If we are interrupted between the two readings they are of two moments: then again.
    """
    tries: list[tuple[int, int, int]] = []
    while len(tries) < _TRIES:
        before = monotonic_ns()
        boottime = boottime_ns()
        tries.append((monotonic_ns() - before, before, boottime))
        if tries[-1][0] < _AT_ONCE_NS:
            break
    return min(tries)[1:]


def wall_offset_ns() -> int:
    """Return what to add to CLOCK_BOOTTIME to get the time of day (UTC), in ns.

    Sampled between two readings of the other clock; a program takes it once, so that
    one process's start is the same in every record even if the wall clock is set.
    """
    before = boottime_ns()
    wall = time.time_ns()
    return wall - (before + boottime_ns()) // 2
