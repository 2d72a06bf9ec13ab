"""Puts events from many CPUs into one causal order. Pure.

Perf buffers are per CPU, so an event can be read before an older one from
another CPU. A watermark is a time before which every event is known to have
arrived; what is older than it can be released in order for good.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctree_bpf.core.compact import AnyEvent

_by_time = attrgetter("timestamp_ns")


class ReorderBuffer:
    """Holds events until a watermark says that nothing older can come."""

    def __init__(self) -> None:
        self._held: list[AnyEvent] = []
        self._released_ns = 0
        self._released_late = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def late(self) -> int:
        """How many events came with a time before one already released."""
        held = sum(event.timestamp_ns < self._released_ns for event in self._held)
        return self._released_late + held

    def push(self, events: Iterable[AnyEvent]) -> None:
        """Add events in the order of their arrival; each CPU's own order is kept on ties."""
        self._held.extend(events)

    def release(self, watermark_ns: float) -> list[AnyEvent]:
        """Remove and return, oldest first, the events stamped before the watermark."""
        self._held.sort(key=_by_time)
        count = bisect_left(self._held, watermark_ns, key=_by_time)
        ready = self._held[:count]
        del self._held[:count]
        if ready:
            self._released_late += bisect_left(ready, self._released_ns, key=_by_time)
            self._released_ns = max(self._released_ns, ready[-1].timestamp_ns)
        return ready

    def held(self) -> tuple[AnyEvent, ...]:
        """Return what is held, in no particular order."""
        return tuple(self._held)
