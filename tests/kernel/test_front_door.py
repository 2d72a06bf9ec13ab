"""``Collector`` and ``Process`` as their users have them: with real processes, from each source."""

from __future__ import annotations

import os
import subprocess
from itertools import takewhile
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Answer, BpfOptions, BpfSource, Collector, Exec, Exit, Fork, ProcessTree
from proctree_bpf.core.identity import TICK_NS
from proctree_bpf.sources.system.clock import boottime_ns
from proctree_bpf.sources.system.procfs import read_key
from support.host import check_that_it_is_left_alone
from support.orphan import kernels_parent, orphanage
from support.pids import another_with_pid, ended_child
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf import Process, ProcessEvent

EXACT = ("bpf", "proc-connector")


def known(live: Collector, pid: int) -> Process:
    """Return this living process, once it is known; others may have had its PID before."""
    key = read_key(pid)
    wait_until(f"{pid} is known", lambda: key in live.tree)
    return live.process(key)


@pytest.mark.parametrize("source", EXACT)
def test_the_creator_stays_and_the_parent_is_the_kernels_of_this_moment(source: str) -> None:
    with Collector(source) as live, orphanage() as three:
        leaf, middle = known(live, three.leaf), known(live, three.middle)
        reaper = known(live, three.reaper)
        assert (leaf.ppid(), leaf.parent(), leaf.creator()) == (three.middle, middle, middle)
        three.orphan()
        assert leaf.ppid() == kernels_parent(three.leaf) == three.reaper
        assert leaf.parent() == reaper
        assert [each.pid for each in leaf.parents()[:2]] == [three.reaper, os.getpid()]
        wait_until("the end is told", lambda: middle.exit_code is not None)
        assert middle.exit_code == 3
        assert [each.pid for each in leaf.creators()[:2]] == [three.middle, three.reaper]
        three.end_leaf()
        wait_until("the end is told", lambda: leaf.exit_signal is not None)
        assert (leaf.exit_signal, leaf.exit_code, leaf.is_running()) == (9, None, False)
        # Its exit told the parent that it had then.
        assert leaf.ppid() == three.reaper
        assert leaf.parent() == reaper
        assert leaf.creator() == middle
    assert live.is_descendant(leaf, middle.key) is Answer.YES
    assert live.is_descendant(leaf, middle) is Answer.YES


def test_a_walker_says_nothing_wrong_of_who_was_the_parent_at_the_end() -> None:
    with Collector("proc-walker") as live, orphanage() as three:
        leaf = known(live, three.leaf)
        three.orphan()
        assert leaf.ppid() == three.reaper
        three.end_leaf()
        assert not leaf.is_running()
        assert leaf.ppid() in (None, three.reaper)
        wait_until("the end is told", lambda: leaf.exited_ns is not None)
        assert leaf.ppid() in (None, three.reaper)


@pytest.mark.parametrize("source", [*EXACT, None])
def test_a_process_is_not_the_next_one_with_its_pid(source: str | None) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        live = None if source is None else Collector(source)
        if live is not None:
            live.start()
        tree = ProcessTree.from_proc() if live is None else live.tree
        former = tree.process(read_key(child.pid))
        assert former.is_running()
        # Within one tick, /proc does not tell two lives of a PID apart.
        wait_until("another tick", lambda: boottime_ns() // TICK_NS > former.key.ticks)
    with another_with_pid(child.pid):
        assert not former.is_running()
        if live is not None:
            # ``wait`` raises what has ended the collector, if anything has.
            wait_until("the next one", lambda: live.wait(0) or live.process(child.pid) != former)
            assert live.process(child.pid).is_running()
            assert (former.name(), former.ppid()) == ("cat", os.getpid())
        else:
            assert (former.ppid(), former.parent()) == (None, None)
        assert former.creator() == tree.process(os.getpid())
    if live is not None:
        live.stop()


def test_a_filter_is_decided_in_the_kernel_where_it_can_be(tmp_path: Path) -> None:
    shell = tmp_path / f"prt-{os.getpid()}"
    shell.symlink_to("/bin/sh")
    told: list[ProcessEvent] = []
    live = Collector(filter=f"ancestor={shell.name}", on_event=told.append)
    with live:
        wait_until("the kernel decides", lambda: live.stats()["kernel_filter"]["times_on"])
        for _ in range(20):
            ended_child()
        subprocess.run([shell, "-c", "(/bin/true); (exit 3); :"], check=True)
        wait_until("all is told", lambda: sum(isinstance(e.event, Exit) for e in told) == 3)
        assert live.stats()["dropped_in_kernel"] >= 60
    assert live.source_name == "bpf"
    assert {live.is_descendant(each.process.key, shell.name) for each in told} == {Answer.YES}
    names = [each.info.cmd for each in told if isinstance(each.event, Exec)]
    assert names == [shell.name, "true"]
    root = told[0].event.key.pid if isinstance(told[0].event, Exec) else None
    creators = [each.event.creator.pid for each in told if isinstance(each.event, Fork)]
    assert creators == [root, root]


@pytest.mark.parametrize("source", [*EXACT, "proc-walker"])
def test_who_iterates_is_told_what_happens(source: str) -> None:
    with Collector(source) as live:
        events = live.events()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            process = known(live, child.pid)
            if source == "proc-walker":
                wait_until("its exec is known", lambda: process.name() == "cat")
        seen = list(takewhile(lambda told: not _is_end_of(told, process), events))
    assert Fork in {type(told.event) for told in seen if told.event.key.pid == child.pid}
    assert events.dropped == 0


def _is_end_of(told: ProcessEvent, process: Process) -> bool:
    return told.event.key == process.key and isinstance(told.event, Exit)


@pytest.mark.parametrize("cached", [True, False])
def test_the_host_of_a_bpf_source_is_as_it_was(cached: bool) -> None:  # noqa: FBT001
    options = BpfOptions() if cached else BpfOptions(program_cache=None)
    check_that_it_is_left_alone(BpfSource(options))
