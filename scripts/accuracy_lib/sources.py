"""What each source can know, and so what it may be asked for."""

from __future__ import annotations

from typing import NamedTuple

_TICK_NS = 10_000_000


class Source(NamedTuple):
    """How a source is judged."""

    name: str
    start_ns: int
    """How far the start that it tells may be from the real one."""
    tells_times: bool
    """Whether its records have the times of what happened; else those at which it looked."""
    may_inherit: bool
    """Whether what it marks as inherited may be only what was not found out."""
    counts_losses: bool = True
    ends_late: bool = False
    """Whether the time of an end is when its message was sent, perhaps after it was waited for."""
    looks_within_ns: int = 0
    """How far from the time of a record it may have looked, on a busy machine."""


SOURCES = {
    source.name: source
    for source in (
        Source("bpf", 0, tells_times=True, may_inherit=False),
        Source("proc-connector", _TICK_NS, tells_times=True, may_inherit=True, ends_late=True),
        Source("proc-walker", _TICK_NS, tells_times=False, may_inherit=True,
               counts_losses=False, looks_within_ns=1_000_000_000),
    )
}  # fmt: skip
