"""What /proc shows of processes, for whoever measures or judges from outside. No product code."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

Who = tuple[int, int]
"""A process: its PID, and its start in ticks."""

_MEMORY = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)


def living(proc: Path = Path("/proc")) -> set[Who]:
    """Return who lives, as ``/proc`` shows it: without zombies, but for leaders with threads."""
    found = set()
    for name in os.listdir(proc):  # noqa: PTH208 - names are all that is needed
        if name.isdigit():
            with suppress(OSError):
                fields = (proc / name / "stat").read_bytes().rpartition(b")")[2].split()
                state, threads, ticks = fields[0], int(fields[17]), int(fields[19])
                if state not in (b"Z", b"X") or threads > 1:
                    found.add((int(name), ticks))
    return found


def memory(pid: int) -> tuple[int, int]:
    """Return the bytes of a process's resident memory: now, and at its highest; 0 if it is gone.

    ru_maxrss is no such highest: it is at least that of the process that it was forked from.
    """
    found: dict[str, int] = {}
    with suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
        found = {name: int(kilobytes) * 1024 for name, kilobytes in _MEMORY.findall(text)}
    return found.get("VmRSS", 0), found.get("VmHWM", 0)
