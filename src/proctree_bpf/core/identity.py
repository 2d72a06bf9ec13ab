"""Who is who: the identity of a process. Pure values and comparisons only.

A PID is reused, so a process is named by its PID and its start time. The
kernel's start time, ``task_struct.start_boottime``, has nanoseconds;
``/proc/PID/stat`` shows the same number floored to USER_HZ ticks.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import NamedTuple

# USER_HZ is 100 on every architecture that can run BPF (asm-generic/param.h).
TICK_NS = 10_000_000


class Sameness(Enum):
    """The answer to "are these two readings of one process?"."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


class ProcessKey(NamedTuple):
    """The identity of a process.

    Attributes:
        pid: thread group id, as the initial PID namespace has it.
        start_time_ns: start on ``CLOCK_BOOTTIME`` in ns; a multiple of 10 ms if
            it was read from ``/proc``; 0 if it is not known.

    """

    pid: int
    start_time_ns: int = 0

    @property
    def ticks(self) -> int:
        """The start time as ``/proc/PID/stat`` field 22 shows it, in USER_HZ ticks."""
        return self.start_time_ns // TICK_NS

    @property
    def is_exact(self) -> bool:
        """Whether the start time has nanoseconds rather than ticks."""
        return self.start_time_ns % TICK_NS != 0


NOT_KNOWN = ProcessKey(0)
"""Where a parent is told: it has none, or nobody knows whom."""


def same_start(a_ns: int, b_ns: int) -> bool:
    """Tell whether two start times of one PID are provably of one process.

    An unknown start time proves nothing. If either reading has only ticks, ticks
    decide; two exact readings must be equal to the nanosecond.
    """
    if a_ns == b_ns:
        return a_ns != 0
    if not a_ns or not b_ns or (a_ns % TICK_NS and b_ns % TICK_NS):
        return False
    return a_ns // TICK_NS == b_ns // TICK_NS


def compare(a: ProcessKey, b: ProcessKey) -> Sameness:
    """Tell whether two keys name the same process; see ``same_start``."""
    if a.pid != b.pid:
        return Sameness.DIFFERENT
    if not a.start_time_ns or not b.start_time_ns:
        return Sameness.UNKNOWN
    is_same = same_start(a.start_time_ns, b.start_time_ns)
    return Sameness.SAME if is_same else Sameness.DIFFERENT


def more_exact(a: ProcessKey, b: ProcessKey) -> ProcessKey:
    """Of two readings of one process, return the one that says more."""
    if a.is_exact or not b.start_time_ns:
        return a
    return b if b.is_exact or not a.start_time_ns else a


def entity_id(boot_id: str, key: ProcessKey) -> str | None:
    """Return one id for one process on one boot of one machine, or None if either is unknown.

    It uses ticks, so it is the same whether the process was learnt from BPF or
    from ``/proc``. ``boot_id`` is ``/proc/sys/kernel/random/boot_id``.
    """
    if not key.start_time_ns or not boot_id:
        return None
    return f"{_short(boot_id)}-{key.pid}-{key.ticks}"


@lru_cache(maxsize=8)
def _short(boot_id: str) -> str:
    return boot_id.replace("-", "")[:16]
