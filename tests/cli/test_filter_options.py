"""Filters on the command line: what cannot be meant is one sentence, and what is meant is done."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.program import run, tracing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--ancestor", ""], "'ancestor' needs a value"),
        (["--ancestor-pid", "0"], "needs a process id"),
        (["--pid", "9" * 5000], "needs a process id"),
        (["--line", "("], "needs a regular expression"),
        (["--min-age", "nan"], "needs a number of seconds"),
        (["--filter-in", "space", "--name", "x"], "'space' is not one of"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(words: Sequence[str], reason: str) -> None:
    assert reason in run("trace", *words).usage_error()


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--ancestor-pid", "4194303"], 1, "no process has PID 4194303 now"),
        (["--user", "root,nobody\x1b[2J"], 1, r"there is no user nobody\x1b[2J here"),
        (["--not-user", "no such user"], 1, "there is no user no such user here"),
        (["--cgroup", "../.."], 1, "there is no cgroup ../.."),
        (["--cgroup", "x" * 300], 1, "there is no cgroup xxx"),
        (["--name", "x", "--filter-in", "kernel"], 2, "--filter-in kernel is impossible"),
        (
            ["--ancestor", "x", "--filter-in", "kernel", "--source", "proc-walker"],
            69,
            "only bpf can filter in the kernel",
        ),
        (["--cgroup", "/", "--source", "proc-walker"], 69, "only bpf reports cgroups"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words: Sequence[str], code: int, reason: str) -> None:
    result = run("trace", "-d", "0", *words)
    assert result.code == code
    assert reason in result.sentence()


def test_a_path_stands_for_the_file_that_it_leads_to(tmp_path: Path) -> None:
    program, link = tmp_path / "program", tmp_path / "link"
    shutil.copy("/bin/true", program)
    link.symlink_to(program)
    with tracing("-f", "jsonl", "--ancestor-exe", str(link)) as trace:
        subprocess.run([program], check=True)
        records = trace.stop().records()
    assert [r["process"]["executable"] for r in records] == [str(program)] * 2


def test_in_the_root_cgroup_is_everything() -> None:
    with tracing("-f", "jsonl", "--cgroup", "/") as trace:
        subprocess.run(["true", "of the root"], check=True)
        records = trace.stop().records()
    assert any(r["process"]["args"] == ["true", "of the root"] for r in records)


def test_an_ancestor_inside_a_command_is_followed_with_all_between(tmp_path: Path) -> None:
    inner = tmp_path / "inner-one"
    shutil.copy("/bin/sh", inner)
    script = f"sleep 0.2; sh -c \"sh -c '{inner} -c /bin/true' & wait\"; true"
    result = run(
        "trace", "-f", "jsonl", "-o", "-", "--ancestor", "inner-one", "--", "sh", "-c", script
    )
    execs = [r["process"]["name"] for r in result.records() if r["event"]["action"] == "exec"]
    assert execs[:1] == ["inner-one"]
    assert "true" in execs
    assert os.fspath(inner) in result.out
