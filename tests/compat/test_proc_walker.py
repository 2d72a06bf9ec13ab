"""The tests of cellos's process probe, by their names."""

from __future__ import annotations

import os
import subprocess

from proctree_bpf import ProcWalker
from proctree_bpf.sources.proc_walker import PROCESS_EXITED, PROCESS_SPAWNED


def test_first_poll_discovers_self() -> None:
    events = ProcWalker().poll()
    assert {event.probe_source for event in events} == {PROCESS_SPAWNED}
    assert os.getpid() in {event.pid for event in events}


def test_second_poll_is_quiet_modulo_churn() -> None:
    walker = ProcWalker()
    first = walker.poll()
    second = walker.poll()
    assert len(second) <= len(first)
    assert os.getpid() not in {event.pid for event in second}


def test_a_process_between_two_polls_comes_and_goes() -> None:
    walker = ProcWalker()
    walker.poll()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        spawned = [event for event in walker.poll() if event.pid == child.pid]
    exited = [event for event in walker.poll() if event.pid == child.pid]
    assert [event.probe_source for event in spawned + exited] == [PROCESS_SPAWNED, PROCESS_EXITED]
    assert {event.comm for event in spawned + exited} == {"cat"}
    assert {event.ppid for event in spawned + exited} == {os.getpid()}
