"""A program that uses a Collector forks: its child leaves alone what is the parent's."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from support.program import environment

# Since Python 3.12 it warns of threads.
_PYTHON = (sys.executable, "-W", "ignore::DeprecationWarning")
_HOST = """
import gc, os, subprocess, sys, time
from proctree_bpf import BpfOptions, BpfSource, Collector, Exec

def links():
    found = [os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd") if
             os.path.islink(f"/proc/self/fd/{{fd}}")]
    return [name for name in found if "link" in name or "tracepoint" in name]

told, gaps = set(), []
def take(applied):
    if isinstance(applied.event, Exec):
        told.add(applied.event.key.pid)

source = BpfSource(BpfOptions(perf_pages=1024))
collector = Collector(source, on_event=take, on_gap=gaps.append)
collector.start()
child = os.fork()
if child == 0:
{child}
_, status = os.waitpid(child, 0)
assert status == 0, status
pids = []
for _ in range(50):
    pids.append(os.posix_spawn("/bin/true", ["true"], {{}}))
    os.waitpid(pids[-1], 0)
deadline = time.monotonic() + 60
while not told.issuperset(pids) and time.monotonic() < deadline:
    time.sleep(0.01)
assert told.issuperset(pids), f"deaf to {{len(set(pids) - told)}} of {{len(pids)}}"
assert links()
collector.stop()
assert not links()
assert not gaps, gaps
print("heard all")
"""


@pytest.mark.parametrize(
    "child",
    [
        "sys.exit(0)",
        "collector.stop(); sys.exit(0)",
        "collector.__exit__(SystemExit, SystemExit(0), None); sys.exit(0)",
        "del collector, source; gc.collect(); sys.exit(0)",
        "source.close(); sys.exit(0)",
        "assert not links(), links(); sys.exit(0)",
        "collector.stats(); sys.exit(0)",
    ],
)
def test_the_parent_hears_on_whatever_its_child_does_at_its_end(child: str) -> None:
    done = subprocess.run(
        [*_PYTHON, "-c", _HOST.format(child=textwrap.indent(child, "    "))],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard all\n", "")


def test_a_child_that_lives_on_can_watch_for_itself() -> None:
    child = """
    own = Collector(BpfSource(BpfOptions(perf_pages=1024)), on_event=take)
    with own:
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        deadline = time.monotonic() + 60
        while pid not in told and time.monotonic() < deadline:
            time.sleep(0.01)
    os._exit(pid not in told)
    """
    done = subprocess.run(
        [*_PYTHON, "-c", _HOST.format(child=child)],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard all\n", "")
