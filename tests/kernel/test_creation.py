"""How processes come into being: every way there is, told by its fork event."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Edge, Exit, Fork
from support.live_collector import as_identity
from support.proc_truth import cmdline, comm, exe, identity, parent_pid

if TYPE_CHECKING:
    from support.actor import Stage
    from support.live_collector import LiveCollector


def test_a_forked_process_carries_its_creators_name_arguments_and_program(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("fork", "an argument", b"\xff") as actor:
        child = actor.await_report("child")
        live.fence()
        info = live.info(child.who)
        assert info.inherited
        assert info.cmd == comm(child.pid) == "actor"
        assert info.args_raw == cmdline(child.pid) == cmdline(actor.pid)
        assert info.executable == exe(child.pid)
        assert not live.info(identity(actor.pid)).inherited


def test_a_forked_process_belongs_to_the_process_that_called_fork(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("fork") as actor:
        child = actor.await_report("child")
        fork = live.the_fork(child.who)
        assert as_identity(fork.creator) == identity(actor.pid)
        assert fork.parent == fork.creator
        assert live.node(child.who).edge is Edge.CREATED
        assert live.node(child.who).parent is None
        assert live.chain(child.who)[:3] == [
            child.who,
            identity(actor.pid),
            identity(os.getpid()),
        ]


def test_a_process_is_created_with_the_name_that_its_creator_has_then(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("renamed-fork", "another name") as actor:
        child = actor.await_report("child")
        assert live.the_fork(child.who).comm == comm(child.pid) == "another name"
        assert live.info(child.who).cmd == "another name"


def test_a_vforked_process_that_exits_at_once_is_seen(live: LiveCollector, stage: Stage) -> None:
    actor = stage.played("vfork")
    child = actor.await_report("child")
    live.fence()
    assert live.kinds(child.who) == ["Fork", "Exit"]
    assert as_identity(live.the_fork(child.who).creator) == actor.await_report("caller").who
    assert live.the_exit(child.who).status == child.status == 7 << 8


def test_a_vforked_process_that_execs_leaves_its_creators_details_alone(
    live: LiveCollector, stage: Stage
) -> None:
    actor = stage.played("vfork-exec", stage.helpers.quit, "13")
    caller, child = actor.await_report("caller"), actor.await_report("child")
    live.fence()
    assert live.kinds(child.who) == ["Fork", "Exec", "Exit"]
    assert live.the_exec(child.who).args == (str(stage.helpers.quit), "13")
    assert live.the_exit(child.who).status == child.status
    assert live.info(caller.who).args[:2] == (str(stage.helpers.actor), "vfork-exec")


def test_posix_spawn_is_a_fork_an_exec_and_an_exit(live: LiveCollector, stage: Stage) -> None:
    actor = stage.played("spawn", stage.helpers.quit, "the argument", "14")
    caller, child = actor.await_report("caller"), actor.await_report("child")
    live.fence()
    assert live.kinds(child.who) == ["Fork", "Exec", "Exit"]
    assert as_identity(live.the_fork(child.who).creator) == caller.who
    assert live.the_exec(child.who).args == (str(stage.helpers.quit), "the argument", "14")
    assert live.the_exit(child.who).status == child.status == 14 << 8


def test_clone3_creates_as_fork_does(live: LiveCollector, stage: Stage) -> None:
    with stage.play("clone3") as actor:
        child = actor.await_report("child")
        assert as_identity(live.the_fork(child.who).creator) == identity(actor.pid)


def test_clone_parent_keeps_both_the_caller_and_the_kernels_parent(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("clone-parent") as actor:
        grandparent, caller = actor.await_report("grandparent"), actor.await_report("caller")
        child = actor.await_report("child")
        assert parent_pid(child.pid) == grandparent.pid != caller.pid
        fork = live.the_fork(child.who)
        assert as_identity(fork.creator) == caller.who
        assert fork.parent is not None
        assert as_identity(fork.parent) == grandparent.who
        node = live.node(child.who)
        assert as_identity(node.creator) == caller.who
        assert as_identity(node.kernel_parent) == grandparent.who
        assert live.chain(child.who)[:3] == [child.who, caller.who, grandparent.who]


def test_a_thread_that_forks_creates_for_its_process(live: LiveCollector, stage: Stage) -> None:
    with stage.play("thread-fork") as actor:
        child, tid = actor.await_report("child"), actor.await_report("thread").said["tid"]
        assert tid != actor.pid
        fork = live.the_fork(child.who)
        assert as_identity(fork.creator) == identity(actor.pid)
        assert fork.creator == live.key(identity(actor.pid))
        assert live.chain(child.who)[1] == identity(actor.pid)


@pytest.mark.parametrize("name", ["a worker", ""])
def test_a_thread_gives_its_own_name_to_what_it_forks(
    live: LiveCollector, stage: Stage, name: str
) -> None:
    with stage.play("thread-fork", name) as actor:
        child = actor.await_report("child")
        assert live.the_fork(child.who).comm == comm(child.pid) == name
        assert live.info(child.who).cmd == name
        assert live.node(child.who).cmd == name


def test_threads_are_never_nodes_and_their_ends_are_no_events(
    live: LiveCollector, stage: Stage
) -> None:
    before = len(live.applied)
    actor = stage.played("threads", "20")
    live.fence()
    tids = {report.said["tid"] for report in actor.all_of("thread")}
    process = actor.await_report("caller")
    assert len(tids) == 20
    assert live.kinds(process.who) == ["Fork", "Exec", "Exit"]
    # As long as the process lived, nobody else can have had these ids.
    lived = itertools.takewhile(
        lambda process_event: (
            not isinstance(process_event.event, Exit) or process_event.event.pid != process.pid
        ),
        live.applied[before:],
    )
    assert not tids & {process_event.event.key.pid for process_event in lived}


def test_forks_from_many_threads_at_once_are_all_their_processs(
    live: LiveCollector, stage: Stage
) -> None:
    actor = stage.played("thread-forks", "8", "40")
    caller = actor.await_report("caller")
    children = actor.all_of("child")
    assert len(children) == 320
    live.fence()
    creators = {
        as_identity(fork.creator) for child in children for fork in live.events(child.who, Fork)
    }
    assert creators == {caller.who}
    assert {tuple(live.kinds(child.who)) for child in children} == {("Fork", "Exit")}
