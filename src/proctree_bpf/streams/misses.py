"""How many events no copy of a program told of, where the kernel skips programs. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

READINGS = 5
"""How many readings in a row are compared while programs are attached; the least counts."""


class Misses:
    """Finds how many events were missed, from what is counted of the copies of each program.

    An event for which the first copy was skipped is missed unless another copy tells of it. While
    it is on its way from one copy to the next, that is not decided, so one reading may say too
    much; but no event is on its way in several readings. Nor can more be missed than the copy that
    was skipped least was skipped for.
    """

    def __init__(self) -> None:
        self._readings = deque([0] * READINGS, maxlen=READINGS)

    def read(self, skipped: Sequence[Sequence[int]], told_by_others: int, *, attached: bool) -> int:
        """Return how many events were missed so far.

        ``skipped`` says for each copy how often each of its programs was skipped. It was read
        before ``told_by_others``: how many events copies other than the first have told of.
        """
        at_most = sum(map(min, zip(*skipped, strict=True)))
        self._readings.append(min(at_most, max(0, sum(skipped[0]) - told_by_others)))
        return min(self._readings) if attached else self._readings[-1]
