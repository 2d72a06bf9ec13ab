"""Walks of ``/proc`` -> process events. Pure: looking at one process is passed in.

A walk shows who is there, not what happened: a process that lived between two walks was
never there, times are those of the walk, and nobody tells why a process ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proctree_bpf.core.events import Exit, Fork, ProcEvent, Rename
from proctree_bpf.core.identity import ProcessKey

if TYPE_CHECKING:
    from proctree_bpf.codecs.inputs import Walk
    from proctree_bpf.codecs.proc_files import Stat
    from proctree_bpf.core.model import ProcInfo
    from proctree_bpf.streams.proc_reader import ProcReader

SOURCE = "proc-walker"


class WalkStream:
    """Compares each walk with the one before; the first one gives no events."""

    def __init__(self, reader: ProcReader) -> None:
        self._reader = reader
        self._seen: dict[ProcessKey, Stat] | None = None
        self._programs: dict[ProcessKey, tuple[str | None, bytes | None]] = {}
        self.walks = 0
        self.processes = 0

    def feed(self, walk: Walk) -> tuple[list[ProcEvent], int]:
        """Return events, exits first, and the watermark (CLOCK_BOOTTIME)."""
        self.walks += 1
        self.processes += len(walk.stats)
        current = {stat.key: stat for stat in walk.stats if not stat.ended}
        before, self._seen = self._seen, current
        watermark_ns = walk.taken_ns + 1
        if before is None:
            for key in current:
                self._program(key)  # what they run now, to tell an exec from a rename later
            return [], watermark_ns
        events: list[ProcEvent] = [
            Exit(walk.taken_ns, key, comm=stat.comm)
            for key, stat in before.items()
            if key not in current
        ]
        self._programs = {key: self._programs[key] for key in self._programs if key in current}
        for key, stat in current.items():
            known = before.get(key)
            if known is not None and known.comm != stat.comm:
                events.append(self._renamed(key, stat, walk.taken_ns))
        by_pid = {stat.pid: key for key, stat in current.items()}
        new = {key: current[key] for key in current if key not in before}
        for key in _parents_first(new, by_pid):
            events += self._appeared(key, current[key], by_pid, walk.taken_ns)
        return events, watermark_ns

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if anything is kept of one that has ended; for tests."""
        assert self._programs.keys() <= (self._seen or {}).keys()  # noqa: S101

    def _program(self, key: ProcessKey) -> ProcInfo | None:
        read = self._reader.entry(key.pid)
        if read is None or read[0].key != key:
            return None
        self._programs[key] = (read[1].executable, read[1].args_raw)
        return read[1]

    def _appeared(
        self, key: ProcessKey, stat: Stat, by_pid: dict[int, ProcessKey], now_ns: int
    ) -> list[ProcEvent]:
        parent = by_pid.get(stat.ppid, ProcessKey(stat.ppid))
        info = self._program(key)
        fork = Fork(
            timestamp_ns=now_ns,
            child=key,
            creator=parent,
            uid=info.uid if info is not None else None,
            gid=info.gid if info is not None else None,
            ns_pid=info.ns_pid if info is not None else None,
            comm=stat.comm,
            observed=True,
        )
        if info is None or self._is_program_of(parent, info):
            return [fork]
        return [fork, info.as_exec(now_ns, key)]

    def _is_program_of(self, parent: ProcessKey, info: ProcInfo) -> bool:
        """Tell whether a new process still runs what its parent runs: then it did not exec."""
        if parent not in self._programs:
            self._program(parent)
        return self._programs.get(parent) == (info.executable, info.args_raw)

    def _renamed(self, key: ProcessKey, stat: Stat, now_ns: int) -> ProcEvent:
        before = self._programs.get(key)
        info = self._program(key)
        if info is None or before == (info.executable, info.args_raw):
            return Rename(now_ns, key, stat.comm)
        return info.as_exec(now_ns, key)

    def summary(self) -> dict[str, Any]:
        """Return how many walks there were, and how many processes they met."""
        return {"walks": self.walks, "received": self.processes, "lost": 0}


def _parents_first(new: dict[ProcessKey, Stat], by_pid: dict[int, ProcessKey]) -> list[ProcessKey]:
    """Return new processes by age, and within a tick each after its parent."""
    ordered: dict[ProcessKey, None] = {}
    for key in sorted(new, key=lambda key: (key.ticks, key.pid)):
        line = []
        ancestor: ProcessKey | None = key
        while ancestor in new and ancestor not in ordered and ancestor not in line:
            line.append(ancestor)
            ancestor = by_pid.get(new[ancestor].ppid)
        ordered.update(dict.fromkeys(reversed(line)))
    return list(ordered)
