"""Processes that have ended, by the time of their end. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proctree_bpf.core.process import TrackedProcess


class EndedQueue:
    """Hands out processes in the order of their ends.

    An end is most often the latest so far, which costs an append. An entry is passed over if
    its process is not kept any more, or has another end by now.
    """

    def __init__(self) -> None:
        # Side by side: a tuple for each would take as much as a third of the process.
        self._in_order: deque[TrackedProcess] = deque()
        self._times: deque[int] = deque()
        self._late: list[tuple[int, int, TrackedProcess]] = []
        self._serial = count()
        self._latest_ns = 0

    def push(self, process: TrackedProcess, exited_ns: int) -> None:
        """Take in a process that has ended."""
        if exited_ns >= self._latest_ns:
            self._latest_ns = exited_ns
            self._in_order.append(process)
            self._times.append(exited_ns)
        else:
            heapq.heappush(self._late, (exited_ns, next(self._serial), process))

    def pop(self, until_ns: float) -> TrackedProcess | None:
        """Return and let go the one that ended first, if it was no later than ``until_ns``."""
        in_order, times, late = self._in_order, self._times, self._late
        while in_order or late:
            if late and not (in_order and times[0] <= late[0][0]):
                exited_ns, _, process = late[0]
                if exited_ns > until_ns:
                    return None
                heapq.heappop(late)
            else:
                exited_ns = times[0]
                if exited_ns > until_ns:
                    return None
                times.popleft()
                process = in_order.popleft()
            if process.is_kept and process.exited_ns == exited_ns:
                return process
        return None
