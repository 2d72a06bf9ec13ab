"""The walker tells what changed between two looks at /proc."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import ProcessKey, ProcWalker
from proctree_bpf.sources.proc_walker import PROCESS_EXITED, PROCESS_SPAWNED
from proctree_bpf.sources.system.clock import boottime_ns
from support.fake_proc import FakeProc

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf import ProbeEvent


def _told(events: list[ProbeEvent]) -> list[tuple[str, int]]:
    return [(event.probe_source, event.pid) for event in events]


@pytest.fixture
def fake(tmp_path: Path) -> FakeProc:
    proc = FakeProc(tmp_path)
    proc.add(1, 0, b"init", 5)
    return proc


@pytest.fixture
def walker(fake: FakeProc) -> ProcWalker:
    """Return a walker that knows of PID 1."""
    walker = ProcWalker(str(fake))
    walker.poll()
    return walker


def test_the_first_walk_finds_everybody(fake: FakeProc) -> None:
    fake.add(20)
    assert _told(ProcWalker(str(fake)).poll()) == [(PROCESS_SPAWNED, 1), (PROCESS_SPAWNED, 20)]


def test_nothing_new_is_nothing_told(walker: ProcWalker) -> None:
    assert walker.poll() == []


def test_a_process_appears_once_and_disappears_once(fake: FakeProc, walker: ProcWalker) -> None:
    fake.add(20)
    assert _told(walker.poll()) == [(PROCESS_SPAWNED, 20)]
    assert walker.poll() == []
    fake.remove(20)
    assert _told(walker.poll()) == [(PROCESS_EXITED, 20)]
    assert walker.poll() == []


def test_what_is_told_is_what_proc_said(fake: FakeProc, walker: ProcWalker) -> None:
    fake.add(20, 1, b"a) b", 250)
    before = boottime_ns()
    (event,) = walker.poll()
    assert (event.key, event.comm, event.ppid) == (ProcessKey(20, 2_500_000_000), "a) b", 1)
    assert before <= event.seen_ns <= boottime_ns()


def test_an_exit_still_knows_the_name(fake: FakeProc, walker: ProcWalker) -> None:
    fake.add(20, 1, b"worker")
    walker.poll()
    fake.remove(20)
    (event,) = walker.poll()
    assert (event.comm, event.ppid) == ("worker", 1)


def test_a_reused_pid_is_an_exit_and_then_a_spawn(fake: FakeProc, walker: ProcWalker) -> None:
    fake.add(20, 1, b"old", 100)
    walker.poll()
    fake.remove(20)
    fake.add(20, 1, b"new", 101)
    exited, spawned = walker.poll()
    assert (exited.probe_source, exited.key.ticks, exited.comm) == (PROCESS_EXITED, 100, "old")
    assert (spawned.probe_source, spawned.key.ticks, spawned.comm) == (PROCESS_SPAWNED, 101, "new")


def test_a_new_name_or_parent_is_no_new_process(fake: FakeProc, walker: ProcWalker) -> None:
    fake.add(20, 1, b"before", 100)
    walker.poll()
    fake.remove(20)
    fake.add(20, 7, b"after", 100)
    assert walker.poll() == []


def test_an_unreadable_process_is_not_there(fake: FakeProc, walker: ProcWalker) -> None:
    (fake.add(20) / "stat").write_bytes(b"garbage")
    assert walker.poll() == []


def test_a_proc_that_cannot_be_listed_loses_nothing_that_is_known(
    fake: FakeProc, walker: ProcWalker
) -> None:
    aside = fake.root.with_name("aside")
    fake.root.rename(aside)
    with pytest.raises(OSError, match=fake.root.name):
        walker.poll()
    aside.rename(fake.root)
    assert walker.poll() == []


def test_a_real_child_comes_and_goes() -> None:
    walker = ProcWalker()
    walker.poll()
    with subprocess.Popen(["sleep", "60"]) as child:
        come = [event for event in walker.poll() if event.pid == child.pid]
        child.kill()
    gone = [event for event in walker.poll() if event.pid == child.pid]
    assert _told(come) == [(PROCESS_SPAWNED, child.pid)]
    assert _told(gone) == [(PROCESS_EXITED, child.pid)]
    assert come[0].key == gone[0].key
    assert come[0].comm == "sleep"
