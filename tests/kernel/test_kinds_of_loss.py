"""Whatever was lost of a process and of those above it, what is said is right or UNKNOWN."""

from __future__ import annotations

import os
import subprocess
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Exit, Fork
from proctree_bpf.core.lineage import Answer
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.sources.system.procfs import read_key
from support.actor import Actor
from support.lossy import Lossy, flood
from support.proc_truth import comm, identity
from support.spawner import unique
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from proctree_bpf import ProcessEvent, ProcessKey
    from support.actor import Stage
    from support.proc_truth import Identity

_HERE = """echo '{"role": "here"}'; read x; "$0" 3<&0; read x"""


@pytest.fixture(params=[False, True], ids=["all events", "a filter in the kernel"])
def lossy(request: pytest.FixtureRequest) -> Iterator[Lossy]:
    lossy = Lossy(f"ancestor={comm(os.getpid())}" if request.param else "")
    lossy.pipeline.start()
    lossy.pipeline.pump()
    if request.param:
        wait_until("the filter", lambda: lossy.pumped(lambda: _is_filtered(lossy)))
    try:
        yield lossy
    finally:
        lossy.pipeline.finish()
        lossy.pipeline.close()


def _is_filtered(lossy: Lossy) -> bool:
    controller = lossy.pipeline.filter_controller
    return controller is not None and controller.is_on


@pytest.fixture
def middle(tmp_path: Path) -> Path:
    """A program that leaves a process behind, which reads from descriptor 3, and ends."""
    (tmp_path / "words").write_text("""echo '{"role": "orphan", "pid": '$$'}'; read x\n""")
    program = tmp_path / "middle"
    program.write_text('#!/bin/sh\nsh "${0%/*}/words" <&3 &\n')
    program.chmod(0o755)
    return program


def key_of(lossy: Lossy, who: Identity) -> ProcessKey:
    return lossy.node(who).key


def kinds_told(lossy: Lossy, pid: int) -> set[type]:
    return {type(told.event) for told in lossy.applied if told.event.pid == pid}


def test_one_whose_end_was_lost_has_ended(lossy: Lossy, stage: Stage, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        who = identity(child.pid)
        wait_until("the fork", lambda: lossy.pumped(lambda: who in lossy.living()))
        flood(stage.helpers, tmp_path, unique("end"))
        child.kill()
        child.wait()
        lossy.pipeline.pump()
        lossy.repair()
        assert Exit not in kinds_told(lossy, who.pid), "its exit was not lost"
        assert lossy.node(who).exited_ns is not None
        assert lossy.info(who).status is None


def test_of_one_all_of_whose_line_was_lost_nothing_wrong_is_said(
    lossy: Lossy, stage: Stage, tmp_path: Path, middle: Path
) -> None:
    with Actor(["sh", "-c", _HERE, middle]) as actor:
        actor.await_report("here")
        first = identity(actor.pid)
        wait_until("the fork", lambda: lossy.pumped(lambda: first in lossy.living()))
        flood(stage.helpers, tmp_path, unique("line"))
        assert actor.popen.stdin is not None
        actor.popen.stdin.write(b"go\n")
        orphan = actor.await_report("orphan").pid
        judge(lossy, first, orphan)


def test_of_one_whose_creator_took_a_name_that_was_lost_nothing_wrong_is_said(
    lossy: Lossy, stage: Stage, tmp_path: Path, middle: Path
) -> None:
    script = """exec 3<&0; (read x <"$0"; exec "$1") & echo '{"role": "child", "pid": '$!'}'
        wait; read x"""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Actor(["sh", "-c", script, fifo, middle]) as actor:
        child = identity(actor.await_report("child").pid)
        wait_until("the fork", lambda: lossy.pumped(lambda: child in lossy.living()))
        flood(stage.helpers, tmp_path, unique("name"))
        fifo.write_text("go\n")
        orphan = actor.await_report("orphan").pid
        judge(lossy, child, orphan)
        assert Exec not in kinds_told(lossy, child.pid), "its exec was not lost"
        assert lossy.tree.is_descendant(key_of(lossy, child), "middle") is not Answer.NO


def judge(lossy: Lossy, above: Identity, orphan: int) -> None:
    """Ask about an orphan that ``middle``, below another process, left behind."""
    who = identity(orphan)
    lossy.pipeline.pump()
    lossy.repair()
    assert Fork not in kinds_told(lossy, orphan), "its fork was not lost"
    key, tree = key_of(lossy, who), lossy.tree
    try:
        assert tree.is_descendant(key, key_of(lossy, above)) is not Answer.NO
        assert tree.is_descendant(key, "middle") is not Answer.NO
        assert tree.is_descendant(key, "sh") is Answer.YES, "its own name"
        assert tree.is_descendant(key, "nobody at all") is not Answer.YES
        assert tree.is_descendant(key_of(lossy, above), key) is Answer.NO
    finally:
        os.kill(orphan, SIGKILL)
    wait_until("its end", lambda: lossy.pumped(lambda: lossy.node(who).exited_ns is not None))
    told = lossy.last(who, Exit)  # on a busy machine that is lost, too
    assert told is None or told.uncertain or told.node.fork_missed or has_creator(told, "middle")


def has_creator(told: ProcessEvent, name: str) -> bool:
    """Tell whether a record's process is said to have been created by one of this name."""
    creator = told.process.creator
    return creator is not None and creator.cmd == name


def test_whom_the_repair_has_found_below_a_command_is_followed_from_then_on(
    stage: Stage, tmp_path: Path
) -> None:
    script = """read x; (read x <"$0"; while [ -e "$0" ]; do sleep 0.02; done) &
        echo '{"role": "child", "pid": '$!'}'; read x"""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Actor(["sh", "-c", script, fifo]) as command:
        key = read_key(command.pid)
        assert key is not None
        family = DescendantSet(key)
        lossy = Lossy(hides=lambda event: not family.includes(event), meet=family.survey)
        lossy.pipeline.start()
        try:
            lossy.pipeline.pump()
            flood(stage.helpers, tmp_path, unique("below"))
            assert command.popen.stdin is not None
            command.popen.stdin.write(b"go\n")
            child = command.await_report("child").pid
            lossy.pipeline.pump()
            lossy.repair()
            assert not kinds_told(lossy, child), "its fork was not lost"
            fifo.write_text("go\n")
            wait_until("its child", lambda: lossy.pumped(lambda: has_written_birth(lossy, child)))
        finally:
            fifo.unlink()
            lossy.pipeline.finish()
            lossy.pipeline.close()


def has_written_birth(lossy: Lossy, creator: int) -> bool:
    """Tell whether the fork of a child of this process was written."""
    forks = (told.event for told in lossy.applied if isinstance(told.event, Fork))
    return any(fork.creator_pid == creator for fork in forks)
