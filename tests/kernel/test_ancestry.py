"""Ancestry that outlives its processes: who created whom, whoever has ended since."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from support.live_collector import as_identity
from support.proc_truth import identity, parent_pid
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.actor import Stage
    from support.live_collector import LiveCollector


def test_the_chain_of_a_daemon_still_shows_its_creators(live: LiveCollector, stage: Stage) -> None:
    with stage.play("daemon") as actor:
        caller, middle = actor.await_report("caller"), actor.await_report("middle")
        actor.popen.wait(20)  # the caller is gone too
        daemon = actor.await_report("daemon")
        assert parent_pid(daemon.pid) not in {caller.pid, middle.pid}
        live.fence()
        assert live.chain(daemon.who)[:4] == [
            daemon.who,
            middle.who,
            caller.who,
            identity(os.getpid()),
        ]
        assert not live.process(middle.who).is_running()
        assert live.process(daemon.who).is_running()


def test_the_exit_of_an_orphan_names_the_parent_that_adopted_it(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("daemon") as actor:
        middle, daemon = actor.await_report("middle"), actor.await_report("daemon")
        adopted_by = identity(parent_pid(daemon.pid))
    last = live.the_exit(daemon.who)
    assert last.parent is not None
    assert as_identity(last.parent) == adopted_by
    assert as_identity(live.node(daemon.who).kernel_parent) == adopted_by
    assert as_identity(live.node(daemon.who).creator) == middle.who


def test_a_subreaper_becomes_the_parent_but_not_the_creator(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("adopted") as actor:
        middle, orphan = actor.await_report("middle"), actor.await_report("orphan")
        subreaper = actor.await_report("subreaper")
        assert orphan.ppid == subreaper.pid
    live.fence()
    assert live.chain(orphan.who)[:3] == [orphan.who, middle.who, subreaper.who]
    last = live.the_exit(orphan.who)
    assert last.parent is not None
    assert as_identity(last.parent) == subreaper.who
    assert last.status == 5 << 8


def test_a_parent_that_ends_first_stays_in_its_childs_chain(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("generations", "1") as actor:
        parent, child = actor.await_report("ancestor"), actor.await_report("child")
        actor.popen.wait(20)
        live.fence()
        assert live.kinds(parent.who)[-1] == "Exit"
        assert live.kinds(child.who) == ["Fork"]
        assert live.chain(child.who)[:2] == [child.who, parent.who]


def test_a_hundred_generations_are_known_after_all_but_the_last_have_ended(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("generations", "100") as actor:
        last = actor.await_report("child")
        ancestors = [report.who for report in actor.all_of("ancestor")]
        assert len(ancestors) == 100
        live.fence()
        assert live.chain(last.who)[:101] == [last.who, *reversed(ancestors)]
        assert [live.process(who).is_running() for who in ancestors] == [False] * 100


def test_the_living_descendants_are_those_that_the_kernel_has(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("crowd", "30") as actor:
        actor.await_report("child", 30)
        live.fence()
        root = live.process(identity(actor.pid))
        born = {report.who for report in actor.all_of("child")}
        assert {as_identity(child.key) for child in root.children(live_only=True)} == born
        assert {
            as_identity(child.key) for child in root.children(recursive=True, live_only=True)
        } == born
    live.fence()
    assert root.children(recursive=True, live_only=True) == []
    assert not root.is_running()


def test_a_process_is_running_until_its_exit_and_never_after(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("fork") as actor:
        child = actor.await_report("child")
        live.fence()
        process = live.process(child.who)
        assert process.is_running()
    wait_until("the exit in the tree", lambda: not process.is_running())
    ended_ns = live.the_exit(child.who).timestamp_ns
    assert process.exited_ns == ended_ns
