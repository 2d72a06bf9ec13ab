"""The loop with a source that says what it is told to: order, and whose events are ours."""

from __future__ import annotations

import os
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf import (
    Collector,
    Exec,
    Exit,
    Gap,
    PidTree,
    ProcCache,
    ProcessEvent,
    ProcessKey,
    SourceFailedError,
    intake,
)
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.pipeline_ports import PipelineHooks, Selection
from proctree_bpf.sources.base import Delivery, Snapshot, Waiting
from proctree_bpf.sources.system.procfs import read_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf import ProcEvent

S = 1_000_000_000
_FAR_NS = 1 << 62


class Told:
    """A source that delivers what it was given, one delivery a poll, and then ends."""

    name = "told"
    blind_spots = ()

    def __init__(self, *deliveries: Delivery) -> None:
        self._left = list(deliveries)

    def open(self) -> None:
        """Nothing is to be opened."""

    def poll(self) -> Delivery:
        return self._left.pop(0) if self._left else Delivery(0, end=True)

    def is_quiet(self) -> bool:
        return False

    def read_snapshot(
        self, _progress: Callable[[], object], _not_before_ns: int = 0
    ) -> Snapshot | None:
        return None

    def now_ns(self) -> int:
        return 0

    def fileno(self) -> int | None:
        return None

    def stop(self) -> None:
        """Nothing is to be stopped."""

    def close(self) -> None:
        """Nothing is to be given back."""

    def stats(self) -> dict[str, Any]:
        return {}


class ToldInPieces(Told):
    """A source that receives before it delivers, one delivery at a time."""

    def receive(self) -> Waiting:
        left = len(self._left)
        return Waiting(left, 0.5, 0.1, 7) if left > 1 else Waiting(left, 0.0, 0.1, 0)

    def poll_some(self) -> Delivery:
        return super().poll()

    def poll(self) -> Delivery:
        return Delivery(0)

    def undelivered(self) -> int:
        return 0


class Shown(ToldInPieces):
    """The same, and ``/proc`` shows nobody: at time 8."""

    def read_snapshot(
        self, _progress: Callable[[], object], _not_before_ns: int = 0
    ) -> Snapshot | None:
        return Snapshot(8, 8, [])


class Diary:
    """A sink that notes the times of what it is given."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int]] = []
        self.uncertain: list[int] = []

    def write(self, process_event: ProcessEvent) -> None:
        self.lines.append(("event", process_event.event.timestamp_ns))
        if process_event.uncertain:
            self.uncertain.append(process_event.event.timestamp_ns)

    def gap(self, gap: Gap) -> None:
        self.lines.append(("gap", gap.until_ns))

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is owed."""


def happens(*times_ns: int) -> list[ProcEvent]:
    return [Exec(time_ns, ProcessKey(7, S), comm="x") for time_ns in times_ns]


def lost(until_ns: int) -> Gap:
    return Gap(until_ns, "told", 1, "exec", 0, 1, until_ns)


def diary_of(*deliveries: Delivery) -> Diary:
    diary = Diary()
    pipeline = Pipeline(Told(*deliveries), Tracker(PidTree(), ProcCache()), diary)
    pipeline.start()
    pipeline.run(Event(), 0.001)
    pipeline.finish()
    return diary


class TestGapsStandInTheirPlace:
    def test_older_events_are_written_before_the_gap(self) -> None:
        diary = diary_of(Delivery(10, happens(2, 4, 8), [lost(6)]))
        assert diary.lines == [("event", 2), ("event", 4), ("gap", 6), ("event", 8)]

    def test_it_waits_for_the_watermark_as_events_do(self) -> None:
        early = Delivery(3, happens(2), [lost(6)])
        diary = diary_of(early, Delivery(5, happens(4)), Delivery(9, happens(8)))
        assert diary.lines == [("event", 2), ("event", 4), ("gap", 6), ("event", 8)]

    def test_several_come_in_the_order_of_their_times(self) -> None:
        diary = diary_of(Delivery(10, happens(5), [lost(9), lost(3), lost(9)]))
        assert diary.lines == [("gap", 3), ("event", 5), ("gap", 9), ("gap", 9)]

    def test_none_is_forgotten_at_the_end(self) -> None:
        assert diary_of(Delivery(1, [], [lost(_FAR_NS)])).lines == [("gap", _FAR_NS)]

    def test_all_that_is_written_since_the_loss_is_known_is_uncertain(self) -> None:
        assert diary_of(Delivery(10, happens(2, 8), [lost(6)])).uncertain == [2, 8]


class Watcher(PipelineHooks):
    """Writes down what it is told; says that it is time to stop once so much is written."""

    def __init__(self, diary: Diary, stop_after: int) -> None:
        self._diary = diary
        self._stop_after = stop_after
        self.waiting: list[Waiting] = []
        self.backlog: list[int] = []
        self.checks = 0

    def check(self) -> None:
        self.checks += 1

    def is_due(self) -> bool:
        return len(self._diary.lines) >= self._stop_after

    def before_working(self, waiting: Waiting) -> None:
        self.waiting.append(waiting)

    def on_backlog(self, events: int) -> None:
        self.backlog.append(events)


def run_with(
    diary: Diary, *deliveries: Delivery, selection: Selection, hooks: PipelineHooks | None = None
) -> Pipeline:
    tracker = Tracker(PidTree(), ProcCache())
    pipeline = Pipeline(Told(*deliveries), tracker, diary, selection, hooks=hooks)
    pipeline.start()
    pipeline.run(Event(), 0.001)
    pipeline.finish()
    return pipeline


