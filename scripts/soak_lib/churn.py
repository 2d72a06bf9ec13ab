"""Processes that come and go at a pace: by two spawners, which are restarted now and then."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spawner_load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPAWNERS = 2
_SATURATION_S = 1.5
_NO_END = 50_000_000
# A spawner that is left alone, because we were killed, ends by itself: after so many seconds.
_AT_MOST_S = 120


@contextmanager
def _spawners(directory: Path, count: int, pause_us: int = 0) -> Iterator[Load]:
    load = Load(directory, count, SPAWNERS, pause_us=pause_us, process_group=0)
    try:
        yield load
    finally:
        load.kill()


def saturation(directory: Path) -> float:
    """Return how many processes a second two spawners make that never rest, without a tracer."""
    with _spawners(directory, _NO_END) as load:
        time.sleep(_SATURATION_S)
        return load.stop().per_second


class Churn:
    """Spawns ``rate`` processes a second, at even distances."""

    def __init__(self, directory: Path, rate: float) -> None:
        self._directory = directory
        self._count = int(rate * _AT_MOST_S)
        self._interval_us = max(1, round(SPAWNERS / rate * 1e6))
        self.spawned = 0

    @contextmanager
    def round(self) -> Iterator[None]:
        """Spawn while the block runs; then count what was spawned."""
        with _spawners(self._directory, self._count, -self._interval_us) as load:
            try:
                yield
            finally:
                self.spawned += len(load.stop().spawned)
