"""What a source reads at one moment: what streams are fed with, and what recordings hold. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf.codecs.proc_files import Stat


class CpuCounters(NamedTuple):
    """One CPU's counters at one moment, each by kind of sample."""

    begun: tuple[int, ...]
    failed: tuple[int, ...]


class Drain(NamedTuple):
    """What was read at one moment, in this order: the clock, the counters, the samples.

    ``taken_ns`` is CLOCK_BOOTTIME; ``counters`` has an entry per possible CPU;
    ``samples`` are (CPU, bytes) in the order of arrival. ``missed`` is how many events were known
    to be missed in all, when that was last asked, because the kernel skipped the programs: they
    began no sample.
    """

    taken_ns: int
    counters: Sequence[CpuCounters]
    samples: Sequence[tuple[int, bytes]]
    missed: int = 0


class Received(NamedTuple):
    """What one poll read: datagrams, whether the socket overran, and both clocks before it.

    ``complete`` says that nothing was left in the socket.
    """

    datagrams: Sequence[bytes]
    overrun: bool
    monotonic_ns: int
    boottime_ns: int
    complete: bool = True


class Walk(NamedTuple):
    """What one walk saw; ``taken_ns`` is when it began (CLOCK_BOOTTIME)."""

    taken_ns: int
    stats: Sequence[Stat]
