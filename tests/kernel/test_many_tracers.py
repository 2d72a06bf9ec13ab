"""Ten tracers beside each other: each tells the same, all of it, and loses nothing."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from support.program import Result, json_lines, tracing
from support.spawner import Spawner, records_of, unique
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

    from support.actor import Helpers
    from support.program import Trace
    from support.spawner import Spawned

TRACERS = 10
COUNT = 600
TOKEN = unique("watched-by-ten")
# So that ten readers can keep pace with two spawners on two CPUs.
_PAUSE_US = 2000


class Told(NamedTuple):
    """What one tracer said."""

    result: Result
    records: list[dict[str, Any]]
    stats: dict[str, Any]

    def of_spawned(self, action: str) -> list[dict[str, Any]]:
        """Return the records of one kind about what was spawned; forks have no arguments yet."""
        if action != "fork":
            return records_of(self.records, action, TOKEN)
        known = {record["process"]["entity_id"] for record in self.of_spawned("exec")}
        return [
            record
            for record in self.records
            if record["event"]["action"] == "fork" and record["process"]["entity_id"] in known
        ]


class Watched(NamedTuple):
    """What was spawned, and what each tracer said of it."""

    spawners: dict[int, Spawner]
    truth: list[Spawned]
    told: list[Told]


def _options(directory: Path, number: int) -> list[str]:
    """Return the options of a tracer; every fifth filters in the kernel."""
    filtered = ["--ancestor", "spawner"] if number % 5 == 1 else []
    files = ["-o", str(directory / f"out-{number}"), "--stats-file", str(directory / f"s-{number}")]
    return ["-f", "jsonl", "-e", "fork,exec,exit", *files, *filtered]


def _read(directory: Path, number: int, result: Result) -> Told:
    records = json_lines((directory / f"out-{number}").read_text())
    return Told(result, records, json.loads((directory / f"s-{number}").read_bytes()))


@pytest.fixture(scope="module")
def watched(helpers: Helpers, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    directory = tmp_path_factory.mktemp("ten")
    with ExitStack() as until_the_end, ThreadPoolExecutor(TRACERS) as pool:

        def begin(number: int) -> Trace:
            return until_the_end.enter_context(tracing(*_options(directory, number)))

        # The first ones compile, and keep what they have compiled for the others.
        traces = [*pool.map(begin, range(2)), *pool.map(begin, range(2, TRACERS))]
        half = COUNT // 2
        running = [
            Spawner(helpers, directory, TOKEN, half, first=n * half, pause_us=_PAUSE_US)
            for n in range(2)
        ]
        truth = [spawned for spawner in running for spawned in spawner.finish()]
        for trace in traces:
            trace.process.send_signal(signal.SIGINT)
        results = [trace.wait(PATIENCE_S * 2) for trace in traces]
    told = [_read(directory, number, result) for number, result in enumerate(results)]
    return Watched({spawner.pid: spawner for spawner in running}, truth, told)


every_tracer = pytest.mark.parametrize("number", range(TRACERS))


@every_tracer
def test_each_lost_nothing(watched: Watched, number: int) -> None:
    told = watched.told[number]
    assert told.result.code == 0, told.result.err
    assert told.stats["source"] == "bpf"
    doubts = ("lost", "missed", "gaps", "late", "undecodable")
    assert {name: told.stats[name] for name in doubts} == dict.fromkeys(doubts, 0)
    assert not any("uncertain" in record["proctree"] for record in told.records)


@every_tracer
def test_each_tells_every_exec_with_its_name_arguments_and_parent(
    watched: Watched, number: int
) -> None:
    told = watched.told[number].of_spawned("exec")
    assert sorted(_what(record["process"]) for record in told) == sorted(
        (one.pid, one.name, [*watched.spawners[one.parent_pid].args_of(one)], one.parent_pid)
        for one in watched.truth
    )


@every_tracer
def test_each_tells_every_end_with_its_status(watched: Watched, number: int) -> None:
    told = watched.told[number].of_spawned("exit")
    assert sorted((*_what(r["process"]), r["process"]["exit_code"]) for r in told) == sorted(
        (
            one.pid,
            one.name,
            [*watched.spawners[one.parent_pid].args_of(one)],
            one.parent_pid,
            os.waitstatus_to_exitcode(one.status),
        )
        for one in watched.truth
    )


@every_tracer
def test_each_tells_every_birth_with_its_creator(watched: Watched, number: int) -> None:
    told = watched.told[number].of_spawned("fork")
    creators = [(r["process"]["pid"], r["proctree"]["creator"]["pid"]) for r in told]
    assert sorted(creators) == sorted((one.pid, one.parent_pid) for one in watched.truth)


def test_all_tell_the_same_of_the_same_processes(watched: Watched) -> None:
    """But for when: each reads the clock itself."""
    first, *others = [
        sorted(_lasting(record) for kind in ("fork", "exec", "exit") for record in of(kind))
        for of in (told.of_spawned for told in watched.told)
    ]
    assert len(first) == 3 * COUNT
    for other in others:
        assert other == first


def _what(process: dict[str, Any]) -> tuple[int, str, list[str], int]:
    return process["pid"], process["name"], process["args"], process["parent"]["pid"]


def _lasting(record: dict[str, Any]) -> str:
    process, proctree = record["process"], record["proctree"]
    times = ("start", "end")
    kept = {name: value for name, value in process.items() if name not in times}
    starts = [proctree["start_time_ns"], proctree["chain"]]
    return json.dumps([record["event"]["action"], kept, starts])
