"""Walks of ``/proc`` -> process events. Pure: looking at one process is passed in.

A walk shows who is there, not what happened: a process that lived between two walks was
never there, times are those of the walk, and nobody tells why a process ended. Whose child it was
then is only known if that one is still there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent, Rename
from proctree_bpf.core.identity import NOT_KNOWN, ProcessKey

if TYPE_CHECKING:
    from proctree_bpf.codecs.inputs import Walk
    from proctree_bpf.codecs.proc_files import Reading, Stat
    from proctree_bpf.streams.proc_reader import ProcReader

SOURCE = "proc-walker"


class WalkStream:
    """Compares each walk with the one before; the first one gives no events."""

    def __init__(self, reader: ProcReader) -> None:
        self._reader = reader
        self._seen: dict[ProcessKey, Stat] | None = None
        self._by_pid: dict[int, ProcessKey] = {}
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
            self._by_pid = {stat.pid: key for key, stat in current.items()}
            for key in current:
                self._look(key)  # what they run now, to tell an exec from a rename later
            return [], watermark_ns
        parents, self._by_pid = self._by_pid, {stat.pid: key for key, stat in current.items()}
        events: list[ProcEvent] = []
        for key, stat in before.items():
            if key not in current:
                parent = parents.get(stat.ppid)
                parent = parent if parent in current else NOT_KNOWN
                events.append(Exit(walk.taken_ns, key, parent, comm=stat.comm))
        self._programs = {key: self._programs[key] for key in self._programs if key in current}
        for key, stat in current.items():
            known = before.get(key)
            if known is None:
                continue
            if known.comm != stat.comm or known.has_execed != stat.has_execed:
                events.append(self._changed(key, known, stat, walk.taken_ns))
        new = {key: current[key] for key in current if key not in before}
        for key in _parents_first(new, self._by_pid):
            events += self._appeared(key, current[key], walk.taken_ns)
        return events, watermark_ns

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if anything is kept of one that has ended; for tests."""
        assert self._programs.keys() <= (self._seen or {}).keys()  # noqa: S101

    def _look(self, key: ProcessKey) -> Reading | None:
        read = self._reader.entry(key.pid)
        if read is None or read[0].key != key:
            return None
        self._programs[key] = (read[1].executable, read[1].args_raw)
        return read

    def _parent(self, stat: Stat) -> ProcessKey:
        return self._by_pid.get(stat.ppid, ProcessKey(stat.ppid))

    def _appeared(self, key: ProcessKey, stat: Stat, now_ns: int) -> list[ProcEvent]:
        read = self._look(key)
        info = read[1] if read is not None else None
        fork = Fork(
            timestamp_ns=now_ns,
            child=key,
            creator=self._parent(stat),
            uid=info.uid if info is not None else None,
            gid=info.gid if info is not None else None,
            ns_pid=info.ns_pid if info is not None else None,
            comm=stat.comm,
            observed=True,
        )
        if read is not None and read[0].has_execed:
            return [fork, read[1].as_exec(now_ns, key, self._parent(stat))]
        if stat.has_execed:
            return [fork, Exec(now_ns, key, self._parent(stat), comm=stat.comm)]
        return [fork]

    def _changed(self, key: ProcessKey, known: Stat, stat: Stat, now_ns: int) -> ProcEvent:
        """Tell what has changed of a process: another name, or another program."""
        before = self._programs.get(key)
        read = self._look(key)
        has_execed = stat.has_execed and not known.has_execed
        if read is not None and stat.has_execed:
            has_execed |= before != self._programs[key]
        if not has_execed:
            return Rename(now_ns, key, stat.comm)
        if read is None:
            return Exec(now_ns, key, self._parent(stat), comm=stat.comm)
        return read[1].as_exec(now_ns, key, self._parent(stat))

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
