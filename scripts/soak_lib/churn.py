"""Processes that come and go at a pace: two spawners that rest between, and are restarted."""

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
_SPAWNING_US = 150
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
    """Spawns ``rate`` processes a second, as well as pauses allow; corrected each round."""

    def __init__(self, directory: Path, rate: float) -> None:
        self._directory = directory
        self._rate = rate
        # Less what spawning takes; the first round shows what it really does.
        self._pause_us = max(0.0, SPAWNERS / rate * 1e6 - _SPAWNING_US)
        self.spawned = 0

    @contextmanager
    def round(self) -> Iterator[None]:
        """Spawn while the block runs; then count what was spawned."""
        count = int(self._rate * _AT_MOST_S)
        with _spawners(self._directory, count, int(self._pause_us)) as load:
            try:
                yield
            finally:
                burst = load.stop()
                self.spawned += len(burst.spawned)
                self._correct(burst.per_second)

    def _correct(self, per_second: float) -> None:
        late_us = SPAWNERS * 1e6 * (1 / self._rate - 1 / max(per_second, 1.0))
        self._pause_us = max(0.0, self._pause_us + late_us)
