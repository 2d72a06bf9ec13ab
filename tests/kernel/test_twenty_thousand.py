"""Twenty thousand short processes, as fast as two spawners can: nothing is lost or mistaken."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from support.program import tracing
from support.spawner import Spawner, unique

if TYPE_CHECKING:
    from support.actor import Helpers
    from support.spawner import Spawned

COUNT = 20_000
TOKEN = unique("one-of-twenty-thousand")


class Record(NamedTuple):
    """What the tests need of one line of output."""

    action: str
    pid: int
    entity: str
    name: str
    args: tuple[str, ...]
    parent: int
    creator: tuple[int, str] | None
    exit_code: int | None
    chain: list[tuple[int, str]]
    uncertain: bool


class Traced(NamedTuple):
    """What was spawned, and what the program said of it."""

    spawners: dict[int, Spawner]
    truth: list[Spawned]
    records: list[Record]
    gaps: list[dict[str, Any]]
    stats: dict[str, Any]

    def told(self, action: str) -> list[Record]:
        """Return the records of one kind about what was spawned."""
        return [r for r in self.records if r.action == action and TOKEN in r.args[1:2]]


def read_record(whole: dict[str, Any]) -> Record:
    process, proctree = whole["process"], whole["proctree"]
    creator = proctree.get("creator")
    return Record(
        action=whole["event"]["action"],
        pid=process["pid"],
        entity=process["entity_id"],
        name=process["name"],
        args=tuple(process["args"] or ()),
        parent=process["parent"]["pid"] if process["parent"] else 0,
        creator=(creator["pid"], creator["entity_id"]) if creator else None,
        exit_code=process.get("exit_code"),
        chain=[(link["pid"], link["name"]) for link in proctree["chain"][:2]],
        uncertain="uncertain" in proctree,
    )


@pytest.fixture(scope="module")
def traced(
    helpers: Helpers, tmp_path_factory: pytest.TempPathFactory, figures: list[str]
) -> Traced:
    directory = tmp_path_factory.mktemp("twenty-thousand")
    out, stats = directory / "records.jsonl", directory / "stats.json"
    options = ["-f", "jsonl", "-e", "fork,exec,exit", "-o", str(out), "--stats-file", str(stats)]
    with tracing(*options) as trace:
        begun = time.monotonic()
        half = COUNT // 2
        running = [Spawner(helpers, directory, TOKEN, half, first=n * half) for n in range(2)]
        truth = [spawned for spawner in running for spawned in spawner.finish()]
        seconds = time.monotonic() - begun
        result = trace.stop()
    assert result.code == 0, result.err
    figures.append(f"{COUNT} processes in {seconds:.1f} s: {COUNT / seconds:.0f} a second")
    records, gaps = [], []
    with out.open(encoding="ascii") as lines:
        for line in lines:
            whole = json.loads(line)
            if whole["event"]["action"] == "gap":
                gaps.append(whole["proctree"]["gap"])
            else:
                records.append(read_record(whole))
    spawners = {spawner.pid: spawner for spawner in running}
    return Traced(spawners, truth, records, gaps, json.loads(stats.read_text()))


def test_the_spawners_did_what_they_should(traced: Traced) -> None:
    assert sorted(one.number for one in traced.truth) == list(range(COUNT))
    assert all(os.waitstatus_to_exitcode(one.status) == one.number % 256 for one in traced.truth)


def test_every_exec_is_recorded_with_its_name_arguments_and_parent(traced: Traced) -> None:
    told = [(r.pid, r.name, r.args, r.parent) for r in traced.told("exec")]
    assert len(told) == COUNT
    assert set(told) == {
        (one.pid, one.name, traced.spawners[one.parent_pid].args_of(one), one.parent_pid)
        for one in traced.truth
    }


def test_every_exit_is_recorded_with_its_name_arguments_parent_and_code(traced: Traced) -> None:
    told = [(r.pid, r.name, r.args, r.parent, r.exit_code) for r in traced.told("exit")]
    assert len(told) == COUNT
    assert set(told) == {
        (
            one.pid,
            one.name,
            traced.spawners[one.parent_pid].args_of(one),
            one.parent_pid,
            os.waitstatus_to_exitcode(one.status),
        )
        for one in traced.truth
    }


def test_every_fork_is_recorded_with_its_creator(traced: Traced) -> None:
    wanted = {(r.entity, r.parent) for r in traced.told("exec")}
    assert len({entity for entity, _ in wanted}) == COUNT
    forks = [r for r in traced.records if r.action == "fork"]
    told = [
        (r.entity, r.creator[0]) for r in forks if r.creator and r.creator[0] in traced.spawners
    ]
    assert len(told) == COUNT
    assert set(told) == wanted


def test_no_child_comes_before_its_parent_and_no_event_before_its_fork(traced: Traced) -> None:
    born: set[str] = set()
    ended: set[str] = set()
    strays = []
    for record in traced.records:
        if record.pid not in traced.spawners and record.parent not in traced.spawners:
            continue
        if record.action == "fork":
            assert record.creator
            _, creator = record.creator
            if record.pid not in traced.spawners and (creator not in born or creator in ended):
                strays.append(record)
            born.add(record.entity)
        elif record.entity not in born or record.entity in ended:
            strays.append(record)
        if record.action == "exit":
            ended.add(record.entity)
    assert strays == []
    assert len(born) == len(ended) == COUNT + len(traced.spawners)


def test_the_chain_of_each_begins_with_its_spawner(traced: Traced) -> None:
    for record in traced.told("exec") + traced.told("exit"):
        (first, name), (second, _) = record.chain
        assert first == record.parent
        assert first in traced.spawners
        assert name == "spawner"
        assert second == os.getpid()


def test_nothing_was_lost_or_came_late(traced: Traced) -> None:
    stats = traced.stats
    assert traced.gaps == []
    assert (stats["lost"], stats["late"], stats["undecodable"], stats["gaps"]) == (0, 0, 0, 0)
    assert not any(record.uncertain for record in traced.records)
    for kind in ("fork", "exec", "exit"):
        assert stats["by_kind"][kind]["received"] >= COUNT
        assert stats["by_kind"][kind]["lost"] == 0


def test_the_statistics_agree_with_the_records(traced: Traced) -> None:
    for kind, written in traced.stats["written"].items():
        assert written == sum(record.action == kind for record in traced.records)
