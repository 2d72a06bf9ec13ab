"""Losses that wait for their place among the events. Pure."""

from __future__ import annotations

import heapq
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.core.events import Gap


class GapQueue:
    """Gives gaps back in the order of the times until which something was lost."""

    def __init__(self) -> None:
        # The count decides between equal times: gaps have no order of their own.
        self._gaps: list[tuple[int, int, Gap]] = []
        self._count = 0
        self.next_ns: float = inf
        """The first of these times; infinity if no gap waits."""

    def push(self, gap: Gap) -> None:
        """Add a gap."""
        self._count += 1
        heapq.heappush(self._gaps, (gap.until_ns or gap.timestamp_ns, self._count, gap))
        self.next_ns = self._gaps[0][0]

    def pop_until(self, time_ns: float) -> Iterator[Gap]:
        """Remove and yield the gaps whose time is this one or an earlier one, oldest first."""
        while self._gaps and self._gaps[0][0] <= time_ns:
            gap = heapq.heappop(self._gaps)[2]
            self.next_ns = self._gaps[0][0] if self._gaps else inf
            yield gap
