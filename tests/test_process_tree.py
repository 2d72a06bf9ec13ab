"""``ProcessTree``: a snapshot against the real /proc, and one that is fed by hand."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import (
    Answer,
    Exec,
    Exit,
    FilterError,
    Fork,
    Gap,
    NoSuchProcessError,
    ProcessKey,
    ProcessTree,
    SourceUnavailableError,
)
from proctree_bpf.core.identity import TICK_NS
from support.fake_proc import FakeProc
from support.living_family import living_family
from support.orphan import kernels_parent, orphanage
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf import Process

ME = os.getpid()


def pids(processes: list[Process]) -> list[int]:
    return [process.pid for process in processes]


def my_ancestors() -> list[int]:
    found = [ME]
    while parent := kernels_parent(found[-1]):
        found.append(parent)
    return found[1:]


class TestSnapshot:
    def test_this_process_is_known_as_the_kernel_knows_it(self) -> None:
        before = time.time()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            after = time.time()
            process = ProcessTree.from_proc().process(child.pid)
            assert process.is_running()
            assert process.ppid() == ME
            assert process.username() == pwd.getpwuid(os.getuid()).pw_name
            created = process.create_time()
            assert created is not None
            assert before - 0.05 < created < after + 0.05
        assert not process.is_running()

    def test_parents_are_those_of_the_kernel(self) -> None:
        process = ProcessTree.from_proc().process(ME)
        assert pids(process.parents()) == my_ancestors()
        assert pids(process.creators()) == my_ancestors()
        assert not process.creator_is_certain

    def test_relatives_are_found(self, tmp_path: Path) -> None:
        name = f"prt-{ME}"  # nobody else has it
        with living_family(tmp_path, name) as family:
            tree = ProcessTree.from_proc()
            root = tree.process(family.root)
            assert set(pids(tree.children(family.root))) == {family.kid, family.other}
            assert set(pids(root.children(recursive=True))) == family.pids - {family.root}
            assert set(pids(tree.find(name=name))) == family.pids
            assert set(pids(tree.find(name=name, user=os.getuid()))) == family.pids
            assert tree.find(name=name, user="nobody-at-all") == []
            assert f"{name}({family.grandkid})" in tree.display(root)
            assert tree.chain(family.grandkid).startswith(f"{family.grandkid}|{name}|")
        assert tree.is_descendant(family.grandkid, name) is Answer.YES
        assert tree.is_descendant(family.grandkid, family.root) is Answer.YES
        assert tree.is_descendant(family.grandkid, ME) is Answer.YES
        assert tree.is_descendant(ME, family.root) is Answer.NO
        assert tree.is_descendant(family.kid, family.grandkid) is not Answer.YES

    def test_the_parent_is_the_one_of_this_moment_and_the_creator_for_ever(self) -> None:
        with orphanage() as three:
            tree = ProcessTree.from_proc()
            leaf = tree.process(three.leaf)
            assert (leaf.ppid(), leaf.creator()) == (three.middle, tree.process(three.middle))
            assert leaf.parent() == tree.process(three.middle)
            three.orphan()
            assert kernels_parent(three.leaf) == three.reaper
            assert leaf.ppid() == three.reaper
            assert leaf.parent() == tree.process(three.reaper)
            assert leaf.creator() == tree.process(three.middle)
            assert not tree.process(three.middle).is_running()
            three.end_leaf()
            assert (leaf.ppid(), leaf.parent()) == (None, None)

    def test_an_orphan_may_have_come_from_anybody_who_was_there(self) -> None:
        with orphanage() as three, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as late:
            three.orphan()
            tree = ProcessTree.from_proc()
            assert tree.is_descendant(three.leaf, three.reaper) is Answer.YES
            assert tree.is_descendant(three.leaf, "no such name") is Answer.UNKNOWN
            younger = tree.process(late.pid).key.ticks > tree.process(three.leaf).key.ticks
            expected = Answer.NO if younger else Answer.UNKNOWN
            assert tree.is_descendant(three.leaf, late.pid) is expected

    def test_a_process_that_has_the_pid_of_another_is_not_that_one(self, tmp_path: Path) -> None:
        proc = FakeProc(tmp_path)
        proc.add(1, 0, b"init", start_ticks=1)
        proc.add(5, 1, b"old", start_ticks=10)
        tree = ProcessTree.from_proc(str(proc))
        process = tree.process(5)
        assert (process.is_running(), process.ppid()) == (True, 1)
        proc.remove(5)
        assert (process.is_running(), process.ppid(), process.parent()) == (False, None, None)
        proc.add(5, 1, b"new", start_ticks=20)
        assert (process.is_running(), process.ppid(), process.parent()) == (False, None, None)

    def test_a_parent_that_is_not_in_the_snapshot_is_no_process(self, tmp_path: Path) -> None:
        proc = FakeProc(tmp_path)
        proc.add(5, 4, start_ticks=10)
        process = ProcessTree.from_proc(str(proc)).process(5)
        assert (process.ppid(), process.parent()) == (4, None)

    def test_a_zombie_does_not_run(self) -> None:
        child = subprocess.Popen(["true"])
        try:
            tree = ProcessTree.from_proc()
            wait_until("it has ended", lambda: not tree.process(child.pid).is_running())
        finally:
            child.wait()

    def test_without_proc_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(SourceUnavailableError, match="cannot be listed"):
            ProcessTree.from_proc(str(tmp_path / "nowhere"))


class TestFedByHand:
    INIT, SSHD, GIT = ProcessKey(1, TICK_NS), ProcessKey(70, 2 * TICK_NS), ProcessKey(80, 30**8)

    @pytest.fixture
    def tree(self) -> ProcessTree:
        tree = ProcessTree()
        events = [
            Exec(TICK_NS, self.INIT, comm="init", uid=0),
            Fork(2 * TICK_NS, self.SSHD, self.INIT),
            Exec(3 * TICK_NS, self.SSHD, comm="sshd"),
            Fork(30**8, self.GIT, self.SSHD),
            Exec(30**8, self.GIT, comm="git"),
        ]
        assert [told.event for told in tree.apply_all(events)] == events
        return tree

    def test_what_is_returned_stays_as_it_is(self, tree: ProcessTree) -> None:
        first = tree.apply(Exec(40**8, self.GIT, comm="ssh"))
        assert first is not None
        tree.apply(Exec(50**8, self.GIT, comm="cat"))
        assert (first.info.cmd, first.node.cmd) == ("ssh", "ssh")

    def test_what_is_known_already_is_nothing(self, tree: ProcessTree) -> None:
        assert tree.apply(Fork(30**8, self.GIT, self.SSHD)) is None
        assert tree.apply_all([Fork(30**8, self.GIT, self.SSHD)]) == []

    def test_every_answer_is_about_creation(self, tree: ProcessTree) -> None:
        tree.apply(Exit(40**8, self.SSHD, status=0))
        assert tree.is_descendant(80, "sshd") is Answer.YES
        assert tree.is_descendant(80, 70) is Answer.YES
        assert tree.is_descendant(80, tree.process(80)) is Answer.YES
        assert tree.is_descendant(80, "cron") is Answer.NO
        assert tree.is_descendant(70, 80) is Answer.NO
        assert tree.is_descendant(1, self.SSHD) is Answer.NO

    def test_of_whom_is_not_known_nothing_is_said(self, tree: ProcessTree) -> None:
        assert tree.is_descendant(99, "sshd") is Answer.UNKNOWN
        assert tree.is_descendant(80, 99) is Answer.UNKNOWN
        tree.apply(Exec(40**8, ProcessKey(90, 35**8), comm="orphan", parent=ProcessKey(1, TICK_NS)))
        assert tree.is_descendant(90, 70) is Answer.UNKNOWN
        tree.note_gap(Gap(50**8, "test", 1))
        assert tree.is_descendant(80, "cron") is Answer.UNKNOWN
        assert tree.is_descendant(70, 80) is Answer.NO  # which began later

    def test_it_is_a_collection_of_processes(self, tree: ProcessTree) -> None:
        assert sorted(pids(list(tree))) == [1, 70, 80]
        assert len(tree) == 3
        assert 70 in tree
        assert self.SSHD in tree
        assert ProcessKey(70, 1) not in tree
        assert "sshd" not in tree
        tree.apply(Exit(40**8, self.GIT, status=0))
        assert pids(tree.find(live_only=True)) == [1, 70]
        assert pids(tree.find(name="git")) == [80]
        assert tree.find(name="git", live_only=True) == []

    def test_it_is_drawn_below_one_or_as_a_whole(self, tree: ProcessTree) -> None:
        tree.apply(Exit(40**8, self.GIT, status=0))
        assert tree.display() == tree.display(1) == "init(1)\n└─ sshd(70)\n   └─ git(80) [exited]"
        assert tree.display(70, live_only=True) == "sshd(70)"
        assert tree.chain(80, max_ancestors=1) == "80|git|root;70|sshd|root;…"

    @pytest.mark.parametrize("ask", ["process", "children", "chain", "display"])
    def test_nobody_is_an_error(self, tree: ProcessTree, ask: str) -> None:
        with pytest.raises(NoSuchProcessError, match="no process 99 is known"):
            getattr(tree, ask)(99)

    def test_a_filter_chooses_among_what_is_returned(self, tree: ProcessTree) -> None:
        is_wanted = tree.matching("ancestor=sshd not-name=git")
        answers = []
        for event in (
            Exec(40**8, self.GIT, comm="git"),
            Exec(41**8, self.GIT, comm="ssh"),
            Exec(42**8, self.INIT, comm="ssh"),
        ):
            told = tree.apply(event)
            assert told is not None
            answers.append(is_wanted(told))
        assert answers == [False, True, False]

    @pytest.mark.parametrize("text", ["ancestr=sshd", "pid=x", "ancestor-pid=99", "line=("])
    def test_a_filter_that_cannot_be_used_is_refused(self, tree: ProcessTree, text: str) -> None:
        with pytest.raises(FilterError):
            tree.matching(text)

    @pytest.mark.parametrize("bounds", [{"capacity": 0}, {"ttl_s": -1}])
    def test_bounds_that_are_none_are_refused(self, bounds: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must be"):
            ProcessTree(**bounds)
