"""A random family under the ancestor, and another that is not, while both CPUs are busy."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from support.program import Result, json_lines, run, tracing
from support.random_family import Events, RandomFamily, events_of
from support.spawner import Spawner, unique

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.actor import Helpers

_SIZE = 300
_ALL = ("-f", "jsonl", "-e", "fork,exec,exit")
_FOREVER = 10_000_000
# What the noise left in the buffers is read to the end, at some 20 000 events a second.
_PATIENCE_S = 80.0


@contextmanager
def noise(helpers: Helpers, directory: Path) -> Iterator[None]:
    """Two spawners that have nothing to do with it keep both CPUs busy."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    spawners = [
        Spawner(helpers, directory, unique(f"noise-{cpu}"), _FOREVER, cpu=cpu) for cpu in cpus
    ]
    for spawner in spawners:  # busy, but not to the harm of who watches
        os.setpriority(os.PRIO_PROCESS, spawner.pid, 10)
    try:
        yield
    finally:
        spawned = [spawner.stop() for spawner in spawners]
    assert all(spawned)


def run_families(helpers: Helpers, directory: Path, name: str, seed: int) -> Events:
    """Run two families of that name, one after the other, and one of another at once."""
    with noise(helpers, directory):
        other = RandomFamily(helpers, directory, "unrelated", _SIZE, seed + 1)
        truth = RandomFamily(helpers, directory, name, _SIZE, seed).finish()
        truth |= RandomFamily(helpers, directory, name, _SIZE, seed + 2).finish()
        other.finish()
    return truth


def check(result: Result, truth: Events) -> None:
    assert result.code == 0, result.err
    assert "nothing lost" in result.err
    told = events_of(json_lines(result.out))
    assert told.execs == truth.execs
    assert told.forks == truth.forks
    assert told.exits == truth.exits


@pytest.mark.parametrize("where", ["user", "kernel"])
@pytest.mark.parametrize("seed", [11, 22])
def test_what_is_told_is_what_ran_under_the_ancestor(
    helpers: Helpers, tmp_path: Path, where: str, seed: int
) -> None:
    name = f"agent-{seed}"
    stats_file = tmp_path / "stats"
    options = ["--ancestor", name, "--filter-in", where, "--stats-file", str(stats_file)]
    with tracing(*_ALL, *options, "--perf-pages", "2048") as trace:
        truth = run_families(helpers, tmp_path, name, seed)
        check(trace.stop(patience_s=_PATIENCE_S), truth)
    stats = json.loads(stats_file.read_text())
    if where == "kernel":
        assert stats["kernel_filter"]["times_on"] >= 1
        assert stats["dropped_in_kernel"] > 0
        assert stats["kernel_filter"]["given_up"] is None
    else:
        assert stats["kernel_filter"] is None


def test_both_ways_tell_the_same(helpers: Helpers, tmp_path: Path) -> None:
    """Where nothing happens at the same time, record for record; but for their own clocks."""
    options = [*_ALL, "--ancestor", "agent-calm"]
    with (
        tracing(*options, "--filter-in", "user") as by_user,
        tracing(*options, "--filter-in", "kernel") as by_kernel,
    ):
        RandomFamily(helpers, tmp_path, "unrelated", 100, 4, calm=True).finish()
        truth = RandomFamily(helpers, tmp_path, "agent-calm", _SIZE, 5, calm=True).finish()
        told = []
        for trace in (by_user, by_kernel):
            result = trace.stop()
            check(result, truth)
            told.append(json_lines(result.out))
    assert_same(*told)


_OUTER = 'sh -c "$0" "$1" "$2" & echo $!; read line; /bin/true; echo acted; wait; exit 0'
_INNER = 'for n in 1 2; do read line <"$1"; "$0" $n; echo ran; done; exit 0'


def test_an_ancestor_that_does_something_else_is_shown_as_before(tmp_path: Path) -> None:
    """Its start was known by the tick from /proc, and is now known by the nanosecond."""
    wanted, fifo = tmp_path / "wanted-one", tmp_path / "fifo"
    wanted.symlink_to("/bin/true")
    os.mkfifo(fifo)
    with subprocess.Popen(
        ["sh", "-c", _OUTER, _INNER, wanted, fifo],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as outer:
        assert outer.stdin is not None
        assert outer.stdout is not None
        assert outer.stdout.readline().strip().isdigit()
        options = [*_ALL, "--ancestor", wanted.name]
        with (
            tracing(*options, "--filter-in", "user") as by_user,
            tracing(*options, "--filter-in", "kernel") as by_kernel,
        ):
            fifo.write_text("go\n")
            assert outer.stdout.readline() == "ran\n"
            outer.stdin.write("go\n")
            outer.stdin.flush()
            assert outer.stdout.readline() == "acted\n"
            fifo.write_text("go\n")
            assert outer.stdout.readline() == "ran\n"
            told = [json_lines(trace.stop().out) for trace in (by_user, by_kernel)]
    assert_same(*told)
    chains = [record["proctree"]["chain"] for record in told[0]]
    assert len(chains) == 4
    for chain in chains:
        assert chain == chains[0]
        assert chain[1]["pid"] == outer.pid


def assert_same(*told: list[dict[str, Any]]) -> None:
    """Compare one by one: of two long lists pytest takes minutes to show the difference."""
    for records in itertools.zip_longest(*told):
        one, other = map(_without_clocks, records)
        assert one == other


_SCRIPT = "sleep $0; for n in 1 2 3 4 5; do (/bin/true $n; exit $n); done; sleep 0.1 & exit 4"
_NAPS = ("1", "4", "16")  # in which the kernel takes over


def _run_under_noise(
    helpers: Helpers, directory: Path, where: str, nap: str
) -> tuple[Counter[tuple[Any, ...]], dict[str, Any]]:
    """Trace a command beside a spawner; return what was told, and the statistics."""
    out, stats = directory / "out", directory / "stats"
    files = ("-o", str(out), "--stats-file", str(stats))
    with noise(helpers, directory):
        command = ("sh", "-c", _SCRIPT, nap)
        result = run(
            "trace", *_ALL, *files, "--filter-in", where, "--perf-pages", "2048", "--", *command
        )
    assert result.code == 4, result.err
    processes = [(r["event"]["action"], r["process"]) for r in json_lines(out.read_text())]
    told = Counter((kind, *p.get("args", ()), p.get("exit_code")) for kind, p in processes)
    return told, json.loads(stats.read_text())


def test_of_a_command_the_kernel_leaves_out_what_the_command_did_not_start(
    helpers: Helpers, tmp_path: Path
) -> None:
    """And what is told is the same as where all of it comes here."""
    for nap in _NAPS:
        by_kernel, stats = _run_under_noise(helpers, tmp_path, "kernel", nap)
        assert stats["lost"] == 0
        if stats["kernel_filter"]["times_on"]:
            break
    assert stats["kernel_filter"] == {"times_on": 1, "fallbacks": {}, "given_up": None}
    assert stats["dropped_in_kernel"] > 100
    by_user, stats = _run_under_noise(helpers, tmp_path, "user", nap)
    assert (stats["lost"], stats["kernel_filter"]) == (0, None)
    assert by_kernel == by_user
    assert by_kernel["exec", "/bin/true", "3", None] == 1
    assert by_kernel.total() == 2 + 3 + 5 * (2 + 3) + 3


def _without_clocks(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out when a record was made, and the wall clock as each program read it."""
    if record is None:
        return None
    del record["@timestamp"]
    for name in ("start", "end"):
        record["process"].pop(name, None)
    record["process"].get("parent", {}).pop("start", None)
    return record
