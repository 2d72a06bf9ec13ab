"""What all sources that watch this very machine have in common."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from proctree_bpf.codecs.recording import SnapshotPart, encode_snapshot
from proctree_bpf.sources.base import MOUNT_PROC, Snapshot, failing_as
from proctree_bpf.sources.system import procfs
from proctree_bpf.sources.system.clock import boottime_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.codecs.proc_files import Reading
    from proctree_bpf.sources.recorder import Recorder

_PROGRESS_EVERY = 64


class LiveSource:
    """Reads snapshots from ``/proc`` and the time from the clock; may record what it reads."""

    blind_spots: tuple[str, ...] = ()

    def __init__(self, proc: str = procfs.PROC, recorder: Recorder | None = None) -> None:
        self.proc = proc
        self.recorder = recorder

    def read_snapshot(
        self, progress: Callable[[], object], not_before_ns: int = 0
    ) -> Snapshot | None:
        """Read every process that ``/proc`` shows; see ``EventSource``."""
        begun_ns = self.now_ns()
        if begun_ns < not_before_ns:
            return None
        whole: list[Reading] = []
        readings = procfs.iter_snapshot(self.proc)
        while True:
            part_begun_ns = self.now_ns()
            with failing_as(f"{self.proc} cannot be listed any more", MOUNT_PROC):
                some = list(islice(readings, _PROGRESS_EVERY))
            part = SnapshotPart(part_begun_ns, self.now_ns(), not some, some)
            whole += some
            self.meet(some)
            if self.recorder is not None:
                self.recorder.write(encode_snapshot(part))
            if part.last:
                return Snapshot(begun_ns, part.ended_ns, whole)
            progress()

    def meet(self, readings: list[Reading]) -> None:
        """Take note of processes that a snapshot shows, before the next poll."""

    def now_ns(self) -> int:
        """Return CLOCK_BOOTTIME in ns."""
        return boottime_ns()

    def is_quiet(self) -> bool:
        """Return False: only a poll can tell."""
        return False

    def fileno(self) -> int | None:
        """Return None: this source is drained on a timer."""
        return None
