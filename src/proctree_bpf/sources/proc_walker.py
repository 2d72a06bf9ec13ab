"""Sees processes come and go by walking ``/proc``; blind to what lives between two walks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proctree_bpf.sources.system import procfs
from proctree_bpf.sources.system.clock import boottime_ns

if TYPE_CHECKING:
    from proctree_bpf.core.identity import ProcessKey

PROCESS_SPAWNED = "process.spawned"
PROCESS_EXITED = "process.exited"


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """A process that appeared or disappeared between two walks.

    ``probe_source`` is ``process.spawned`` or ``process.exited``; ``seen_ns`` is when
    the walk began (CLOCK_BOOTTIME), not when it happened.
    """

    probe_source: str
    key: ProcessKey
    comm: str
    ppid: int
    seen_ns: int

    @property
    def pid(self) -> int:
        """The PID."""
        return self.key.pid


class ProcWalker:
    """Remembers the last walk. A PID that was reused in between is an exit and a spawn."""

    def __init__(self, proc: str = procfs.PROC) -> None:
        self._proc = proc
        self._seen: dict[ProcessKey, tuple[str, int]] = {}

    def poll(self) -> list[ProbeEvent]:
        """Walk ``/proc`` and return what changed, exits first; the first walk finds all.

        A process that starts and ends between two walks is never seen.

        Raises:
            OSError: ``/proc`` cannot be listed.

        """
        seen_ns = boottime_ns()
        current = {
            stat.key: (stat.comm, stat.ppid)
            for stat in procfs.iter_stats(self._proc)
            if not stat.ended
        }
        exited = [
            ProbeEvent(PROCESS_EXITED, key, *known, seen_ns)
            for key, known in self._seen.items()
            if key not in current
        ]
        spawned = [
            ProbeEvent(PROCESS_SPAWNED, key, *found, seen_ns)
            for key, found in current.items()
            if key not in self._seen
        ]
        self._seen = current
        return exited + spawned
