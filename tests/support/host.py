"""The program that a collector runs in: it is to be left as it was. No test of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proctree_bpf import Collector
from proctree_bpf.sources.system.procfs import read_key
from support.waiting import wait_until

if TYPE_CHECKING:
    from proctree_bpf import EventSource


def _descriptors() -> dict[int, str]:
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found[int(link.name)] = str(link.readlink())
    return found


def _state() -> tuple[Any, ...]:
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return handlers, signal.set_wakeup_fd(-1), dict(os.environ), Path.cwd(), os.umask(0o22)


def check_that_it_is_left_alone(source: str | EventSource) -> None:
    """Run a collector with this source, and compare this process before, meanwhile and after."""
    descriptors, state, threads = _descriptors(), _state(), threading.active_count()
    with Collector(source) as live:
        now = _descriptors()
        assert {fd: name for fd, name in now.items() if fd in descriptors} == descriptors
        assert not any(os.get_inheritable(fd) for fd in now if fd not in descriptors)
        assert _state() == state
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            wait_until("it is known", lambda: read_key(child.pid) in live.tree)
    assert (_descriptors(), _state(), threading.active_count()) == (descriptors, state, threads)
