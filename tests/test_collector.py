"""``Collector``: what it is asked for, whom it tells, and how it ends. No privilege is needed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf import (
    Answer,
    Collector,
    EventStream,
    Exec,
    Exit,
    Filter,
    FilterError,
    Fork,
    Gap,
    NoSuchProcessError,
    ProcessEvent,
    ProcessKey,
    SourceFailedError,
)
from proctree_bpf.sources.base import Delivery, Snapshot
from support.host import check_that_it_is_left_alone
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctree_bpf import ProcEvent

INIT, SSHD, GIT = ProcessKey(1, 1), ProcessKey(70, 20), ProcessKey(80, 30)
STORY: tuple[ProcEvent, ...] = (
    Exec(10, INIT, comm="init"),
    Fork(20, SSHD, INIT),
    Exec(25, SSHD, comm="sshd"),
    Fork(30, GIT, SSHD),
    Exec(35, GIT, comm="git"),
    Exit(40, SSHD, status=0),
)


class Told:
    """A source that tells a story once it is let, and then is over, breaks, or goes on."""

    name = "told"
    blind_spots = ()

    def __init__(
        self, events: Iterable[ProcEvent] = STORY, gaps: Iterable[Gap] = (), *, last: bool = True
    ) -> None:
        self.go = threading.Event()
        self.go.set()
        self.failure: Exception | None = None
        self.closed = 0
        self._events = list(events)
        self._gaps = list(gaps)
        self._last = last

    def open(self) -> None:
        pass

    def poll(self) -> Delivery:
        if not self.go.is_set():
            return Delivery(0)
        if not self._events and self.failure is not None:
            raise self.failure
        events, self._events = self._events, []
        gaps, self._gaps = self._gaps, []
        return Delivery(10**18, events, gaps, end=self._last)

    def is_quiet(self) -> bool:
        return False

    def read_snapshot(self, _progress: Callable[[], object], _not_before_ns: int = 0) -> Snapshot:
        return Snapshot(0, 0, [])

    def now_ns(self) -> int:
        return 10**17

    def fileno(self) -> int | None:
        return None

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1

    def stats(self) -> dict[str, Any]:
        return {}


def events_of(told: Iterable[ProcessEvent]) -> list[ProcEvent]:
    return [each.event for each in told]


class TestAsking:
    def test_it_answers_with_processes(self) -> None:
        with Collector(Told()) as live:
            assert live.wait(PATIENCE_S)
            process = live.process(80)
            assert process.creators() == [live.process(70), live.process(1)]
            assert live.find(name="git") == [process]
            assert live.is_descendant(80, "sshd") is Answer.YES
            assert live.is_descendant(process, "cron") is Answer.NO
            with pytest.raises(NoSuchProcessError):
                live.process(81)
        assert process in live.tree
        assert not live.process(70).is_running()

    def test_the_story_is_told_in_its_order(self) -> None:
        told: list[ProcessEvent] = []
        with Collector(Told(), on_event=told.append) as live:
            live.wait(PATIENCE_S)
        assert events_of(told) == list(STORY)
        assert [each.info.cmd for each in told] == ["init", "init", "sshd", "sshd", "git", "sshd"]

    def test_losses_are_told(self) -> None:
        gaps: list[Gap] = []
        with Collector(Told((), [Gap(5, "told", 3)]), on_gap=gaps.append) as live:
            live.wait(PATIENCE_S)
        assert [gap.count for gap in gaps] == [3]


class TestSources:
    @pytest.mark.parametrize("name", ["proc-walker", "proc-connector"])
    def test_a_source_is_called_what_the_command_line_calls_it(self, name: str) -> None:
        with Collector(source=name) as live:
            assert live.source_name == name
            process = live.process(os.getpid())
            assert (process.is_running(), process.ppid()) == (True, os.getppid())

    @pytest.mark.parametrize("name", ["", "bfp", "replay:", "proc_walker"])
    def test_what_is_none_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="source must be one of auto, bpf, proc-connector"):
            Collector(name)

    def test_a_second_start_is_refused_with_a_sentence(self) -> None:
        live = Collector(Told())
        live.start()
        with pytest.raises(RuntimeError, match="can only be started once; make another one"):
            live.start()
        live.stop()
        with pytest.raises(RuntimeError, match="can only be started once"):
            live.start()


class TestFilter:
    @pytest.mark.parametrize("wanted", ["ancestor=sshd", Filter.parse("ancestor=sshd")])
    def test_only_what_is_wanted_is_told_but_the_tree_knows_all(self, wanted: str | Filter) -> None:
        told: list[ProcessEvent] = []
        with Collector(Told(), wanted, on_event=told.append) as live:
            live.wait(PATIENCE_S)
        assert events_of(told) == list(STORY[2:])
        assert live.process(1).name() == "init"

    def test_it_can_leave_out_the_ancestor_itself(self) -> None:
        told: list[ProcessEvent] = []
        wanted = Filter.parse("ancestor=sshd", include_self=False)
        with Collector(Told(), wanted, on_event=told.append) as live:
            live.wait(PATIENCE_S)
        assert events_of(told) == list(STORY[3:5])

    @pytest.mark.parametrize(
        "text", ["ancestr=sshd", "user=no-such-user", "pid=0", "line=(", "'", "cgroup=/no/such"]
    )
    def test_one_that_cannot_be_used_is_refused_at_once(self, text: str) -> None:
        with pytest.raises(FilterError):
            Collector(filter=text)

    def test_one_that_asks_for_a_pid_that_nobody_has_is_refused_at_the_start(self) -> None:
        source = Told()
        with pytest.raises(FilterError, match="no process has PID 99 now"):
            Collector(source, filter="ancestor-pid=99").start()
        assert source.closed


class TestWhatAFunctionRaises:
    @pytest.mark.parametrize("kind", ["on_event", "on_gap"])
    def test_it_ends_the_collector_and_reaches_whoever_stops_it(self, kind: str) -> None:
        def fail(_told: object) -> None:
            raise ZeroDivisionError("mine")

        source = Told(gaps=[Gap(5, "told", 1)])
        functions: dict[str, Any] = {kind: fail}
        live = Collector(source, **functions)
        live.start_background()
        with pytest.raises(ZeroDivisionError, match="mine"):
            live.wait(PATIENCE_S)
        with pytest.raises(ZeroDivisionError, match="mine"):
            live.stop()
        assert source.closed

    def test_it_leaves_the_with_block(self) -> None:
        def fail(_told: object) -> None:
            raise ZeroDivisionError

        source = Told()
        source.go.clear()
        with pytest.raises(ZeroDivisionError), Collector(source, on_event=fail):
            source.go.set()

    def test_it_reaches_who_iterates_after_what_was_told_before(self) -> None:
        def fail(told: ProcessEvent) -> None:
            if told.event is STORY[2]:
                raise ZeroDivisionError

        live = Collector(Told(), on_event=fail)
        events = live.events()
        live.start_background()
        assert events_of(islice(events, 3)) == list(STORY[:3])
        with pytest.raises(ZeroDivisionError):
            next(events)
        assert list(events) == []


class TestEvents:
    def test_from_before_the_start_none_is_missed(self) -> None:
        live = Collector(Told())
        events = live.events()
        with live:
            assert events_of(events) == list(STORY)
        assert events.dropped == 0

    def test_they_wait_for_the_next_one(self) -> None:
        source = Told(last=False)
        source.go.clear()
        with Collector(source) as live:
            events = live.events()
            threading.Timer(0.05, source.go.set).start()
            assert events_of(islice(events, 6)) == list(STORY)

    def test_they_can_be_had_asynchronously(self) -> None:
        async def all_of(live: Collector) -> list[ProcEvent]:
            return [told.event async for told in live.events()]

        async def first(live: Collector, source: Told) -> list[ProcEvent]:
            events = live.events()
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            source.go.set()
            found = [(await waiting).event]
            found += [(await anext(events)).event for _ in STORY[1:]]
            return found

        source = Told(last=False)
        source.go.clear()
        with Collector(source) as live:
            assert asyncio.run(first(live, source)) == list(STORY)
        assert asyncio.run(all_of(live)) == []

    def test_who_no_longer_waits_misses_nothing(self) -> None:
        async def ask(live: Collector, source: Told) -> list[ProcEvent]:
            events = live.events()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
            source.go.set()
            return [(await anext(events)).event for _ in STORY]

        source = Told(last=False)
        source.go.clear()
        with Collector(source) as live:
            assert asyncio.run(ask(live, source)) == list(STORY)

    def test_what_does_not_fit_is_counted_and_what_was_there_stays(self) -> None:
        live = Collector(Told())
        events = live.events(2)
        with live:
            live.wait(PATIENCE_S)
        assert events_of(events) == list(STORY[:2])
        assert events.dropped == len(STORY) - 2

    def test_several_may_iterate_beside_a_function(self) -> None:
        told: list[ProcessEvent] = []
        live = Collector(Told(), on_event=told.append)
        one, other = live.events(), live.events()
        with live:
            live.wait(PATIENCE_S)
        assert events_of(one) == events_of(other) == events_of(told)

    def test_a_broken_source_is_raised_at_their_end(self) -> None:
        source = Told(last=False)
        source.failure = SourceFailedError("it broke")
        live = Collector(source)
        events = live.events()
        live.start_background()
        assert events_of(islice(events, 6)) == list(STORY)
        with pytest.raises(SourceFailedError, match="it broke"):
            next(events)

    def test_a_queue_for_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="size must be at least 1"):
            EventStream(0)

    def test_they_are_filtered(self) -> None:
        live = Collector(Told(), "name=git")
        events = live.events()
        with live:
            assert events_of(events) == [STORY[4]]


class TestHost:
    # Since Python 3.12 it warns of threads.
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_child_does_not_wait_for_the_parents_thread(self) -> None:
        source = Told(last=False)
        source.go.clear()
        with Collector(source) as live:
            events = live.events()
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                rest = list(events)
                live.stop()
                os._exit(len(rest))
            assert os.waitpid(child, 0)[1] == 0
            source.go.set()
            assert events_of(islice(events, 6)) == list(STORY)

    @pytest.mark.parametrize("source", ["proc-walker", "proc-connector"])
    def test_its_host_is_as_it_was(self, source: str) -> None:
        check_that_it_is_left_alone(source)
