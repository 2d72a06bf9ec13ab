"""Options that choose what a trace tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.program import PROGRAM, actions, of_process, run, tracing
from support.waiting import wait_until

pytestmark = pytest.mark.kernel


def spawn(*words: str) -> int:
    with subprocess.Popen(words) as process:
        pass
    return process.pid


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (["-e", "fork"], ["fork"]),
        (["-e", "exit, fork,exit"], ["fork", "exit"]),
        ([], ["exec", "exit"]),
    ],
    ids=["one", "two", "default"],
)
def test_only_the_chosen_events_are_told(chosen: list[str], expected: list[str]) -> None:
    with tracing("-f", "jsonl", *chosen) as trace:
        pid = spawn("true")
        result = trace.stop()
    assert actions(of_process(result.records(), pid)) == expected
    assert set(actions(result.records())) <= set(expected)


def test_a_limit_on_arguments_cuts_what_is_longer_and_nothing_else() -> None:
    with tracing("-f", "jsonl", "-e", "exec", "--max-args-bytes", "8") as trace:
        short, long = spawn("true", "ab"), spawn("true", "abcdef")
        records = trace.stop().records()
    (kept,), (cut,) = of_process(records, short), of_process(records, long)
    assert (kept["process"]["args"], kept["proctree"]["truncated"]) == (["true", "ab"], False)
    assert (cut["process"]["args"], cut["proctree"]["truncated"]) == (["true", "abc"], True)


def test_the_greatest_limit_on_arguments_keeps_32_kilobytes() -> None:
    argument = "x" * (32_768 - len("true") - 2)
    with tracing("-f", "jsonl", "-e", "exec", "--max-args-bytes", "32768") as trace:
        fits, too_long = spawn("true", argument), spawn("true", argument + "x")
        records = trace.stop().records()
    (kept,), (cut,) = of_process(records, fits), of_process(records, too_long)
    assert (kept["process"]["args"], kept["proctree"]["truncated"]) == (["true", argument], False)
    assert cut["proctree"]["truncated"] is True


def test_the_slowest_drain_still_tells_everything() -> None:
    with tracing("-f", "jsonl", "-e", "fork,exec,exit", "--interval", "1000") as trace:
        pid = spawn("true")
        records = trace.stop().records()
    assert actions(of_process(records, pid)) == ["fork", "exec", "exit"]


def test_what_too_small_a_buffer_loses_is_counted_and_told(tmp_path: Path) -> None:
    stats = tmp_path / "stats"
    options = ("--perf-pages", "1", "--interval", "1000", "--stats-file", str(stats))
    with tracing("-f", "jsonl", "-e", "fork,exec,exit", *options) as trace:
        for _ in range(200):
            os.waitpid(os.posix_spawnp("true", ["true"], os.environ), 0)
        result = trace.stop()
    assert result.code == 0
    gaps = [record for record in result.records() if record["event"]["action"] == "gap"]
    lost = json.loads(stats.read_text())["lost"]
    assert lost > 0
    assert sum(gap["proctree"]["gap"]["count"] for gap in gaps) == lost
    assert f"{lost} records LOST" in result.err
    assert "--perf-pages" in result.err.splitlines()[-1]


# A tracer with a child of its own: a thread of the same process spawns one now and then.
_BUSY_TRACER = """
import pathlib, subprocess, sys, threading
from proctree_bpf.cli import main
wanted, spawned = map(pathlib.Path, sys.argv.pop().split(":"))
def spawn():
    while not wanted.exists():
        threading.Event().wait(0.01)
    with subprocess.Popen(["true"]) as child:
        pass
    spawned.write_text(str(child.pid))
threading.Thread(target=spawn, daemon=True).start()
main()
"""


@pytest.mark.parametrize(
    ("option", "expected"),
    [("--exclude-self", []), ("--no-exclude-self", ["fork", "exec", "exit"]), (None, [])],
    ids=["excluded", "included", "default"],
)
def test_the_tracers_own_children(tmp_path: Path, option: str | None, expected: list[str]) -> None:
    wanted, spawned = tmp_path / "wanted", tmp_path / "spawned"
    options = [option] if option else []
    program = [sys.executable, "-P", "-c", _BUSY_TRACER]
    words = ("-f", "jsonl", "-e", "fork,exec,exit", *options, f"{wanted}:{spawned}")
    with tracing(*words, program=program) as trace:
        wanted.touch()
        own = int(wait_until("the tracer spawns", lambda: spawned.exists() and spawned.read_text()))
        other = spawn("true")
        records = trace.stop().records()
    assert actions(of_process(records, own)) == expected
    assert actions(of_process(records, other)) == ["fork", "exec", "exit"]


def test_an_output_file_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "events"
    target.write_text("an hour of evidence\n" * 1000)
    assert run("trace", "-d", "0", "-f", "jsonl", "-o", str(target)).code == 0
    assert "evidence" not in target.read_text()


def test_a_run_that_cannot_start_leaves_the_earlier_output_alone(tmp_path: Path) -> None:
    target = tmp_path / "events"
    target.write_text("an hour of evidence\n")
    before = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"]
    assert run("trace", "--source", "bpf", "-o", str(target), before=before).code == 77
    assert target.read_text() == "an hour of evidence\n"


def test_a_dash_is_stdout(tmp_path: Path) -> None:
    result = run("trace", "-d", "0", "-o", "-")
    assert result.code == 0
    assert result.out.startswith("TIME ")
    assert not (tmp_path / "-").exists()
    assert not os.path.lexists("-")


def test_what_others_wrote_to_stdout_before_stays(tmp_path: Path) -> None:
    target = tmp_path / "log"
    script = 'echo evidence; "$@" trace -d 0'
    with target.open("w") as log:
        subprocess.run(["sh", "-c", script, "sh", *PROGRAM], stdout=log, timeout=60, check=True)
    assert target.read_text().startswith("evidence\nTIME ")


def test_a_recording_is_a_regular_file_and_nothing_else_is_waited_for(tmp_path: Path) -> None:
    silent = tmp_path / "pipe"
    os.mkfifo(silent)
    for path in (silent, Path("/dev/zero"), Path("/dev/null"), tmp_path):
        result = run("trace", "--source", f"replay:{path}")
        assert result.code == 65, path
        assert str(path) in result.sentence()
