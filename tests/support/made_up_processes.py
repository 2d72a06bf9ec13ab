"""Processes that never were, told to a real tree by events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proctree_bpf import Exec, Exit, Fork, PidTree, ProcCache, ProcessEvent, ProcessKey
from proctree_bpf.core.tracker import Tracker
from support.values import replace

if TYPE_CHECKING:
    from proctree_bpf import ProcEvent

SECOND_NS = 1_000_000_000
_STEP_NS = 1_234_567  # so that start times have nanoseconds, as the kernel's do
_USERS = {0: "root", 1000: "ada"}


class MadeUpProcesses:
    """Applies events to a real tree; time goes on by itself. PID 1 is there from the start."""

    def __init__(self, root: str = "init") -> None:
        self.tree, self.cache = PidTree(), ProcCache()
        self.tracker = Tracker(self.tree, self.cache, _USERS.get)
        self.now_ns = 100 * SECOND_NS
        self._keys = {0: ProcessKey(0)}
        self.fork(1, by=0, comm=root)

    def key(self, pid: int) -> ProcessKey:
        return self._keys[pid]

    def set_key(self, pid: int, key: ProcessKey) -> None:
        """Let what follows of a PID be of a process that nothing was told of."""
        self._keys[pid] = key

    def _apply(self, event: ProcEvent) -> ProcessEvent:
        process_event = self.tracker.apply(event)
        assert process_event is not None
        # A copy: a sink that is told later sees the process as it was then.
        return ProcessEvent(event, replace(process_event.process), process_event.uncertain)

    def _tick(self) -> int:
        self.now_ns += _STEP_NS
        return self.now_ns

    def fork(self, pid: int, by: int = 1, comm: str = "sh", **more: Any) -> ProcessEvent:
        """Let ``by`` create a process."""
        now_ns = self._tick()
        self._keys[pid] = ProcessKey(pid, now_ns)
        more = {"uid": 0, "gid": 0, **more}
        return self._apply(Fork(now_ns, self._keys[pid], self._keys[by], comm=comm, **more))

    def exec(self, pid: int, *args: str, comm: str = "sh", **more: Any) -> ProcessEvent:
        """Let a process run a program."""
        raw = "".join(arg + "\0" for arg in args).encode("utf-8", "surrogateescape")
        more = {"uid": 0, "gid": 0, "args_raw": raw, **more}
        return self._apply(Exec(self._tick(), self._keys[pid], comm=comm, **more))

    def exit(self, pid: int, status: int | None = 0, after_ns: int = 0) -> ProcessEvent:
        """Let a process end, ``after_ns`` later."""
        self.now_ns += after_ns
        return self._apply(Exit(self._tick(), self._keys[pid], status=status))

    def line_of(self, *names: str, first_pid: int = 1000) -> int:
        """Create a process for each name, each the child of the one before; return the last."""
        parent = 1
        for pid, name in enumerate(names, first_pid):
            self.fork(pid, by=parent, comm=name)
            parent = pid
        return parent
