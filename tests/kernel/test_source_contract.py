"""What every source promises: one suite for all of them, and for recordings of each.

A play is performed once in front of each live source, which records it; then the
recording is replayed. A test looks at one facet of what was seen, in all six. Whatever a
source cannot see is in ``CAN`` and among its blind spots, and nowhere else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import pytest

from proctree_bpf import Exec, Exit, Fork, entity_id
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.sources.replay import ReplaySource
from support.live_collector import as_identity
from support.source_play import Truth, perform
from support.source_session import LIVE, Session, recorded, replayed
from support.values import replace
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proctree_bpf import Gap, ProcEvent
    from support.actor import Stage

_TICK_NS = 10_000_000


class Can(NamedTuple):
    """What a source can see."""

    brief: bool
    """Processes that are gone at once."""
    status: bool
    """How a process ended."""
    brief_names: bool
    """The names of processes that are gone at once."""
    creators: bool
    """Who created an orphan."""


CAN = {
    "bpf": Can(brief=True, status=True, brief_names=True, creators=True),
    "proc-connector": Can(brief=True, status=True, brief_names=False, creators=True),
    "proc-walker": Can(brief=False, status=False, brief_names=False, creators=False),
}


@dataclass(frozen=True)
class Seen:
    """The play as one source saw it."""

    name: str
    can: Can
    session: Session
    truth: Truth


class Performance(NamedTuple):
    """A play in front of a live source, and its recording."""

    live: Seen
    recording: Path


@pytest.fixture(scope="module")
def performances(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Performance]:
    done: dict[str, Performance] = {}

    def performance(name: str) -> Performance:
        if name not in done:
            directory = tmp_path_factory.mktemp(name)
            recording = directory / "recording"
            with stage.hold("x") as before:
                session, truth = recorded(
                    name, recording, partial(perform, stage, directory, before)
                )
            done[name] = Performance(Seen(name, CAN[name], session, truth), recording)
        return done[name]

    return performance


@pytest.fixture(scope="module", params=[*LIVE, *(f"replay of {name}" for name in LIVE)])
def seen(request: pytest.FixtureRequest, performances: Callable[[str], Performance]) -> Seen:
    name = str(request.param).removeprefix("replay of ")
    live, recording = performances(name)
    if name == request.param:
        return live
    return Seen(request.param, live.can, replayed(recording), live.truth)


class TestWhatIsTold:
    def test_a_child_that_is_started_is_told_of_with_its_creator(self, seen: Seen) -> None:
        (fork,) = seen.session.events_of(seen.truth.child, Fork)
        assert as_identity(fork.child) == seen.truth.child
        assert as_identity(fork.creator) == seen.truth.caller

    def test_a_program_that_is_started_is_told_of_with_its_name_and_arguments(
        self, seen: Seen
    ) -> None:
        exec_ = seen.session.events_of(seen.truth.holder, Exec)[-1]
        assert (exec_.comm, exec_.args) == ("holder", ("a holder", "its argument"))
        (fork,) = seen.session.events_of(seen.truth.holder, Fork)
        assert as_identity(fork.creator) == seen.truth.holder_parent

    def test_a_child_that_ends_is_told_of_once(self, seen: Seen) -> None:
        daemon, *brief = seen.truth.daemon
        for who in (seen.truth.child, seen.truth.holder, seen.truth.renamed, daemon):
            assert len(seen.session.events_of(who, Exit)) == 1, who
        for who in brief if seen.can.brief else ():
            assert len(seen.session.events_of(who, Exit)) == 1, who

    def test_a_child_has_ended_though_nobody_has_waited_for_it(self, seen: Seen) -> None:
        assert seen.truth.zombie_ends == 1

    def test_the_end_of_what_was_there_before_is_told(self, seen: Seen) -> None:
        assert seen.session.events_of(seen.truth.started_before, Fork) == []
        assert seen.session.kinds(seen.truth.started_before) == ["Exit"]

    def test_a_process_is_born_once_and_ends_last(self, seen: Seen) -> None:
        for who in (seen.truth.child, seen.truth.holder, seen.truth.renamed):
            kinds = seen.session.kinds(who)
            assert (kinds[0], kinds[-1]) == ("Fork", "Exit")
            assert (kinds.count("Fork"), kinds.count("Exit")) == (1, 1)

    def test_a_new_name_is_told(self, seen: Seen) -> None:
        assert seen.session.history(seen.truth.renamed)[-1].info.cmd == "another name"

    def test_a_daemon_keeps_its_creator(self, seen: Seen) -> None:
        daemon, middle, caller = seen.truth.daemon
        forks = seen.session.events_of(daemon, Fork)
        creators = [as_identity(fork.creator) for fork in forks]
        if seen.can.creators:
            assert creators == [middle]
            assert [as_identity(fork.creator) for fork in seen.session.events_of(middle, Fork)] == [
                caller
            ]
        else:
            assert len(creators) == 1
            assert forks[0].observed
            assert any("orphan" in spot for spot in seen.session.source.blind_spots)

    def test_what_ended_before_the_stop_is_still_delivered_after_it(self, seen: Seen) -> None:
        ends = seen.session.events_of(seen.truth.last.who, Exit)
        if seen.can.brief:
            assert [end.status for end in ends] == [77 << 8]
        else:
            assert ends == []


class TestOrder:
    def test_a_parent_comes_before_its_children(self, seen: Seen) -> None:
        born: dict[ProcessKey, int] = {}
        ended: dict[ProcessKey, int] = {}
        for position, process_event in enumerate(seen.session.applied):
            event = process_event.event
            if isinstance(event, Fork):
                assert event.child not in born, event
                born[event.child] = position
                assert event.creator not in ended, event
            elif isinstance(event, Exit):
                ended[event.key] = position
        for member in seen.truth.family:
            forks = seen.session.events_of(member.who, Fork)
            assert len(forks) == 1 or not seen.can.brief, member
            for fork in forks:
                above = [at for key, at in born.items() if key.pid == member.ppid]
                assert min(above) < born[fork.child]

    def test_no_event_comes_before_its_processs_fork_or_after_its_exit(self, seen: Seen) -> None:
        pids = {report.pid for report in (*seen.truth.family, *seen.truth.codes)}
        born: set[ProcessKey] = set()
        ended: set[ProcessKey] = set()
        for process_event in seen.session.applied:
            event = process_event.event
            if event.key.pid not in pids:
                continue
            if isinstance(event, Fork):
                born.add(event.child)
            else:
                assert event.key in born, event
                assert event.key not in ended, event
            if isinstance(event, Exit):
                ended.add(event.key)

    def test_the_watermark_never_goes_back(self, seen: Seen) -> None:
        marks = [delivery.watermark_ns for delivery in seen.session.source.deliveries]
        assert marks == sorted(marks)
        assert marks[-1] > marks[0]

    def test_the_watermark_never_passes_an_event_that_is_delivered_later(self, seen: Seen) -> None:
        watermark_ns = 0
        late = []
        for delivery in seen.session.source.deliveries:
            late += [e for e in delivery.events if e.timestamp_ns < watermark_ns]
            watermark_ns = max(watermark_ns, delivery.watermark_ns)
        assert late == []
        assert seen.session.pipeline.summary()["late"] == 0


class TestWhatIsKnown:
    def test_the_status_is_the_one_of_wait_or_none_at_all(self, seen: Seen) -> None:
        reports = [*seen.truth.codes, *seen.truth.signalled, *seen.truth.family]
        told = {
            report.who: [end.status for end in seen.session.events_of(report.who, Exit)]
            for report in reports
        }
        if seen.can.status:
            assert told == {report.who: [report.status] for report in reports}
            assert os.WCOREDUMP(seen.truth.signalled[-1].status), "see core(5)"
        else:
            assert {status for statuses in told.values() for status in statuses} <= {None}
            assert any("exit codes" in spot for spot in seen.session.source.blind_spots)

    def test_the_status_of_one_that_was_watched_is_the_one_of_wait_or_none(
        self, seen: Seen
    ) -> None:
        (end,) = seen.session.events_of(seen.truth.child, Exit)
        assert end.status == (seen.truth.child_ended.status if seen.can.status else None)

    def test_a_process_is_named_right_or_not_at_all(self, seen: Seen) -> None:
        right = {
            seen.truth.child: {"actor"},
            seen.truth.holder: {"holder"},
            seen.truth.renamed: {"actor", "another name"},
            seen.truth.last.who: {"quit"},
            **{report.who: {"actor"} for report in (*seen.truth.family, *seen.truth.codes)},
        }
        for who, names in right.items():
            for process_event in seen.session.history(who):
                if not process_event.info.inherited:
                    assert process_event.info.cmd in names, process_event
                assert process_event.info.cmd != "", process_event

    def test_a_brief_process_is_named_or_its_namelessness_is_a_blind_spot(self, seen: Seen) -> None:
        history = seen.session.history(seen.truth.last.who)
        named = any(not process_event.info.inherited for process_event in history)
        if seen.can.brief_names:
            assert named
            assert history[-1].info.args[-1] == "77"
        else:
            assert any(
                "names" in spot or "begin and end" in spot
                for spot in seen.session.source.blind_spots
            )

    def test_only_a_source_that_says_so_is_blind(self, seen: Seen) -> None:
        assert bool(seen.session.source.blind_spots) == (seen.can != CAN["bpf"])

    def test_a_long_lived_process_has_the_identity_that_proc_shows(self, seen: Seen) -> None:
        for who in (seen.truth.child, seen.truth.holder, seen.truth.renamed, seen.truth.daemon[0]):
            shown = entity_id("boot", ProcessKey(who.pid, who.ticks * _TICK_NS))
            told = {entity_id("boot", a.node.key) for a in seen.session.history(who)}
            assert told == {shown}

    def test_nothing_was_lost_and_the_statistics_say_so(self, seen: Seen) -> None:
        stats = seen.session.source.stats()
        assert stats["lost"] == 0
        assert stats["received"] > 0
        assert "startup_seconds" in stats
        assert seen.session.gaps == []


@pytest.mark.parametrize("name", list(LIVE))
class TestReplay:
    def test_a_replay_delivers_what_the_live_run_did(
        self, performances: Callable[[str], Performance], name: str
    ) -> None:
        live, recording = performances(name)
        again = replayed(recording)
        assert _sequence(again) == _sequence(live.session)

    def test_a_replay_writes_what_the_live_run_did(
        self, performances: Callable[[str], Performance], name: str
    ) -> None:
        live, recording = performances(name)
        again = replayed(recording)
        records = live.session.records()
        assert len(records) > 10
        assert again.records() == records

    def test_a_replay_can_be_had_twice(
        self, performances: Callable[[str], Performance], name: str
    ) -> None:
        _, recording = performances(name)
        assert _sequence(replayed(recording)) == _sequence(replayed(recording))

    def test_a_replay_is_not_slowed_down_by_the_interval_of_polls(
        self, performances: Callable[[str], Performance], name: str
    ) -> None:
        live, recording = performances(name)
        again = Session(ReplaySource(recording))
        with again:
            again.pipeline.run(Event(), interval_s=PATIENCE_S)
        assert len(again.applied) == len(live.session.applied)

    def test_a_replay_counts_what_the_live_run_did(
        self, performances: Callable[[str], Performance], name: str
    ) -> None:
        live, recording = performances(name)
        again = replayed(recording)
        told, wanted = again.source.stats(), live.session.source.stats()
        for count in ("received", "lost"):
            assert told[count] == wanted[count]
        assert told["recorded_source"] == name
        assert again.source.blind_spots == live.session.source.blind_spots


def _sequence(session: Session) -> list[tuple[int, list[ProcEvent], list[Gap]]]:
    """Return the deliveries, without those that brought nothing."""
    sequence: list[tuple[int, list[ProcEvent], list[Gap]]] = []
    for delivery in session.source.deliveries:
        gaps = [replace(gap, source="") for gap in delivery.gaps]
        one = (delivery.watermark_ns, delivery.events, gaps)
        if delivery.events or delivery.gaps or not sequence or sequence[-1][0] != one[0]:
            sequence.append(one)
    return sequence
