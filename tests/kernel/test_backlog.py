"""What was received waits as bytes: in order, complete, and within bounds."""

from __future__ import annotations

import os
from operator import attrgetter
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfSource, Exit, PidTree, ProcCache, ProcessEvent
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.sources.rings import backlog
from support.live_collector import as_identity
from support.proc_truth import identity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from proctree_bpf import Gap, ProcEvent
    from support.proc_truth import Identity

pytestmark = pytest.mark.kernel


@pytest.fixture
def source() -> Iterator[BpfSource]:
    source = BpfSource()
    source.open()
    yield source
    source.close()


def children_that_end(count: int) -> list[Identity]:
    """Create processes, one after another; return who they were once all have ended."""
    ended = []
    for _ in range(count):
        held, release = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(release)
            os.read(held, 1)
            os._exit(0)
        ended.append(identity(pid))
        os.close(release)
        os.close(held)
        os.waitpid(pid, 0)
    return ended


def ended_in(events: Iterable[ProcEvent], who: Collection[Identity]) -> list[Identity]:
    """Return which of these ended, in the order of their ends."""
    ends = [event for event in events if isinstance(event, Exit)]
    ends.sort(key=attrgetter("timestamp_ns"))
    return [found for end in ends if (found := as_identity(end.key)) in who]


def test_to_receive_empties_the_rings_and_delivers_nothing(source: BpfSource) -> None:
    who = children_that_end(20)
    assert source.receive().ring_fill > 0
    before = source.undelivered()
    waiting = source.receive()
    assert waiting.late_ns > 0
    assert waiting.memory_fill > 0
    assert before >= 2 * len(who)
    assert ended_in(source.poll().events, who) == who
    assert source.receive().late_ns == 0


def test_what_was_received_first_is_delivered_first(
    source: BpfSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "LEAST_PIECE", 1)
    source.poll()
    pieces = []
    for _ in range(3):
        pieces.append(children_that_end(5))
        source.receive()
    for who in pieces:
        delivery = source.poll_some()
        assert ended_in(delivery.events, who) == who
        assert not delivery.gaps


def test_little_is_delivered_together_with_what_comes_next(source: BpfSource) -> None:
    source.poll()
    who = []
    for _ in range(10):
        who += children_that_end(1)
        source.receive()
    delivery = source.poll_some()
    assert ended_in(delivery.events, who) == who
    assert not delivery.gaps
    assert source.receive().late_ns == 0


def test_without_room_in_memory_it_stays_in_the_rings_and_none_is_lost(
    source: BpfSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.poll()
    monkeypatch.setattr(backlog, "MAX_BYTES", 2_000)
    first = children_that_end(20)
    assert source.receive().memory_fill >= 1
    later = children_that_end(20)
    fills = [source.receive().ring_fill for _ in range(3)]
    assert fills[0] > 0
    assert fills == sorted(fills), "a ring was emptied although there is no room"
    delivery = source.poll()
    following = source.poll()
    assert not delivery.gaps
    assert not following.gaps
    both = delivery.events + following.events
    assert ended_in(both, first + later) == first + later


class Ends:
    """A sink that keeps the events of ends."""

    def __init__(self) -> None:
        self.events: list[ProcEvent] = []
        self.gaps: list[Gap] = []

    def write(self, told: ProcessEvent) -> None:
        if told.as_received.kind == "exit":
            self.events.append(told.event)

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is held back."""


class Rests:
    """Tells a pipeline to stop once it has slept; counts how often it had no time for that."""

    def __init__(self) -> None:
        self.hurried = 0
        self.has_slept = False

    def is_set(self) -> bool:
        return self.has_slept

    def wait(self, timeout: float | None = None) -> bool:
        self.has_slept = timeout != 0
        self.hurried += not self.has_slept
        return self.has_slept


def test_a_pipeline_that_was_behind_catches_up_and_rests_again() -> None:
    source, ends, rests = BpfSource(), Ends(), Rests()
    pipeline = Pipeline(source, Tracker(PidTree(), ProcCache()), ends)
    pipeline.start()
    ended = []
    for _ in range(30):
        ended += children_that_end(1)
        source.receive()
    pipeline.run(rests, 0.02)
    assert rests.hurried <= 10
    assert ended_in(ends.events, ended) == ended
    pipeline.finish()
    pipeline.close()


def test_a_pipeline_that_is_behind_writes_all_that_was_before_its_end_and_nothing_after() -> None:
    source, ends = BpfSource(), Ends()
    pipeline = Pipeline(source, Tracker(PidTree(), ProcCache()), ends)
    pipeline.start()
    before = []
    for _ in range(10):
        before += children_that_end(5)
        source.receive()
    source.stop()
    after = children_that_end(5)
    pipeline.finish()
    pipeline.close()
    assert ended_in(ends.events, before + after) == before
    assert ends.gaps == []
