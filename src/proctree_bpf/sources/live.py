"""What all sources that watch this very machine have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.sources import procfs
from proctree_bpf.sources.clock import boottime_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.sources.procfs import Reading
    from proctree_bpf.sources.recorder import Recorder

_PROGRESS_EVERY = 64


class LiveSource:
    """Reads snapshots from ``/proc`` and the time from the clock; may record what it reads."""

    blind_spots: tuple[str, ...] = ()

    def __init__(self, proc: str = procfs.PROC, recorder: Recorder | None = None) -> None:
        self.proc = proc
        self.recorder = recorder

    def read_snapshot(self, progress: Callable[[], object]) -> list[Reading]:
        """Read every process that ``/proc`` shows; see ``EventSource``."""
        readings = []
        for count, reading in enumerate(procfs.iter_snapshot(self.proc), 1):
            readings.append(reading)
            if count % _PROGRESS_EVERY == 0:
                progress()
        progress()
        if self.recorder is not None:
            self.recorder.snapshot(readings)
        return readings

    def now_ns(self) -> int:
        """Return CLOCK_BOOTTIME in ns."""
        return boottime_ns()

    def fileno(self) -> int | None:
        """Return None: this source is drained on a timer."""
        return None
