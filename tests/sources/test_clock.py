"""The two clocks, against the kernel's own readings."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from proctree_bpf.sources import procfs
from proctree_bpf.sources.clock import boottime_ns, wall_offset_ns


def test_boot_time_is_the_uptime_of_the_machine() -> None:
    # Both readings of /proc/uptime have hundredths of a second, rounded down.
    before = float(Path("/proc/uptime").read_text().split()[0])
    ns = boottime_ns()
    after = float(Path("/proc/uptime").read_text().split()[0])
    assert before <= ns / 1e9 <= after + 0.01


def test_boot_time_is_the_clock_of_process_start_times() -> None:
    before = boottime_ns()
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        start_ns = procfs.read_proc_start_time_ns(child.pid)
        after = boottime_ns()
    # A start time from /proc is rounded down to 10 ms.
    assert before - 10_000_000 < start_ns <= after


def test_boot_time_does_not_go_back() -> None:
    readings = [boottime_ns() for _ in range(1000)]
    assert readings == sorted(readings)


def test_the_offset_turns_boot_time_into_the_time_of_day() -> None:
    # Adjusting the clocks can take microseconds; a wrong clock is off by far more.
    before = time.time_ns()
    told = boottime_ns() + wall_offset_ns()
    after = time.time_ns()
    assert before - 10_000_000 <= told <= after + 10_000_000
