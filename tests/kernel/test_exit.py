"""How processes end: once each, with the status that wait(2) gives."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exit
from support.proc_truth import identity

if TYPE_CHECKING:
    from pathlib import Path

    from support.actor import Stage
    from support.live_collector import LiveCollector

_UNLIMITED = str(2**64 - 1)


def test_every_exit_code_is_told_as_wait_tells_it(live: LiveCollector, stage: Stage) -> None:
    children = stage.played("codes").all_of("child")
    live.fence()
    told = {child.who: [e.status for e in live.events(child.who, Exit)] for child in children}
    assert told == {child.who: [child.status] for child in children}
    codes = [event.exit_code for child in children for event in live.events(child.who, Exit)]
    assert codes == list(range(256))


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMAX]
)
def test_a_signal_that_ends_a_process_is_told_instead_of_a_code(
    live: LiveCollector, stage: Stage, number: signal.Signals
) -> None:
    child = stage.played("signal", str(int(number)), "0").await_report("child")
    assert os.WTERMSIG(child.status) == number
    event = live.the_exit(child.who)
    assert event.status == child.status
    assert (event.signal, event.exit_code, event.core_dumped) == (number, None, False)
    assert live.info(child.who).exit_signal == number


def test_a_core_dump_is_told(live: LiveCollector, stage: Stage, tmp_path: Path) -> None:
    played = stage.played("signal", str(int(signal.SIGABRT)), _UNLIMITED, cwd=tmp_path)
    child = played.await_report("child")
    assert os.WCOREDUMP(child.status), "this machine writes no core dumps: see core(5)"
    event = live.the_exit(child.who)
    assert event.status == child.status
    assert (event.signal, event.core_dumped) == (signal.SIGABRT, True)


def test_a_process_ends_with_its_last_thread_not_with_its_leader(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("leader-first") as actor:
        survivor = actor.await_report("survivor")
        live.fence()
        assert live.kinds(survivor.who) == ["Fork"]
        assert live.process(survivor.who).is_running()
    live.fence()
    assert live.kinds(survivor.who) == ["Fork", "Exit"]
    assert live.the_exit(survivor.who).status == actor.await_report("process").status


@pytest.mark.parametrize("code", [0, 9, 255])
def test_exit_group_by_another_thread_than_the_leader_ends_the_process_once(
    live: LiveCollector, stage: Stage, code: int
) -> None:
    process = stage.played("group-exit", str(code)).await_report("process")
    live.fence()
    assert live.kinds(process.who) == ["Fork", "Exit"]
    assert live.the_exit(process.who).status == process.status == code << 8


@pytest.mark.parametrize("code", [0, 9, 255])
def test_a_process_whose_only_thread_ends_has_that_ones_status(
    live: LiveCollector, stage: Stage, code: int
) -> None:
    """By the system call that ends a thread; _exit(3) makes another."""
    process = stage.played("plain-exit", str(code)).await_report("process")
    assert live.the_exit(process.who).status == process.status == code << 8


def test_a_killed_process_of_many_threads_ends_once(live: LiveCollector, stage: Stage) -> None:
    process = stage.played("killed-threads", "25").await_report("process")
    live.fence()
    assert live.kinds(process.who) == ["Fork", "Exit"]
    assert live.the_exit(process.who).status == process.status == signal.SIGKILL


def test_a_process_that_nobody_waits_for_still_ends_once(live: LiveCollector, stage: Stage) -> None:
    child = stage.played("unawaited").await_report("child")
    live.fence()
    assert live.kinds(child.who) == ["Fork", "Exit"]
    assert live.the_exit(child.who).exit_code == 6


def test_an_exit_repeats_what_was_known_of_the_process(live: LiveCollector, stage: Stage) -> None:
    with stage.hold("a name", "an argument") as actor:
        who = identity(actor.pid)
    live.fence()
    last = live.history(who)[-1]
    assert isinstance(last.event, Exit)
    assert last.event.comm == last.info.cmd == "holder"
    assert last.info.args == ("a name", "an argument")
    assert last.info.executable == str(stage.helpers.holder)
    assert (last.info.uid, last.info.user) == (0, "root")
    assert last.info.status == 0
    assert last.node.exited_ns == last.event.timestamp_ns
