"""Reads a ``/proc`` that a test writes: what a stream would see if it looked."""

from __future__ import annotations

from proctree_bpf import ProcInfo
from proctree_bpf.codecs.proc_files import Stat
from support.values import replace

TICK_NS = 10_000_000
PF_FORKNOEXEC = 0x40

Answer = tuple[Stat, ProcInfo]


class FakeProcReader:
    """A ``ProcReader``. Counts what it is asked."""

    def __init__(self) -> None:
        self.processes: dict[int, Answer] = {}
        self.asked: list[tuple[str, int]] = []

    def add(
        self,
        pid: int,
        start_ns: int,
        comm: str = "sh",
        *,
        ppid: int = 1,
        threads: int = 1,
        state: str = "S",
        args: bytes | None = b"sh\0",
        exe: str | None = "/bin/sh",
        forked: bool = False,
        stack: int = 0,
    ) -> Answer:
        """Let there be a process, or another one of this PID.

        ``forked``: it has not called exec. ``stack``: where its stack begins, if that is told.
        """
        ticks = start_ns // TICK_NS
        flags = PF_FORKNOEXEC if forked else 0
        stat = Stat(pid, comm, state, ppid, flags, threads, ticks, stack)
        info = ProcInfo(comm, "ada", ppid, pid, ticks * TICK_NS, 1000, 100, exe, args, ns_pid=pid)
        self.processes[pid] = stat, info
        return stat, info

    def remove(self, pid: int) -> None:
        """Let a process be gone."""
        del self.processes[pid]

    def end(self, pid: int) -> None:
        """Let a process be dead, but not waited for."""
        stat, info = self.processes[pid]
        zombie = stat._replace(state="Z")
        self.processes[pid] = zombie, replace(info, args_raw=None, executable=None)

    def stat(self, pid: int) -> Stat | None:
        self.asked.append(("stat", pid))
        answer = self.processes.get(pid)
        return answer[0] if answer is not None else None

    def entry(self, pid: int) -> Answer | None:
        self.asked.append(("entry", pid))
        return self.processes.get(pid)
