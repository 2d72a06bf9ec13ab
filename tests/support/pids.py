"""Has a PID twice. No test of its own; it needs root."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
_TRIES = 100


@contextmanager
def another_with_pid(pid: int) -> Iterator[None]:
    """Run a process that has this PID, which is free."""
    for _ in range(_TRIES):  # others may take it first
        _LAST_PID.write_text(str(pid - 1))
        child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
        try:
            if child == pid:
                yield
                return
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
    raise AssertionError(f"PID {pid} could not be had again")


def ended_child() -> int:
    """Return the PID of a process of ours that has ended."""
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    return child.pid
