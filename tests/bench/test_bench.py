"""The benchmark itself: what it writes, and what it does when something in it fails."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.program import PROGRAM

ROOT = Path(__file__).parents[2]
LIB = ROOT / "scripts" / "bench" / "lib"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the benchmark needs root")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(LIB / "bench.py"), *words]
    # Where the package is not installed, its sources are used.
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=env)


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Run a few cheap rows; return what was written as JSON and as markdown."""
    directory = tmp_path_factory.mktemp("bench")
    files = ["--json", str(directory / "json"), "--markdown", str(directory / "md")]
    rows = ["--row", "yardstick", "memory", "children", "gaps"]
    program = script(directory / "program", f'exec {shlex.join(PROGRAM)} "$@"')
    done = run("--quick", "--program", program, *files, *rows)
    assert done.returncode == 0, done.stderr
    return read(directory / "json"), (directory / "md").read_text()


def test_each_row_has_figures_and_none_has_failed(measured: tuple[dict[str, Any], str]) -> None:
    rows = {row["name"]: row for row in measured[0]["rows"]}
    assert set(rows) == {"yardstick", "memory", "children", "gaps"}
    for row in rows.values():
        assert row["status"] == "ok"
        assert row["figures"]
        for figure in row["figures"]:
            assert figure["samples"], figure
            assert min(figure["samples"]) <= figure["median"] <= max(figure["samples"])


def test_what_was_measured_is_described(measured: tuple[dict[str, Any], str]) -> None:
    machine = measured[0]["machine"]
    assert machine["kernel"].startswith(os.uname().release)
    assert machine["program"].startswith("proctree-bpf ")
    assert set(machine["peers"]) == {"bpftrace", "forkstat", "strace", "psutil", "bpfcc-tools"}


def test_the_markdown_is_one_table_with_a_line_per_figure(
    measured: tuple[dict[str, Any], str],
) -> None:
    results, text = measured
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, rule, *rest = lines
    assert {line.count("|") for line in lines} == {9}
    assert header.startswith("| row | case | median |")
    assert set(rule) <= set("|-: ")
    assert len(rest) == sum(len(row["figures"]) for row in results["rows"])


def test_a_ratio_says_to_what(measured: tuple[dict[str, Any], str]) -> None:
    (children,) = (row for row in measured[0]["rows"] if row["name"] == "children")
    ratios = [figure for figure in children["figures"] if figure["ratios"]]
    assert ratios
    assert all(figure["beside"] for figure in ratios)


def test_a_row_that_fails_is_said_to_and_the_others_go_on(tmp_path: Path) -> None:
    program = script(tmp_path / "broken", "echo it is broken >&2", "exit 70")
    out = tmp_path / "json"
    words = ["--row", "command", "yardstick", "--program", program, "--json", str(out)]
    done = run("--quick", *words)
    assert done.returncode == 1, done.stderr
    command, yardstick = read(out)["rows"]
    assert (command["name"], command["status"]) == ("command", "FAILED")
    assert "it is broken" in command["reason"]
    assert (yardstick["name"], yardstick["status"]) == ("yardstick", "ok")
    assert "| command | FAILED |" in done.stdout


def test_a_row_that_there_is_not_is_wrong_usage() -> None:
    assert run("--row", "nonesuch").returncode == 2


def test_rows_that_take_too_long_are_given_up(lib: Any) -> None:
    bench, rows, context = lib("bench"), lib("rows"), lib("context")

    def endless(_bench: Any) -> Any:
        while True:
            pass
        yield

    row = rows.Row("endless", "", endless, quick_s=1, full_s=1)
    directory = Path("/nonexistent")
    result = bench.measure(
        row, context.Bench("", "", directory, directory, is_quick=True), left_s=10
    )
    assert result.status == "FAILED"
    assert "not done within 1 s" in result.reason


def test_a_loss_without_a_word_is_called_one(lib: Any) -> None:
    loss_note = lib("sustained_load").loss_note
    assert loss_note(3, 3) == "all that are missing"
    assert loss_note(4, 3) == "all that are missing, and 1 of others"
    assert loss_note(2, 3) == "1 ARE MISSING WITHOUT A WORD"


def test_what_a_tool_tells_is_judged_against_what_was_spawned(lib: Any) -> None:
    spawner_load, tools, slowdown = lib("spawner_load"), lib("compared_tools"), lib("slowdown")
    place = Path("/there")
    spawned = [spawner_load.Spawned(n, 100 + n, n << 8, 7) for n in range(4)]
    right = [
        tools.Report(100, "exec", "name-0", ["/there/name-0", "bench", "0"], 7),
        tools.Report(100, "exit", code=0),
        tools.Report(101, "exit", "name-1", code=1),
        tools.Report(102, "exit", "name-1", code=9),
        tools.Report(999, "exec", "name-1"),
    ]
    assert slowdown.completeness(spawned, right, place) == {
        "right name": 50.0,
        "right arguments": 25.0,
        "right creator": 25.0,
        "right end": 50.0,
        "records with a wrong name": 1.0,
    }


def test_what_was_compiled_is_aside_for_a_cold_start_and_back_afterwards(
    lib: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    startup = lib("startup")
    kept, never_there = tmp_path / "kept", tmp_path / "never-there"
    kept.mkdir()
    (kept / "program").write_text("compiled before")
    monkeypatch.setattr(startup, "COMPILED", (kept, never_there))
    with startup.nothing_compiled():
        assert not kept.exists()
        kept.mkdir()
        (kept / "program").write_text("compiled meanwhile")
    assert (kept / "program").read_text() == "compiled before"
    assert list(tmp_path.iterdir()) == [kept]


def test_a_shape_that_takes_too_long_is_given_up_and_said_to_be(
    lib: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "src")
    first, *rest = lib("scaling").by_size("children of one", [600, 700], "", 0.0)
    assert not rest
    assert first.samples == []
    assert "given up after 0.0 s" in first.note
