"""A chain of processes that is deeper than anybody wants to read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from support.program import run

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEPTH = 300
_DIG = """
import os, sys
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
_AT_THE_BOTTOM = "os.execv('/bin/true', ['true', 'bottom'])"
_WAITING = "print(os.getpid(), flush=True); sys.stdin.read()"


def records(*options: str) -> list[dict[str, Any]]:
    """Trace a program that digs, and return what was written in JSON lines."""
    command = [sys.executable, "-I", "-S", "-c", _DIG + _AT_THE_BOTTOM, str(_DEPTH)]
    result = run("trace", "-f", "jsonl", "-q", *options, "-o", "/dev/stdout", "--", *command)
    assert result.code == 0, result.err
    return result.records()


@contextmanager
def at_the_bottom() -> Iterator[int]:
    """Have a process that is so deep while the block runs."""
    command = [sys.executable, "-I", "-S", "-c", _DIG + _WAITING, str(_DEPTH)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        yield int(program.stdout.readline())
        program.communicate()


@pytest.mark.parametrize(("options", "most"), [((), 64), (("--max-ancestors", "3"), 3)], ids=str)
def test_a_trace_writes_so_many_ancestors_and_marks_the_cut(
    options: tuple[str, ...], most: int
) -> None:
    written = records(*options, "-e", "exec,exit")
    assert len(written) > _DEPTH
    told = {(len(r["proctree"]["chain"]), "chain_truncated" in r["proctree"]) for r in written}
    assert max(length for length, _ in told) == most
    (bottom,) = (
        r
        for r in written
        if r["process"]["args"] == ["true", "bottom"] and r["event"]["action"] == "exec"
    )
    assert len(bottom["proctree"]["chain"]) == most
    assert bottom["proctree"]["chain_truncated"] is True


def test_a_filter_sees_all_that_is_not_shown() -> None:
    name = re.escape("import os, sys")
    options = ("--max-ancestors", "0", "--ancestor-regex", name, "--name", "true", "-e", "exec")
    (bottom,) = records(*options)
    assert bottom["process"]["args"] == ["true", "bottom"]
    assert bottom["proctree"]["chain"] == []


def test_the_query_is_cut_as_the_trace_is() -> None:
    with at_the_bottom() as pid:
        text = run("chain", str(pid)).out.rstrip("\n").split(";")
        few = run("chain", str(pid), "--max-ancestors", "2").out.rstrip("\n").split(";")
        listed = json.loads(run("chain", str(pid), "-f", "json", "--max-ancestors", "2").out)
        whole = run("chain", str(pid), "--max-ancestors", "100000").out
    assert (len(text), text[-1]) == (66, "…")
    assert (len(few), few[-1]) == (4, "…")
    assert [entry.get("chain_truncated", False) for entry in listed] == [False, False, True]
    assert whole.count(";") > _DEPTH
    assert "…" not in whole


def test_a_tree_has_no_ancestors_to_cut() -> None:
    result = run("trace", "-f", "tree", "--max-ancestors", "3")
    assert result.code == 2
    assert "--max-ancestors has no effect with -f tree" in result.sentence()


def test_every_end_has_its_chain_even_if_the_dead_are_not_remembered() -> None:
    busy = "timeout 3 sh -c 'while :; do /bin/true; done' || :"
    result = run(
        "trace", "-f", "jsonl", "-q", "--ttl", "0", "-e", "exit", "-o", "/dev/stdout",
        "--", "sh", "-c", busy,
    )  # fmt: skip
    ends = [record for record in result.records() if record["event"]["action"] == "exit"]
    assert len(ends) > 100
    assert [record["process"]["pid"] for record in ends if not record["proctree"]["chain"]] == []
