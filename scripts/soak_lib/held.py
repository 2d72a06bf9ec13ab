"""Does something to the machine, and undoes it when stdin ends: also if who started it is killed.

    held.py clock SECONDS      sets the wall clock ahead, and back by as much
    held.py cpu NUMBER         takes a CPU out of service, and back
    held.py stopped PID        stops a process, and lets it go on

It says ``done`` once it is done. No signal that a terminal sends ends it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


def step_clock(seconds: int) -> None:
    """Set the wall clock so much ahead, or back."""
    wall = time.CLOCK_REALTIME
    time.clock_settime_ns(wall, time.clock_gettime_ns(wall) + seconds * 1_000_000_000)


def cpu_switch(number: int) -> Path:
    """Return the file that takes a CPU out of service."""
    return Path(f"/sys/devices/system/cpu/cpu{number}/online")


def _signal(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, what)


_DO: dict[str, tuple[Callable[[int], object], Callable[[int], object]]] = {
    "clock": (step_clock, lambda seconds: step_clock(-seconds)),
    "cpu": (
        lambda number: cpu_switch(number).write_text("0"),
        lambda number: cpu_switch(number).write_text("1"),
    ),
    "stopped": (
        lambda pid: _signal(pid, signal.SIGSTOP),
        lambda pid: _signal(pid, signal.SIGCONT),
    ),
}


def main() -> int:
    """Do it, wait, undo it; return 0, or 1 if it cannot be done."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    do, undo = _DO[sys.argv[1]]
    what = int(sys.argv[2])
    try:
        do(what)
    except OSError as error:
        sys.stdout.write(f"{error.strerror}\n")
        return 1
    try:
        with suppress(OSError):
            sys.stdout.write("done\n")
            sys.stdout.flush()
        sys.stdin.read()
    finally:
        undo(what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
