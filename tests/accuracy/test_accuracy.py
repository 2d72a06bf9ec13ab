"""One short forest for each source, watched by the real program and the real library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.program import PROGRAM

_ROOT = Path(__file__).parents[2]
_MAIN = _ROOT / "scripts" / "accuracy_lib" / "start.py"
_QUESTIONS = ("pairs", "names", "meanwhile")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="growing forests needs root")


def run(directory: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    program = directory / "program"
    program.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    found = directory / "json"
    fixed = ["--program", str(program), "--json", str(found), "--size", "80", "--seed", "7"]
    command = [sys.executable, "-B", str(_MAIN), *fixed, "--questions", "10000", *words]
    # Where the package is not installed, its sources are used.
    env = {**os.environ, "PYTHONPATH": str(_ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode in (0, 1), done.stderr
    (one,) = json.loads(found.read_bytes())["runs"]
    return done, one


def assert_never_wrong(one: dict[str, Any], *rows: str) -> None:
    for row in rows:
        assert one["rows"][row]["wrong"] == 0, (row, one["rows"][row])
        assert one["rows"][row]["right"] > 0, row


@pytest.mark.parametrize("words", [(), ("--", "CMD")], ids=["beside", "command"])
def test_bpf_tells_all_and_nothing_else(tmp_path: Path, words: tuple[str, ...]) -> None:
    done, one = run(tmp_path, *words)
    assert done.returncode == 0, done.stdout
    for name, row in one["rows"].items():
        assert row["precision"] == row["recall"] == 1.0, (name, row)
    for name in _QUESTIONS:
        answers = one["questions"][name]
        assert (answers["wrong_yes"], answers["wrong_no"]) == (0, 0), answers["examples"]
    assert one["questions"]["pairs"]["unknown"] == 0
    assert one["repaired_s"] is not None, one["living_wrong"]


def test_under_a_filter_bpf_tells_what_it_asks_for(tmp_path: Path) -> None:
    _, one = run(tmp_path, "--filter", "ancestor=elm")
    kinds = ("processes", "forks", "execs", "exits")
    assert_never_wrong(one, *kinds, "creators", "parents", "exit statuses", "chains", "order")
    assert all(one["rows"][kind]["absent"] == 0 for kind in kinds)


def test_the_connector_tells_each_birth_and_end(tmp_path: Path) -> None:
    _, one = run(tmp_path, "--source", "proc-connector")
    kinds = ("processes", "forks", "execs", "exits")
    assert_never_wrong(one, *kinds, "exit statuses", "times", "order")
    assert all(one["rows"][kind]["absent"] == 0 for kind in kinds)
    assert one["questions"]["pairs"]["wrong_yes"] == 0


def test_the_walker_invents_no_process_and_no_descent(tmp_path: Path) -> None:
    _, one = run(tmp_path, "--source", "proc-walker")
    assert_never_wrong(one, "processes", "forks", "exits", "order")
    assert one["rows"]["exit statuses"]["right"] == one["rows"]["exit statuses"]["wrong"] == 0
    pairs = one["questions"]["pairs"]
    assert (pairs["wrong_yes"], pairs["wrong_no"]) == (0, 0), pairs["examples"]


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