class Breaking(Told):
    """A source that breaks where it has nothing more to deliver."""

    def poll(self) -> Delivery:
        if not self._left:
            raise SourceFailedError("it broke")
        return super().poll()


def test_what_came_before_a_source_broke_is_all_written() -> None:
    diary, times_ns = Diary(), range(1, 2000)
    pipeline = Pipeline(
        Breaking(Delivery(_FAR_NS, happens(*times_ns))), Tracker(PidTree(), ProcCache()), diary
    )
    pipeline.start()
    with pytest.raises(SourceFailedError):
        pipeline.run(Event(), 0.001)
    assert len(diary.lines) < len(times_ns), "it did not break in between"
    pipeline.give_up()
    assert diary.lines == [("event", time_ns) for time_ns in times_ns]
    assert pipeline.summary()["late"] == 0


def test_a_source_that_broke_is_not_asked_again_when_it_is_time_to_stop() -> None:
    class BreakingAgain(Breaking):
        def stop(self) -> None:
            raise SourceFailedError("it broke again")

    diary = Diary()
    source = BreakingAgain(Delivery(1, happens(2, 3)))
    pipeline = Pipeline(
        source, Tracker(PidTree(), ProcCache()), diary, hooks=Watcher(diary, stop_after=0)
    )
    pipeline.start()
    with pytest.raises(SourceFailedError):
        pipeline.run(Event(), 0.001)
    pipeline.give_up()
    assert diary.lines == [("event", 2), ("event", 3)]


class TestSelection:
    def test_a_kind_that_is_not_asked_for_is_applied_and_not_written(self) -> None:
        diary, end = Diary(), Exit(3, ProcessKey(7, S))
        delivery = Delivery(10, [*happens(2), end])
        pipeline = run_with(diary, delivery, selection=Selection(kinds={Exit: "exit"}))
        assert diary.lines == [("event", 3)]
        assert pipeline.stats.written == {"exit": 1}
        assert pipeline.summary()["applied"] == 2

    def test_what_is_hidden_is_counted_apart(self) -> None:
        diary = Diary()
        selection = Selection(hides=lambda event: event.timestamp_ns < 5)
        pipeline = run_with(diary, Delivery(10, happens(2, 4, 8)), selection=selection)
        assert diary.lines == [("event", 8)]
        assert (pipeline.stats.hidden, pipeline.stats.filtered) == (2, 0)


class TestHooks:
    def test_they_are_told_each_time_how_much_waits_and_asked_whether_to_go_on(self) -> None:
        diary = Diary()
        watcher = Watcher(diary, stop_after=99)
        tracker = Tracker(PidTree(), ProcCache())
        deliveries = [Delivery(5, happens(2)), Delivery(9, happens(8), end=True)]
        pipeline = Pipeline(ToldInPieces(*deliveries), tracker, diary, hooks=watcher)
        pipeline.start()
        pipeline.run(Event(), 0.001)
        assert diary.lines == [("event", 2), ("event", 8)]
        assert watcher.waiting[0] == Waiting(2, 0.5, 0.1, 7)
        assert watcher.checks >= len(watcher.waiting)

    def test_they_are_told_that_it_is_late_while_much_is_written(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(intake, "_RECEIVE_EVERY_S", 0.0)
        monkeypatch.setattr(ToldInPieces, "now_ns", lambda _: 7 * S)
        watcher = Watcher(Diary(), stop_after=99)
        told = ToldInPieces(Delivery(5 * S, happens(*range(2 * S, 2 * S + 2_000))))
        pipeline = Pipeline(told, Tracker(PidTree(), ProcCache()), Diary(), hooks=watcher)
        pipeline.start()
        pipeline.pump()
        assert 4 * S < max(waiting.late_ns for waiting in watcher.waiting) < 5 * S

    def test_they_are_told_of_a_loss_until_the_tree_is_mended(self) -> None:
        watcher = Watcher(Diary(), stop_after=99)
        deliveries = [Delivery(5), Delivery(9, [], [lost(8)]), Delivery(9), Delivery(9)]
        told = Shown(*deliveries)
        pipeline = Pipeline(told, Tracker(PidTree(), ProcCache()), Diary(), hooks=watcher)
        pipeline.start()
        for _ in range(4):
            pipeline.pump()
        assert [waiting.is_mending for waiting in watcher.waiting] == [False, True, True, False]

    def test_once_it_is_time_to_stop_they_are_told_what_is_left(self) -> None:
        diary = Diary()
        watcher = Watcher(diary, stop_after=1)
        many = Delivery(10_000, happens(*range(1, 2000)))
        run_with(diary, many, selection=Selection(), hooks=watcher)
        assert len(diary.lines) == 1999
        assert watcher.backlog == sorted(watcher.backlog, reverse=True)
        assert watcher.backlog[0] < 1999

    def test_what_a_check_raises_ends_the_run(self) -> None:
        class Impatient(PipelineHooks):
            def check(self) -> None:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            run_with(Diary(), Delivery(5), selection=Selection(), hooks=Impatient())


class TestExcludeSelf:
    @pytest.mark.parametrize(("born_before_ns", "expected"), [(0, 0), (5 * S, 1)])
    def test_only_this_very_process_is_left_out_not_another_life_of_its_pid(
        self, born_before_ns: int, expected: int
    ) -> None:
        me = read_key(os.getpid())
        key = ProcessKey(me.pid, me.start_time_ns - born_before_ns)
        told: list[ProcessEvent] = []
        source = Told(Delivery(_FAR_NS, [Exec(_FAR_NS - 1, key, comm="x")]))
        with Collector(source, on_event=told.append, exclude_self=True) as collector:
            thread = collector._thread
            assert thread is not None
            thread.join(20)
        assert len(told) == expected
