"""What every source promises to who calls it, and where sources differ and say so."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Fork, entity_id
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from proctree_bpf.sources.system.clock import boottime_ns
from support.live_collector import as_identity
from support.proc_truth import comm, identity
from support.source_play import state
from support.source_session import LIVE, Session
from support.waiting import wait_until

if TYPE_CHECKING:
    from proctree_bpf import EventSource
    from support.actor import Stage

_AT_ONCE_S = 0.25


@pytest.fixture(params=list(LIVE))
def live_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestProtocol:
    def test_poll_returns_at_once(self, live_name: str) -> None:
        with Session(LIVE[live_name](None)) as session:
            session.settle()
            taken = []
            for _ in range(5):
                begun = time.monotonic()
                session.source.poll()
                taken.append(time.monotonic() - begun)
        assert min(taken) < _AT_ONCE_S

    def test_it_may_be_closed_twice_and_gives_every_descriptor_back(self, live_name: str) -> None:
        self._open_and_close(live_name)  # what is imported now stays open
        before = _descriptors()
        self._open_and_close(live_name)
        # Others may have been waiting for the collector, or be open elsewhere for a moment.
        wait_until("all are given back", lambda: _descriptors() <= before)

    def _open_and_close(self, live_name: str) -> None:
        source = LIVE[live_name](None)
        source.open()
        source.poll()
        source.stop()
        source.poll()
        source.close()
        source.close()

    def test_it_may_be_closed_without_having_been_opened(self, live_name: str) -> None:
        source = LIVE[live_name](None)
        source.close()
        source.stop()
        assert "startup_seconds" in source.stats()

    def test_statistics_can_still_be_asked_for_after_closing(self, live_name: str) -> None:
        source = LIVE[live_name](None)
        source.open()
        source.poll()
        source.close()
        stats = source.stats()
        assert {"received", "lost", "startup_seconds"} <= stats.keys()

    def test_its_clock_is_the_one_that_counts_sleep(self, live_name: str) -> None:
        before = boottime_ns()
        now_ns = LIVE[live_name](None).now_ns()
        assert before <= now_ns <= boottime_ns()

    def test_nothing_new_is_received_after_stop(self, live_name: str, stage: Stage) -> None:
        source = LIVE[live_name](None)
        source.open()
        try:
            source.poll()
            source.stop()
            source.poll()  # a walker's last walk
            with stage.hold("x") as actor:
                deadline = time.monotonic() + 0.2
                while time.monotonic() < deadline:
                    told = {event.key.pid for event in source.poll().events}
                    assert actor.pid not in told
        finally:
            source.close()

    def test_stop_may_be_called_twice(self, live_name: str) -> None:
        with Session(LIVE[live_name](None)) as session:
            session.source.stop()
            session.source.stop()

    def test_a_descriptor_if_there_is_one_is_readable_when_events_wait(
        self, live_name: str, stage: Stage
    ) -> None:
        with Session(LIVE[live_name](None)) as session:
            descriptor = session.source.fileno()
            if descriptor is None:
                return
            session.settle()
            stage.played("spawn", stage.helpers.quit, "0")
            assert select.select([descriptor], [], [], 5)[0]

    def test_a_snapshot_shows_who_is_there_and_reports_progress(
        self, live_name: str, stage: Stage
    ) -> None:
        with stage.hold("x") as actor, Session(LIVE[live_name](None)) as session:
            asked = []
            snapshot = session.source.read_snapshot(lambda: asked.append(True))
            assert asked
            assert snapshot is not None
            names = {stat.pid: info.cmd for stat, info in snapshot.readings}
            assert names[actor.pid] == comm(actor.pid) == "holder"


@pytest.mark.parametrize("name", list(LIVE))
def test_what_was_dead_before_the_start_is_not_among_the_living(stage: Stage, name: str) -> None:
    with stage.play("fork") as actor:
        child = actor.await_report("child")
        os.kill(actor.pid, signal.SIGSTOP)
        os.kill(child.pid, signal.SIGKILL)
        wait_until("it is dead", lambda: state(child.pid) == "Z")
        with Session(LIVE[name](None)) as session:
            session.settle()
            session.settle()
            node = session.tree.get_node(child.pid)
            os.kill(actor.pid, signal.SIGCONT)
        assert node is None or node.exited_ns is not None


def test_one_process_has_one_identity_for_every_source(stage: Stage) -> None:
    sessions = {name: Session(make(None)) for name, make in LIVE.items()}
    for session in sessions.values():
        session.pipeline.start()
    try:
        with stage.hold("x") as actor:
            for session in sessions.values():
                session.settle()
        ids = {}
        for name, session in sessions.items():
            session.finish()
            node = session.tree.get_node(actor.pid)
            assert node is not None, name
            ids[name] = entity_id("boot", node.key)
            assert as_identity(node.creator) == identity(os.getpid())
        assert len(set(ids.values())) == 1, ids
    finally:
        for session in sessions.values():
            session.pipeline.close()


def test_the_walker_does_not_see_what_lives_between_two_walks_and_says_so(stage: Stage) -> None:
    with Session(LIVE["proc-walker"](None)) as session:
        session.settle()
        child = stage.played("spawn", stage.helpers.quit, "3").await_report("child")
        session.settle()
    assert session.history(child.who) == []
    assert "begin and end within 20 ms" in session.source.blind_spots[0]


def test_the_connector_takes_the_parent_for_the_caller_of_clone_parent_and_says_so(
    stage: Stage,
) -> None:
    sources: dict[str, EventSource] = {"bpf": BpfSource(), "connector": ProcConnectorSource()}
    creators = {}
    for name, source in sources.items():
        with Session(source) as session, stage.play("clone-parent") as actor:
            child, caller = actor.await_report("child"), actor.await_report("caller")
            grandparent = actor.await_report("grandparent")
            session.settle()
            (fork,) = session.events_of(child.who, Fork)
            creators[name] = as_identity(fork.creator)
            right = {"bpf": caller.who, "connector": grandparent.who}
            assert creators[name] == right[name]
    assert any("CLONE_PARENT" in spot for spot in sources["connector"].blind_spots)


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - their numbers
