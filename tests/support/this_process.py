"""What the kernel says of this process, and a child that lasts as long as a test wants."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = os.getpid()


@contextmanager
def sleeper(*argv: str) -> Iterator[int]:
    """Run a process that lasts as long as the block does."""
    with subprocess.Popen(argv or ["cat"], stdin=subprocess.PIPE) as child:
        # Popen returns in the middle of exec: the arguments come a little after the name.
        cmdline = Path(f"/proc/{child.pid}/cmdline")
        wait_until("the child has its arguments", cmdline.read_bytes)
        yield child.pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def my_ancestors() -> list[int]:
    """The PIDs from this process up to the root, as the kernel has them."""
    pids = [ME]
    while parent := parent_of(pids[-1]):
        pids.append(parent)
    return pids


def my_user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
