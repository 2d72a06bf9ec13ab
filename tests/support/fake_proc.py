"""A /proc made of files, to hold what a real one seldom shows."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FakeProc:
    """A directory with one directory per process."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def directory(self, pid: int) -> Path:
        return self.root / str(pid)

    def add(
        self,
        pid: int,
        ppid: int = 1,
        comm: bytes = b"sh",
        start_ticks: int = 100,
        *,
        uid: int = 0,
        cmdline: bytes = b"sh\0-c\0true\0",
        exe: str | None = "/bin/sh",
        ns_pids: tuple[int, ...] = (),
    ) -> Path:
        """Add a process, written as the kernel writes it."""
        directory = self.directory(pid)
        directory.mkdir()
        before = f"S {ppid} {pid} {pid} 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0"
        after = "0 0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0"
        stat = b"%d (%s) %s %d %s\n" % (pid, comm, before.encode(), start_ticks, after.encode())
        (directory / "stat").write_bytes(stat)
        name = comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
        ns_pid = "\t".join(map(str, ns_pids or (pid,)))
        status = f"State:\tS (sleeping)\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{ppid}\n"
        status += f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        status += f"NSpid:\t{ns_pid}\n"
        (directory / "status").write_bytes(b"Name:\t" + name + b"\n" + status.encode())
        (directory / "cmdline").write_bytes(cmdline)
        if exe is not None:
            os.symlink(exe, directory / "exe")  # noqa: PTH211 - it may point to nothing
        return directory

    def remove(self, pid: int) -> None:
        """Let a process be gone."""
        shutil.rmtree(self.directory(pid))
