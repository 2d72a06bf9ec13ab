"""Makes the proc connector speak, and reads what it says. No test of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proctree_bpf.sources.proc_socket import ProcConnector


def write_own_name(name: bytes | None = None) -> None:
    """Make the kernel send a message about this thread."""
    path = Path("/proc/thread-self/comm")
    path.write_bytes(path.read_bytes()[:-1] if name is None else name)


def read_all(connector: ProcConnector) -> None:
    """Read until something is raised."""
    while True:
        connector.recv()


def monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def touch_every_cpu() -> None:
    """Make each CPU send a message."""
    allowed = os.sched_getaffinity(0)
    try:
        for cpu in allowed:
            os.sched_setaffinity(0, {cpu})
            write_own_name()
    finally:
        os.sched_setaffinity(0, allowed)
