"""Processes that are born, exec or end while a collector starts: none is missed or mistaken."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfSource, Edge, Exit
from support.live_collector import LiveCollector, as_identity
from support.proc_truth import cmdline, comm, exe, exists, parent_pid
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.actor import Actor, Stage
    from support.proc_truth import Identity


class Interrupted(BpfSource):
    """Something happens once it is attached, and before anybody looks at ``/proc``."""

    def __init__(self, happen: Callable[[], object]) -> None:
        super().__init__()
        self._happen = happen

    def open(self) -> None:
        super().open()
        self._happen()


class Later:
    """An actor that does nothing until it is told to."""

    def __init__(self, stage: Stage, *args: Path) -> None:
        reading, self._writing = os.pipe()
        self.actor = stage.play("later", str(reading), *args, pass_fds=[reading])
        os.close(reading)
        self.middle = self.actor.await_report("middle").who

    def now(self, sign: str) -> None:
        """Let it go on, until it says this and its child has said who it is."""
        os.close(self._writing)
        self.actor.await_report("child")
        self.actor.await_report(sign)


def test_the_child_of_a_process_that_ends_before_the_snapshot_is_known(stage: Stage) -> None:
    later = Later(stage)
    late = LiveCollector(stage.helpers.quit, Interrupted(lambda: later.now("reaped")))
    with later.actor, late.collector:
        late.fence()
        child = later.actor.await_report("child").who
        node, info = late.node(child), late.info(child)
        assert (node.edge, as_identity(node.creator)) == (Edge.CREATED, later.middle)
        assert node.cmd == info.cmd == comm(child.pid)
        assert info.args_raw == cmdline(child.pid)
        assert info.executable == exe(child.pid)
        assert late.chain(child)[:2] == [child, later.middle]
        assert later.middle not in living(late)


def test_the_child_of_a_process_that_execs_before_the_snapshot_is_its_old_self(
    stage: Stage,
) -> None:
    later = Later(stage, stage.helpers.holder)
    late = LiveCollector(stage.helpers.quit, Interrupted(lambda: later.now("holding")))
    with later.actor, late.collector:
        late.fence()
        child = later.actor.await_report("child").who
        assert late.chain(child)[:2] == [child, later.middle]
        for who, name in ((child, "actor"), (later.middle, "holder")):
            info = late.info(who)
            assert info.cmd == comm(who.pid) == name
            assert info.args_raw == cmdline(who.pid)
            assert info.executable == exe(who.pid)


def living(live: LiveCollector) -> set[Identity]:
    """Return the processes that the tree has as living."""
    nodes = live.collector.tree.pid_tree.all_nodes()
    return {as_identity(node.key) for node in nodes if node.exited_ns is None}


@pytest.mark.parametrize("turn", range(4))
def test_what_lives_while_a_collector_starts_is_known_as_the_kernel_knows_it(
    stage: Stage, turn: int
) -> None:
    reading, writing = os.pipe()
    late = LiveCollector(stage.helpers.quit)
    with stage.play(
        "brood", "3", "3000", stage.helpers.holder, str(reading), pass_fds=[reading]
    ) as actor:
        os.close(reading)
        actor.await_report("kept", 10 * turn + 1)
        with late.collector:
            os.close(writing)
            actor.await_report("done", 3)
            execers = actor.all_of("execer")
            wait_until("the execs", lambda: all(comm(e.pid) == "holder" for e in execers))
            late.fence()
            edges = set()
            for report in actor.all_of("kept") + execers:
                who = report.who
                node, info = late.node(who), late.info(who)
                edges.add(node.edge)
                _check_creator(late, who, report.ppid, actor)
                assert node.exited_ns is None
                assert node.cmd == info.cmd == comm(who.pid)
                if info.args_raw is None:  # unknown, never wrong: it and its creator came between
                    creator = late.collector.tree.proc_cache.get_info(node.creator)
                    assert creator is None or creator.args_raw is None
                    continue
                assert info.args_raw == cmdline(who.pid)
                assert info.executable == exe(who.pid)
            assert edges == {Edge.CREATED, Edge.OBSERVED}
            actor.finish()
            late.fence()
            everybody = {report.who for report in actor.reports if "pid" in report.said}
            ghosts = {who for who in everybody & living(late) if not exists(who)}
            stats = late.collector.stats()
            assert not ghosts, (stats, [(late.node(who), late.history(who)) for who in ghosts])
    stats = late.collector.stats()
    assert (stats["lost"], stats["late"], stats["undecodable"]) == (0, 0, 0)


def _check_creator(live: LiveCollector, who: Identity, told: int, actor: Actor) -> None:
    node = live.node(who)
    if node.edge is Edge.CREATED:
        # The child of a "middle" may have been adopted before it could look.
        assert node.ppid == told or node.ppid in {m.pid for m in actor.all_of("middle")}
    else:
        assert node.ppid in {told, parent_pid(who.pid)}


def test_what_only_ends_during_the_start_does_not_stay_alive(stage: Stage) -> None:
    late = LiveCollector(stage.helpers.quit)
    with stage.play("crowd", "150") as actor:
        actor.await_report("child", 150)
        late.collector.start_background()
        actor.release()
        try:
            actor.finish()
            assert late.collector.ready.wait(20)
            late.fence()
            assert not {report.who for report in actor.all_of("child")} & living(late)
        finally:
            late.collector.stop()


def test_a_zombie_is_not_taken_for_a_living_process(stage: Stage) -> None:
    with stage.play("zombie") as actor:
        child, parent = actor.await_report("child"), actor.await_report("parent")
        late = LiveCollector(stage.helpers.quit)
        with late.collector:
            assert exists(child.who)
            assert child.who not in living(late)
            assert parent.who in living(late)


def test_a_process_in_the_middle_of_its_exit_is_not_taken_for_a_living_one(stage: Stage) -> None:
    with stage.play("stuck-exit") as actor:
        actor.await_report("parent")
        init = actor.await_report("init").who
        late = LiveCollector(stage.helpers.quit)
        with late.collector:
            assert exists(init)
            assert not late.events(init, Exit)  # it was before our time
            assert init not in living(late)
