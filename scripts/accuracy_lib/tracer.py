"""The real program at work: ``trace -f jsonl`` over a forest."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from running_tool import says_it_traces, tool
from told import Told, read_told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from plan import Plan
    from running_tool import Tool


class Tracer:
    """How the program is run, and what it wrote."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan = plan
        self._records, self._stats = directory / "records", directory / "stats"
        self._out, self._err = directory / "out", directory / "err"

    def command(self, *traced: str) -> list[str]:
        """Return the command, to trace everything or what is given."""
        plan = self._plan
        words = [plan.program, "trace", "-f", "jsonl", "-e", "fork,exec,exit",
                 "-o", str(self._records), "--stats-file", str(self._stats),
                 "--source", plan.source]  # fmt: skip
        for term in shlex.split(plan.filter):
            name, is_given, value = term.partition("=")
            words += [f"--{name}", value] if is_given else [f"--{name}"]
        if plan.perf_pages:
            words += ["--perf-pages", str(plan.perf_pages)]
        return [*words, "--", *traced] if traced else words

    @contextmanager
    def running(self, *traced: str) -> Iterator[Tool]:
        """Have it trace; if it is not told what, it does so when the block begins.

        Raises:
            NotRunError: it ended instead.

        """
        with tool(self.command(*traced), self._out, self._err) as running:
            if not traced:
                running.await_ready(says_it_traces(self._err))
            yield running

    def told(self, spawners: Iterable[int]) -> Told:
        """Return what it told; what these PIDs spawned is only counted."""
        with self._records.open(encoding="ascii") as lines:
            return read_told(lines, {str(pid) for pid in spawners})

    def stats(self) -> dict[str, Any]:
        """Return its statistics."""
        read: dict[str, Any] = json.loads(self._stats.read_bytes())
        return read

    def said(self) -> str:
        """Return its messages."""
        return self._err.read_text("utf-8", "replace")
