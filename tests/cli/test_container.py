"""A container, with PID, mount and cgroup namespaces of its own: a source is right, or refused.

What is right is what the kernel says outside.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proctree_bpf import Answer, Collector
from support.proc_truth import identity, status_field
from support.program import PROGRAM, Result, actions, environment, json_lines, run, tracing
from support.refused_sources import ALL_AS_JSON, below, said
from support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.kernel

_UNSHARED = ["unshare", "--pid", "--mount", "--cgroup", "--fork", "--mount-proc"]
# Its first process is a shell, as in many containers, which waits for what it runs.
CONTAINER = [*_UNSHARED, "sh", "-c", '"$@"; exit $?', "first"]
_OUTSIDE = ["sleep", "0.41"]

# What the library answers of the first process, of itself and of a child that was born while it
# watched: whether each came from somebody with these names.
_ASK_BY_NAME = """
import json, os, subprocess, sys, time
from proctree_bpf import Collector, ProcessTree
answers = lambda tree, who: [tree.is_descendant(who, name).value for name in sys.argv[1:]]
with Collector() as live, subprocess.Popen(["sleep", "600"]) as born:
    until = time.monotonic() + 20
    while born.pid not in live.tree and time.monotonic() < until:
        time.sleep(0.01)
    told = [answers(live, pid) for pid in (1, os.getpid(), born.pid)]
    by_key = live.is_descendant(1, born.pid).value
    born.kill()
