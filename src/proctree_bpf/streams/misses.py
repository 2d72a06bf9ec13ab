"""How many events no copy of a program told of, where the kernel skips programs. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

READINGS = 5
"""Of so many in a row, the least counts while programs are attached."""


class Misses:
    """Tells from what is counted of the copies of each program how many events were missed.

    What the first copy was skipped for is missed unless another one tells of it. Of an event that
    is on its way from one to the next this is not decided yet, so a reading can say too much; the
    same event is not on its way in all of them. No more is missed, either, than the copy was
    skipped for that was skipped least.
    """

    def __init__(self) -> None:
        self._readings = deque([0] * READINGS, maxlen=READINGS)

    def read(self, skipped: Sequence[Sequence[int]], told_by_others: int, *, attached: bool) -> int:
        """Return how many are missed by now.

        ``skipped`` has for each copy how often each of its programs was, and was read before
        ``told_by_others``, which is how many events other copies than the first told of.
        """
        at_most = sum(map(min, zip(*skipped, strict=True)))
        self._readings.append(min(at_most, max(0, sum(skipped[0]) - told_by_others)))
        return min(self._readings) if attached else self._readings[-1]
