"""Real loss, from buffers that are far too small: counted, located, shown and repaired."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from itertools import count
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import TYPE_CHECKING, TypeVar

import pytest

from proctree_bpf import (
    Exec,
    Exit,
    Fork,
)
from proctree_bpf.core.lineage import Answer, ancestry, build_chain_string
from proctree_bpf.sources.system.clock import boottime_ns
from support.actor import Actor
from support.live_collector import as_identity
from support.lossy import Lossy, flood
from support.polled_source import begun_by_kind
from support.proc_truth import cmdline, comm, exe, identity
from support.program import json_lines, tracing
from support.spawner import Spawner, number_of, records_of, unique
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from proctree_bpf import ProcessKey, ProcEvent
    from support.actor import Helpers, Stage
    from support.live_collector import LiveCollector

T = TypeVar("T")
_EVENT_OF = {"fork": Fork, "exec": Exec, "exit": Exit}
_CLOCK_NS = 1_000_000
_PER_CPU = 300
_ENDLESS = 10_000_000
_STOPPED_S = 5


@pytest.fixture
def lossy() -> Iterator[Lossy]:
    lossy = Lossy()
    lossy.pipeline.start()
    lossy.pipeline.pump()
    try:
        yield lossy
    finally:
        lossy.pipeline.finish()
        lossy.pipeline.close()


def ours(events: list[ProcEvent], keys: set[ProcessKey]) -> Counter[type]:
    return Counter(type(event) for event in events if event.key in keys)


def spawned_by(live: LiveCollector, token: str) -> set[ProcessKey]:
    """Return what a spawner ran, as the collector that loses nothing knows it."""
    live.fence()
    return {
        process_event.event.key
        for process_event in live.applied
        if isinstance(process_event.event, Exec)
        and number_of(process_event.event.args, token) is not None
    }


def test_what_is_lost_is_what_was_begun_and_not_received(
    lossy: Lossy, helpers: Helpers, tmp_path: Path
) -> None:
    flood(helpers, tmp_path, unique("counted"))
    lossy.pipeline.finish()
    stats = lossy.source.stats()
    begun = begun_by_kind(lossy.source)
    assert stats["lost"] > 500
    for kind, counts in stats["by_kind"].items():
        assert counts["received"] + counts["lost"] == begun[kind]
    assert stats["lost"] == sum(begun.values()) - stats["received"]
    assert stats["lost"] == sum(gap.count or 0 for gap in lossy.gaps) == lossy.pipeline.stats.lost


def test_what_is_lost_is_what_another_collector_saw_and_this_one_did_not(
    live: LiveCollector, helpers: Helpers, tmp_path: Path
) -> None:
    before, token = len(live.applied), unique("compared")
    lossy = Lossy()
    opening_ns = boottime_ns()
    lossy.pipeline.start()
    opened_ns = boottime_ns()
    truth = flood(helpers, tmp_path, token)
    stopping_ns = boottime_ns()
    lossy.pipeline.finish()
    stopped_ns = boottime_ns()
    lost = lossy.source.stats()["by_kind"]
    lossy.pipeline.close()
    live.fence()

    seen = {(type(process_event.event), process_event.event.key) for process_event in lossy.applied}
    every = [process_event.event for process_event in live.applied[before:]]
    missing = [event for event in every if (type(event), event.key) not in seen]
    spawned = spawned_by(live, token)
    assert len(spawned) == len(truth)
    for kind, event_type in _EVENT_OF.items():
        times = [event.timestamp_ns for event in missing if isinstance(event, event_type)]
        certain = sum(opened_ns < time < stopping_ns for time in times)
        possible = sum(opening_ns < time < stopped_ns for time in times)
        assert certain <= lost[kind]["lost"] <= possible
        # Of the spawned: seen and missing are all.
        got = ours([a.event for a in lossy.applied], spawned)[event_type]
        assert got + ours(missing, spawned)[event_type] == len(truth)
        assert len(truth) - got <= lost[kind]["lost"]


def test_each_gap_says_on_which_cpu_and_between_which_times(
    live: LiveCollector, lossy: Lossy, helpers: Helpers, tmp_path: Path
) -> None:
    before, tokens = len(live.applied), (unique("located"), unique("located-again"))
    cpu = max(os.sched_getaffinity(0))
    lossy.pipeline.pump()
    begun_ns, known = boottime_ns(), len(lossy.gaps)
    for token in tokens:
        Spawner(helpers, tmp_path, token, _PER_CPU, cpu=cpu).finish()
        lossy.pipeline.pump()
    lossy.pipeline.finish()
    ended_ns = boottime_ns()
    spawned = {key for token in tokens for key in spawned_by(live, token)}

    seen = {(type(process_event.event), process_event.event.key) for process_event in lossy.applied}
    for process_event in live.applied[before:]:
        event = process_event.event
        if event.key in spawned and (type(event), event.key) not in seen:
            kind = type(event).__name__.lower()
            assert [
                gap
                for gap in lossy.gaps
                if (gap.kind, gap.cpu, gap.source) == (kind, cpu, "bpf")
                and gap.from_ns - _CLOCK_NS <= event.timestamp_ns <= gap.until_ns + _CLOCK_NS
            ]
    located = [gap for gap in lossy.gaps[known:] if gap.cpu == cpu]
    assert {"fork", "exec", "exit"} <= {gap.kind for gap in located}
    for gap in located:
        assert gap.count
        assert gap.from_ns < gap.until_ns <= ended_ns
        assert gap.until_ns > begun_ns


def test_after_a_loss_the_tree_is_mended_from_proc(
    live: LiveCollector, lossy: Lossy, stage: Stage, tmp_path: Path
) -> None:
    token = unique("mended")
    with stage.play("crowd", "10") as known:
        known.await_report("child", 10)
        before = {report.who for report in known.all_of("child")}
        wait_until("ten forks", lambda: lossy.pumped(lambda: before <= lossy.living()))
        flood(stage.helpers, tmp_path, token)
        with stage.play("crowd", "60") as missed, stage.hold("an argument", "") as holder:
            missed.await_report("child", 60)
            known.finish()
            lossy.pipeline.pump()
            assert lossy.pipeline.stats.gaps
            assert lossy.tracker.uncertain
            lossy.repair()
            assert lossy.gaps, "in their place among the events, so a little later"
            born = {report.who for report in missed.all_of("child")}
            forked = {a.event.key for a in lossy.applied if isinstance(a.event, Fork)}
            assert born - {as_identity(key) for key in forked}, "no fork was lost"
            for who in born:
                node = lossy.node(who)
                assert (node.cmd, node.ppid, node.exited_ns) == ("actor", missed.pid, None)
            info = lossy.info(identity(holder.pid))
            assert info.args_raw == cmdline(holder.pid) == b"an argument\0\0"
            assert info.executable == exe(holder.pid)
            assert info.cmd == comm(holder.pid)
        assert not before & lossy.living()
        nodes = lossy.tracker.tree.all_nodes()
        assert not spawned_by(live, token) & {n.key for n in nodes if n.exited_ns is None}


def test_a_lost_exec_of_the_same_program_is_mended_too(
    lossy: Lossy, stage: Stage, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    later = """echo '{"role": "holding"}'; read x"""
    script = """exec 3<&0; (read x <"$0"; exec sh -c "$1" later <&3) &
        echo '{"role": "child", "pid": '$!'}'; wait"""
    with Actor(["sh", "-c", script, fifo, later]) as actor:
        child = identity(actor.await_report("child").pid)
        wait_until("the fork", lambda: lossy.pumped(lambda: child in lossy.living()))
        flood(stage.helpers, tmp_path, unique("same-program"))
        fifo.write_text("go\n")
        actor.await_report("holding")
        lossy.pipeline.pump()
        execs = [a for a in lossy.applied if isinstance(a.event, Exec)]
        assert child not in {as_identity(a.event.key) for a in execs}, "the exec was not lost"
        lossy.repair()
        info = lossy.info(child)
        assert info.args_raw == cmdline(child.pid)
        assert not info.inherited


def test_records_are_uncertain_from_the_loss_to_the_repair(
    lossy: Lossy, stage: Stage, tmp_path: Path
) -> None:
    flood(stage.helpers, tmp_path, unique("uncertain"))
    before = len(lossy.applied)
    lossy.pipeline.pump()
    assert lossy.tracker.uncertain
    assert len(lossy.applied) > before
    assert all(process_event.uncertain for process_event in lossy.applied[before:])
    lossy.repair()
    child = stage.played("spawn", stage.helpers.quit, "2").await_report("child").who
    last = wait_until("the exit", lambda: lossy.pumped(lambda: lossy.last(child, Exit)))
    assert last is not None
    assert not last.uncertain


def test_after_the_load_the_tree_is_mended_within_two_seconds(
    lossy: Lossy, helpers: Helpers, tmp_path: Path
) -> None:
    """From the end of the last gap, though nothing was read while the load went on."""
    flood(helpers, tmp_path, unique("mended-soon"))
    lossy.pipeline.pump()
    assert lossy.tracker.uncertain
    lossy.repair()
    assert 0 < lossy.pipeline.summary()["repair_seconds"] <= 2


def test_a_reader_that_was_stopped_mends_the_tree_within_two_seconds_of_the_load(
    helpers: Helpers, tmp_path: Path
) -> None:
    stats_file, token, numbers = tmp_path / "stats.json", unique("afterwards"), count()
    options = ["-f", "jsonl", "--stats-file", str(stats_file), "--perf-pages", "64"]
    with tracing(*options) as trace:
        os.kill(trace.pid, SIGSTOP)
        loads = [
            Spawner(helpers, tmp_path, unique("load"), _ENDLESS, first=cpu * _ENDLESS, cpu=cpu)
            for cpu in sorted(os.sched_getaffinity(0))
        ]
        time.sleep(_STOPPED_S)
        for load in loads:
            load.stop()
        os.kill(trace.pid, SIGCONT)

        def is_sure() -> bool:
            Spawner(helpers, tmp_path, token, 1, first=next(numbers)).finish()
            whole, newline, _ = trace.out().rpartition("\n")
            told = records_of(json_lines(whole + newline), "exit", token)
            return any("uncertain" not in record["proctree"] for record in told)

        wait_until("the repair", is_sure)
        trace.stop()
    stats = json.loads(stats_file.read_text())
    assert stats["lost"] > 500
    assert 0 < stats["repair_seconds"] <= 2


def test_an_orphan_whose_fork_was_lost_is_marked_below_whoever_adopted_it(
    lossy: Lossy, stage: Stage, tmp_path: Path
) -> None:
    flood(stage.helpers, tmp_path, unique("orphaned"))
    script = (
        """(sh -c 'echo "{\\"role\\": \\"orphan\\", \\"pid\\": $$}"; read x' <&3 &) 3<&0; read x"""
    )
    with Actor(["sh", "-c", script]) as actor:
        orphan = actor.await_report("orphan").pid
        who = identity(orphan)
        lossy.repair()
        node = lossy.node(who)
        assert node.fork_missed, "its fork was not lost"
        assert node.ppid != actor.pid
        assert f";~{node.ppid}|" in build_chain_string(
            lossy.tracker.tree, lossy.tracker.cache, node.key
        )
        assert ancestry(lossy.tracker.tree, node.key, "no such name") is Answer.UNKNOWN
        os.kill(orphan, SIGKILL)
        told = wait_until("the exit", lambda: lossy.pumped(lambda: lossy.last(who, Exit)))
    assert told is not None
    assert told.node.fork_missed
    assert not told.uncertain


def test_the_program_tells_of_its_losses(helpers: Helpers, tmp_path: Path) -> None:
    stats_file, token = tmp_path / "stats.json", unique("told")
    options = ["-f", "jsonl", "-e", "fork,exec,exit", "--stats-file", str(stats_file)]
    with tracing(*options, "--perf-pages", "1", "--interval", "1000") as trace:
        spawned = flood(helpers, tmp_path, token)
        result = trace.stop()
    assert result.code == 0
    stats = json.loads(stats_file.read_text())
    records = json_lines(result.out)
    gaps = [r["proctree"]["gap"] for r in records if r["event"]["action"] == "gap"]
    assert stats["lost"] == sum(gap["count"] for gap in gaps) > 500
    assert stats["gaps"] == len(gaps)
    for kind in ("fork", "exec", "exit"):
        lost = sum(gap["count"] for gap in gaps if gap["kind"] == kind)
        assert lost == stats["by_kind"][kind]["lost"]
    told = len(records_of(records, "exec", token))
    assert told < len(spawned)
    assert len(spawned) - told <= stats["by_kind"]["exec"]["lost"]
    assert f"{stats['lost']} records LOST" in result.err
