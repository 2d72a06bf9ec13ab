"""What the kernel says of a process in ``/proc``, read without the code under test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """A process as ``/proc`` names it: PID, and start in ticks since boot."""

    pid: int
    ticks: int


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of ``/proc/PID/stat`` from field 3 on."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def identity(pid: int) -> Identity:
    """Return the identity of a live process or a zombie."""
    return Identity(pid, int(_stat_fields(pid)[22 - 3]))


def exists(who: Identity) -> bool:
    """Tell whether a process is there, alive or a zombie."""
    try:
        return identity(who.pid) == who
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_pid(pid: int) -> int:
    """Return the PID of the kernel's present parent."""
    return int(_stat_fields(pid)[4 - 3])


def is_ending(pid: int) -> bool:
    """Tell whether a process, or its leader at least, is in do_exit() or a zombie."""
    return bool(int(_stat_fields(pid)[9 - 3]) & 0x4)  # PF_EXITING


def comm(pid: int) -> str:
    """Return the name, without the newline that the kernel adds."""
    return os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()[:-1])


def cmdline(pid: int) -> bytes:
    """Return the argument block."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def exe(pid: int) -> str:
    """Return the path of the running file."""
    return os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - not to be made a Path


def status_field(pid: int, name: str) -> list[int]:
    """Return the numbers of a line of ``/proc/PID/status``."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8", "surrogateescape").splitlines()
    values = next(line for line in lines if line.startswith(f"{name}:"))
    return [int(value) for value in values.split()[1:]]
