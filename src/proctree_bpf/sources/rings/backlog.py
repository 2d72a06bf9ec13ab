"""What was taken from the perf rings and waits to be decoded: bytes as the kernel wrote them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.codecs.inputs import Drain
from proctree_bpf.codecs.sample_decoder import samples_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf.codecs.inputs import CpuCounters
    from proctree_bpf.filters.kernel_port import FilterFallback

# What is less is taken together with what comes next: so whoever is behind has fewer and fewer
# pieces before it, however often more is received meanwhile.
LEAST_PIECE = 64 << 10
MAX_BYTES = 24 << 20
"""Of 135 000 events, which take less than a second; what comes then stays in the rings."""


class Taken(NamedTuple):
    """What was read at one moment, in this order: the clock, the counters, the rings.

    ``chunks`` has the bytes of each CPU's ring; ``missed`` and ``fallback`` are as in ``Drain``
    and ``Delivery``. ``since_ns`` is when the first of it was taken, if that was more than once.
    """

    since_ns: int
    taken_ns: int
    counters: Sequence[CpuCounters]
    chunks: Sequence[tuple[int, bytes]]
    missed: int
    fallback: FilterFallback | None

    def drain(self) -> Drain:
        """Cut the bytes into samples."""
        return Drain(self.taken_ns, self.counters, samples_in(self.chunks), self.missed)


class Backlog:
    """A queue of what was taken, which knows how many bytes it holds."""

    def __init__(self) -> None:
        self._queue: deque[Taken] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def fill(self) -> float:
        """How much of its room is taken: from 0 to 1, or more after the last that found room."""
        return self._bytes / MAX_BYTES

    @property
    def since_ns(self) -> int | None:
        """When the oldest was taken (``CLOCK_BOOTTIME``), if there is any."""
        return self._queue[0].since_ns if self._queue else None

    def append(self, taken: Taken) -> None:
        """Add what was taken last."""
        self._bytes += _size(taken)
        if self._queue and _size(self._queue[-1]) < LEAST_PIECE:
            last = self._queue.pop()
            chunks = [*last.chunks, *taken.chunks]
            taken = taken._replace(since_ns=last.since_ns, chunks=chunks)
        self._queue.append(taken)

    def popleft(self) -> Taken:
        """Remove and return the oldest."""
        taken = self._queue.popleft()
        self._bytes -= _size(taken)
        return taken


def _size(taken: Taken) -> int:
    return sum(len(data) for _, data in taken.chunks)
