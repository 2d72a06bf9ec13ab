"""Puts events from many CPUs into one causal order. Pure.

Perf buffers are per CPU, so an event can be read before an older one from
another CPU. A watermark is a time before which every event is known to have
arrived; what is older than it can be released in order for good.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctree_bpf.core.compact import AnyEvent

_by_time = attrgetter("timestamp_ns")


class ReorderBuffer:
    """Holds events until a watermark says that nothing older can come."""

    def __init__(self) -> None:
        self._pending: list[AnyEvent] = []
        self._released_ns = 0
        self._released_late = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def late(self) -> int:
        """How many events came with a time before one already released."""
        held = sum(event.timestamp_ns < self._released_ns for event in self._pending)
        return self._released_late + held

    def push(self, events: Iterable[AnyEvent]) -> None:
        """Add events in the order of their arrival; each CPU's own order is kept on ties."""
        self._pending.extend(events)

    def release(self, watermark_ns: float) -> list[AnyEvent]:
        """Remove and return, oldest first, the events stamped before the watermark."""
        self._pending.sort(key=_by_time)
        count = _count_before(self._pending, watermark_ns)
        ready = self._pending[:count]
        del self._pending[:count]
        if ready:
            self._released_late += _count_before(ready, self._released_ns)
            self._released_ns = max(self._released_ns, ready[-1].timestamp_ns)
        return ready

    def pending(self) -> tuple[AnyEvent, ...]:
        """Return what is held, in no particular order."""
        return tuple(self._pending)


def _count_before(events: list[AnyEvent], watermark_ns: float) -> int:
    low, high = 0, len(events)
    while low < high:
        middle = (low + high) // 2
        if events[middle].timestamp_ns < watermark_ns:
            low = middle + 1
        else:
            high = middle
    return low
