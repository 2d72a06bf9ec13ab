"""One running collector that all kernel tests share, and everything that it handed out."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, TypeVar

from proctree_bpf import (
    BpfOptions,
    BpfSource,
    Collector,
    Exec,
    Exit,
    Fork,
    Gap,
    PidNode,
    ProcessKey,
    ProcEvent,
    ProcInfo,
)
from proctree_bpf.sources.bpf import DEFAULT_ARGS_BYTES
from support.proc_truth import Identity
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf import EventSource, Process, ProcessEvent

E = TypeVar("E", bound=ProcEvent)
_TICK_NS = 10_000_000
# 16 MB: it shares its interpreter with the tests, and other work on the machine never ends.
_PERF_PAGES = 4096


class LiveCollector:
    """A collector, and a record of each event that it handed out, in its order.

    The record is of the whole machine, so who shares a collector between tests empties it
    with ``forget`` and stops it, with ``recording``, while nobody looks.
    """

    def __init__(
        self,
        quit_program: Path,
        source: EventSource | None = None,
        *,
        max_args_bytes: int = DEFAULT_ARGS_BYTES,
    ) -> None:
        self.recording = True
        self.uncertain = 0
        """How many events were handed out as uncertain."""
        self.applied: list[ProcessEvent] = []
        self.gaps: list[Gap] = []
        self._by_pid: dict[int, list[ProcessEvent]] = {}
        self._quit_program = quit_program
        self._fences = itertools.count()
        self.collector = Collector(
            source or BpfSource(BpfOptions(max_args_bytes, _PERF_PAGES)),
            on_event=self._record,
            on_gap=self.gaps.append,
        )

    def forget(self) -> None:
        """Begin a new record."""
        self.applied = []
        self._by_pid = {}

    def _record(self, process_event: ProcessEvent) -> None:
        self.uncertain += process_event.uncertain
        if not self.recording:
            return
        self.applied.append(process_event)
        self._by_pid.setdefault(process_event.event.key.pid, []).append(process_event)

    def history(self, who: Identity) -> list[ProcessEvent]:
        """Return what was handed out so far for one process, in order.

        If a PID was had twice within a tick, the last one that descends from us is meant.
        """
        of_pid = tuple(self._by_pid.get(who.pid, ()))
        found = [
            process_event for process_event in of_pid if process_event.event.key.ticks == who.ticks
        ]
        keys = list(dict.fromkeys(process_event.event.key for process_event in found))
        if len(keys) > 1:  # somebody plays with ns_last_pid
            keys = [key for key in keys if self._is_ours(key)] or keys
        return [process_event for process_event in found if process_event.event.key == keys[-1]]

    def _is_ours(self, key: ProcessKey) -> bool:
        return os.getpid() in {p.pid for p in self.collector.process(key).creators()}

    def events(self, who: Identity, kind: type[E]) -> list[E]:
        """Return its events of one kind so far."""
        return [a.event for a in self.history(who) if isinstance(a.event, kind)]

    def kinds(self, who: Identity) -> list[str]:
        """Return the kinds of its events so far."""
        return [type(process_event.event).__name__ for process_event in self.history(who)]

    def fence(self) -> None:
        """Return once everything has been handed out that had happened before the call.

        Events come in the order in which they happened, so the exit of a process that is
        started now comes after all of them.
        """
        program, token = os.fspath(self._quit_program), f"{id(self)}-{next(self._fences)}"
        pid = os.posix_spawn(program, [program, token, "0"], {})
        os.waitpid(pid, 0)
        try:
            wait_until("the fence's exit", lambda: self._has_passed(pid, token))
        except AssertionError as error:
            events = [process_event.event for process_event in self._by_pid.get(pid, ())]
            raise AssertionError(f"{error}: {events}, {self.collector.stats()}") from None

    def _has_passed(self, pid: int, token: str) -> bool:
        ours: set[ProcessKey] = set()
        for event in (process_event.event for process_event in tuple(self._by_pid.get(pid, ()))):
            if isinstance(event, Exec) and token in event.args:
                ours.add(event.key)
            if isinstance(event, Exit) and event.key in ours:
                return True
        return False

    def the_fork(self, who: Identity) -> Fork:
        """Return the one fork that made a process, once it has been handed out."""
        self.fence()
        (fork,) = self.events(who, Fork)
        return fork

    def the_exec(self, who: Identity) -> Exec:
        """Return the one exec of a process, once it has been handed out."""
        self.fence()
        (event,) = self.events(who, Exec)
        return event

    def the_exit(self, who: Identity) -> Exit:
        """Return the one exit of a process, once it has been handed out."""
        self.fence()
        (event,) = self.events(who, Exit)
        return event

    def process(self, who: Identity) -> Process:
        """Return the tree's view of a process."""
        return self.collector.process(self.key(who))

    def key(self, who: Identity) -> ProcessKey:
        """Return the identity of a process, the exact one if an event told it."""
        for process_event in self.history(who):
            return process_event.event.key
        return ProcessKey(who.pid, who.ticks * _TICK_NS)

    def node(self, who: Identity) -> PidNode:
        """Return its place in the tree."""
        node = self.collector.tree.pid_tree.get_node(self.process(who).key)
        assert node is not None
        return node

    def info(self, who: Identity) -> ProcInfo:
        """Return its details."""
        info = self.collector.tree.proc_cache.get_info(self.process(who).key)
        assert info is not None
        return info

    def chain(self, who: Identity) -> list[Identity]:
        """Return a process and its creators, nearest first, as the tree has them now."""
        process = self.process(who)
        return [Identity(p.key.pid, p.key.ticks) for p in (process, *process.creators())]


def as_identity(key: ProcessKey) -> Identity:
    """Return the identity that ``/proc`` shows for a key."""
    return Identity(key.pid, key.ticks)