print(json.dumps([live.source_name, *told, answers(ProcessTree.from_proc(), 1), by_key]))
"""


class Inside(NamedTuple):
    """A process of a container: its PID there, and its start in ticks."""

    pid: int
    ticks: int


def inside(host_pid: int) -> Inside:
    return Inside(status_field(host_pid, "NSpid")[-1], identity(host_pid).ticks)


def output(*command: str) -> Any:
    """Return the JSON that a command writes."""
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Traced(NamedTuple):
    """What the walker told in a container, and what ran there."""

    result: Result
    shell: Inside
    sleep: Inside

    def of(self, who: Inside) -> list[dict[str, Any]]:
        return [r for r in self.result.records() if r["process"]["pid"] == who.pid]


@pytest.fixture(scope="module")
def traced() -> Traced:
    """Trace while a shell and its child run in the container, and others outside."""
    with tracing(*ALL_AS_JSON, before=CONTAINER) as trace:
        first = below(trace.pid)
        enter = ["nsenter", "--pid", "--mount", "--cgroup", "--target", str(first)]
        command = [*enter, "sh", "-c", "sleep 600 & read x; kill $!; wait; exit 7", "entered"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as entered:
            shell = _child_of(entered.pid)
            found = inside(shell), inside(_child_of(shell))
            subprocess.run(_OUTSIDE, check=True)
            wait_until("both are told of", lambda: '"args":["sleep","600"]' in trace.out())
        os.kill(below(first), signal.SIGINT)
        return Traced(trace.wait(PATIENCE_S), *found)


def _child_of(pid: int) -> int:
    return wait_until("it has a child", lambda: (child := below(pid)) != pid and child)


class TestRefusals:
    @pytest.mark.parametrize("source", ["bpf", "proc-connector"])
    def test_what_would_be_wrong_is_refused_with_a_sentence(self, source: str) -> None:
        result = run("trace", "-d", "0", "--source", source, before=CONTAINER)
        assert (result.code, result.out) == (69, "")
        sentence = result.sentence()
        assert "a container with PIDs of its own" in sentence
        assert "start the container with the host's PID namespace" in sentence

    def test_cgroups_are_not_asked_for_in_vain(self) -> None:
        """They are known to BPF alone."""
        words = ("trace", "-d", "0", "--source", "proc-walker", "--cgroup", "/")
        result = run(*words, before=CONTAINER)
        assert result.code != 0
        assert result.out == ""
        assert "only bpf reports cgroups" in result.sentence()

    def test_a_command_is_traced_by_what_is_left(self, tmp_path: Path) -> None:
        out = tmp_path / "records"
        until_told = f"""sleep 600 & until grep -q '"sleep","600"' {out}; do sleep 0.1; done"""
        command = ["sh", "-c", f"{until_told}; kill $!; wait; exit 7"]
        result = run("trace", "-f", "jsonl", "-o", str(out), "--", *command, before=CONTAINER)
        assert result.code == 7, result.err
        records = json_lines(out.read_text())
        *_, began, ended = [r for r in records if r["process"]["args"] == ["sleep", "600"]]
        assert actions([began, ended]) == ["exec", "exit"]
        assert began["process"]["parent"]["name"] == "sh"


class TestWalker:
    def test_it_takes_the_place_of_the_others_and_says_why(self, traced: Traced) -> None:
        assert traced.result.code == 0
        bpf, connector, start, *rest = said(traced.result)
        assert "container" in bpf
        assert "container" in connector
        assert "tracing with proc-walker" in start
        assert any("proc-walker cannot know" in line for line in rest)

    def test_processes_have_the_pids_and_the_starts_of_inside(self, traced: Traced) -> None:
        for who in (traced.shell, traced.sleep):
            records = traced.of(who)
            assert actions(records)[-2:] == ["exec", "exit"]
            for record in records:
                assert record["proctree"]["start_time_ns"] // 10_000_000 == who.ticks
                assert record["process"]["entity_id"].endswith(f"-{who.pid}-{who.ticks}")

    def test_parents_are_told_up_to_who_came_from_outside(self, traced: Traced) -> None:
        *_, exec_, exit_ = traced.of(traced.sleep)
        assert exec_["process"]["parent"]["pid"] == traced.shell.pid
        # Nobody can say whose child it was in the end, if the shell had ended by the same look.
        assert exit_["process"]["parent"] in (None, exec_["process"]["parent"])
        for record in (exec_, exit_):
            assert [link["pid"] for link in record["proctree"]["chain"]] == [traced.shell.pid]
        assert {r["process"]["parent"] and True for r in traced.of(traced.shell)} == {None}

    def test_who_runs_outside_is_not_told_of(self, traced: Traced) -> None:
        assert _OUTSIDE not in [r["process"]["args"] for r in traced.result.records()]


def test_queries_show_who_is_inside_and_nobody_else() -> None:
    found = output(*CONTAINER, *PROGRAM, "tree", "--format", "json")
    assert [(each["pid"], each["ppid"]) for each in found] == [(1, 0), (2, 1)]


def test_a_process_of_a_container_has_one_id_that_nobody_elsewhere_has() -> None:
    """PIDs and starts alone would be those of others: each container has a first process."""
    nested = " ".join(_UNSHARED)
    script = f"""ask() {{ "$@" chain 1 --format json; }}
        printf '['; ask "$@"; printf ,; ask "$@"; printf ,
        {nested} "$@" chain 1 --format json; printf ']'"""
    first, again, nested_first = output(*_UNSHARED, "sh", "-c", script, "first", *PROGRAM)
    (own,) = [
        each
        for each in output(*PROGRAM, "chain", str(os.getpid()), "--format", "json")
        if each["pid"] == os.getpid()
    ]
    ids = [each[0]["entity_id"] for each in (first, again, nested_first)]
    assert ids[0] == ids[1]
    places = {each.partition("-")[0] for each in (*ids, own["entity_id"])}
    assert len(places) == 3
    assert {len(place) for place in places} == {16}


def test_nobody_is_said_not_to_come_from_one_who_may_be_outside() -> None:
    source, first, itself, born, snapshot, by_key = output(
        *CONTAINER, sys.executable, "-c", _ASK_BY_NAME, "sh", Path(sys.executable).name, "nobody"
    )
    assert source == "proc-walker"
    assert first[0] == itself[0] == born[0] == snapshot[0] == "yes"
    assert first[1:] == snapshot[1:] == ["unknown", "unknown"]
    assert itself[2] == born[2] == "unknown"
    assert by_key == "no"


def test_nor_by_a_recording_of_it(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    recorded = run("trace", "-d", "0", "--record", str(path), before=CONTAINER)
    assert recorded.code == 0, recorded.err
    with Collector(source=f"replay:{path}") as replayed:
        assert replayed.wait(PATIENCE_S)
    assert replayed.is_descendant(1, "sh") is Answer.YES
    assert replayed.is_descendant(1, "nobody") is Answer.UNKNOWN
