"""Walks of ``/proc`` -> process events. Pure: looking at one process is passed in.

A walk shows who is there, not what happened: a process that lived between two walks was
never there, times are those of the walk, and nobody tells why a process ended. Whose child it was
then is only known if that one is still there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent, Rename
from proctree_bpf.core.identity import NOT_KNOWN, ProcessKey

if TYPE_CHECKING:
    from proctree_bpf.codecs.inputs import Walk
    from proctree_bpf.codecs.proc_files import Stat
    from proctree_bpf.core.model import ProcInfo
    from proctree_bpf.streams.proc_reader import ProcReader

SOURCE = "proc-walker"

Program: TypeAlias = tuple[str | None, bytes | None]
"""Executable and arguments."""


class _Known(NamedTuple):
    """A process when it was last looked at; ``program`` is None if it was gone."""

    stat: Stat
    program: Program | None


class WalkStream:
    """Compares each walk with the one before; the first one gives no events."""

    def __init__(self, reader: ProcReader) -> None:
        self._reader = reader
        self._seen: dict[ProcessKey, Stat] | None = None
        self._by_pid: dict[int, ProcessKey] = {}
        self._known: dict[ProcessKey, _Known] = {}
        self.walks = 0
        self.processes = 0

    def feed(self, walk: Walk) -> tuple[list[ProcEvent], int]:
        """Return events, exits first, and the watermark (CLOCK_BOOTTIME)."""
        self.walks += 1
        self.processes += len(walk.stats)
        current = {stat.key: stat for stat in walk.stats if not stat.ended}
        before, self._seen = self._seen, current
        parents, self._by_pid = self._by_pid, {stat.pid: key for key, stat in current.items()}
        watermark_ns = walk.taken_ns + 1
        if before is None:
            for key, stat in current.items():
                self._look(key, stat)  # what they run now, to tell an exec from a rename later
            return [], watermark_ns
        events: list[ProcEvent] = []
        for key, stat in before.items():
            if key not in current:
                parent = parents.get(stat.ppid)
                parent = parent if parent in current else NOT_KNOWN
                events.append(Exit(walk.taken_ns, key, parent, comm=self._known[key].stat.comm))
        self._known = {key: self._known[key] for key in current if key in before}
        for key, stat in current.items():
            known = self._known.get(key)
            if known is not None and _has_changed(known.stat, stat):
                events += self._changed(key, stat, walk.taken_ns)
        new = {key: current[key] for key in current if key not in before}
        for key in _parents_first(new, self._by_pid):
            events += self._appeared(key, current[key], walk.taken_ns)
        return events, watermark_ns

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if anything is kept of one that has ended; for tests."""
        assert self._known.keys() <= (self._seen or {}).keys()  # noqa: S101

    def _look(self, key: ProcessKey, stat: Stat) -> tuple[Stat, ProcInfo | None]:
        """Read what a process runs now; the stat file that was seen, if it is gone."""
        read = self._reader.entry(key.pid)
        if read is None or read[0].key != key:
            self._known[key] = _Known(stat, None)
            return stat, None
        stat, info = read
        self._known[key] = _Known(stat, (info.executable, info.args_raw))
        return read

    def _parent(self, stat: Stat) -> ProcessKey:
        return self._by_pid.get(stat.ppid, ProcessKey(stat.ppid))

    def _appeared(self, key: ProcessKey, stat: Stat, now_ns: int) -> list[ProcEvent]:
        now, info = self._look(key, stat)
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
        return [fork, self._exec(now, info, now_ns)] if now.has_execed else [fork]

    def _exec(self, stat: Stat, info: ProcInfo | None, now_ns: int) -> Exec:
        if info is None:
            return Exec(now_ns, stat.key, self._parent(stat), comm=stat.comm)
        return info.as_exec(now_ns, stat.key, self._parent(stat))

    def _changed(self, key: ProcessKey, stat: Stat, now_ns: int) -> list[ProcEvent]:
        """Tell what has changed of a process: another name, or another program."""
        before = self._known[key]
        now, info = self._look(key, stat)
        if _has_execed(before, now, self._known[key].program):
            return [self._exec(now, info, now_ns)]
        return [Rename(now_ns, key, now.comm)] if now.comm != before.stat.comm else []

    def summary(self) -> dict[str, Any]:
        """Return how many walks there were, and how many processes they met."""
        return {"walks": self.walks, "received": self.processes, "lost": 0}


def _has_changed(known: Stat, stat: Stat) -> bool:
    if known.comm != stat.comm or known.has_execed != stat.has_execed:
        return True
    return stat.has_stack(known.start_stack) is False


def _has_execed(before: _Known, stat: Stat, program: Program | None) -> bool:
    """Tell whether a process has called exec since it was looked at before.

    Another name, and other arguments, it can give itself.
    """
    if not stat.has_execed or not before.stat.has_execed:
        return stat.has_execed
    same_stack = stat.has_stack(before.stat.start_stack)
    if same_stack is False:
        return True
    if program is None or before.program is None:
        return False
    return before.program[0] != program[0] if same_stack else before.program != program


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
