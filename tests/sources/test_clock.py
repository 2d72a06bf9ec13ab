"""The two clocks, against the kernel's own readings."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proctree_bpf.sources.system import procfs
from proctree_bpf.sources.system.clock import boottime_ns, wall_offset_ns


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


# unshare(2) gives its clocks to children only, but what /proc/self shows are theirs.
_UNSHARED = """
import ctypes, os, time
from proctree_bpf.sources.system.clock import boottime_ns, monotonic_ns

def told():
    return boottime_ns() // 10**9, monotonic_ns() // 10**9, time.clock_gettime(7) // 1

before = told()
assert ctypes.CDLL(None).unshare(0x80) == 0
with open("/proc/self/timens_offsets", "w") as file:
    file.write("monotonic 3000 7\\nboottime 200000 0")
print(*before, *told(), flush=True)
if not os.fork():
    print(*told(), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.kernel
def test_the_clocks_are_the_kernels_before_and_after_a_fork_into_a_time_namespace() -> None:
    words = [sys.executable, "-P", "-c", _UNSHARED]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    before, child = (list(map(float, line.split())) for line in out.splitlines())
    boottime, monotonic, own = before[:3]
    assert own == boottime
    assert before[3] - boottime < 5  # nothing has changed for the one that called it
    assert before[4] - monotonic < 5
    assert child[2] - own >= 200_000  # but for its child
    assert 0 <= child[0] - boottime < 5
    assert 0 <= child[1] - monotonic < 5


def test_boot_time_does_not_go_back() -> None:
    readings = [boottime_ns() for _ in range(1000)]
    assert readings == sorted(readings)


def test_the_offset_turns_boot_time_into_the_time_of_day() -> None:
    # Adjusting the clocks can take microseconds; a wrong clock is off by far more.
    before = time.time_ns()
    told = boottime_ns() + wall_offset_ns()
    after = time.time_ns()
    assert before - 10_000_000 <= told <= after + 10_000_000
