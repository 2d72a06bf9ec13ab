"""One short forest for each source, watched by the real program and the real library."""

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
from support.waiting import PATIENCE_S

_ROOT = Path(__file__).parents[2]
_MAIN = _ROOT / "scripts" / "accuracy_lib" / "start.py"
_QUESTIONS = ("pairs", "names", "meanwhile")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="growing forests needs root")


def run(directory: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    program = directory / "program"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    found = directory / "json"
    fixed = ["--program", str(program), "--json", str(found), "--size", "80", "--seed", "7"]
    command = [sys.executable, "-B", str(_MAIN), *fixed, "--questions", "10000", *words]
    # Where the package is not installed, its sources are used.
    env = {**os.environ, "PYTHONPATH": str(_ROOT / "src")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=3 * PATIENCE_S, check=False, env=env
    )
    assert done.returncode in (0, 1), done.stderr
    assert found.exists(), done.stderr
    (one,) = json.loads(found.read_bytes())["runs"]
    return done, one


def assert_never_wrong(one: dict[str, Any], *rows: str) -> None:
    """Assert that nothing is wrong, and that of these rows something was told."""
    for name, row in one["rows"].items():
        assert row["wrong"] == 0, (name, row)
    for name in rows:
        assert one["rows"][name]["right"] > 0, name
    for name in _QUESTIONS:
        answers = one["questions"][name]
        assert (answers["wrong_yes"], answers["wrong_no"]) == (0, 0), answers["examples"]


@pytest.mark.parametrize("words", [(), ("--", "CMD")], ids=["beside", "command"])
def test_bpf_tells_all_and_nothing_else(tmp_path: Path, words: tuple[str, ...]) -> None:
    done, one = run(tmp_path, *words)
    assert done.returncode == 0, done.stdout
    for name, row in one["rows"].items():
        assert row["precision"] == row["recall"] == 1.0, (name, row)
    assert_never_wrong(one)
    assert one["questions"]["pairs"]["unknown"] == 0
    assert one["repaired_s"] is not None, one["living_wrong"]


def test_under_a_filter_bpf_tells_what_it_asks_for(tmp_path: Path) -> None:
    _, one = run(tmp_path, "--filter", "ancestor=elm")
    kinds = ("processes", "forks", "execs", "exits")
    assert_never_wrong(one, *kinds, "creators", "parents", "exit statuses", "chains", "order")
    assert all(one["rows"][kind]["absent"] == 0 for kind in kinds)


def test_the_connector_tells_each_birth_and_end_and_nothing_that_it_does_not_know(
    tmp_path: Path,
) -> None:
    _, one = run(tmp_path, "--source", "proc-connector")
    kinds = ("processes", "forks", "execs", "exits")
    assert_never_wrong(one, *kinds, "creators", "exit statuses", "times", "order")
    assert all(one["rows"][kind]["absent"] == 0 for kind in kinds)


def test_the_walker_tells_what_it_sees_and_nothing_else(tmp_path: Path) -> None:
    _, one = run(tmp_path, "--source", "proc-walker")
    assert_never_wrong(one, "processes", "forks", "exits", "order")
    assert one["rows"]["exit statuses"]["right"] == 0


def test_the_page_keeps_a_section_for_each_way_and_replaces_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n## other\n\nkept\n\n## proc-walker\n\noutdated\n")
    done, _ = run(tmp_path, "--source", "proc-walker", "--markdown", str(page))
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert "kept" in text
    assert "outdated" not in text
    assert text.count("## proc-walker\n") == 1
    assert "sudo scripts/accuracy --size 80 --seed 7" in text
    assert done.stdout.splitlines()[0] == "proc-walker"
