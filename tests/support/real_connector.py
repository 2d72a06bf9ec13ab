"""Makes the kernel's proc connector send messages, and reads them."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.codecs.cn_proc import Overrun

if TYPE_CHECKING:
    from proctree_bpf.sources.system.connector_socket import ProcConnector

HUGE_BUFFER = 1 << 28
"""Room for what a busy machine does while a test waits for something: 600 000 messages."""


def write_own_name(name: bytes | None = None) -> None:
    """Make the kernel send a message about this thread; before Linux 5.15, a write is silent."""
    own = Path("/proc/thread-self/comm").read_bytes()[:-1] if name is None else name
    ctypes.CDLL(None).prctl(15, own, 0, 0, 0)  # PR_SET_NAME


def read_all(connector: ProcConnector) -> None:
    """Read until something is raised."""
    while True:
        connector.recv()


def read_all_but_losses(connector: ProcConnector) -> None:
    """Read until something else is raised than that a busy machine has filled the buffer."""
    while True:
        with suppress(Overrun):
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
