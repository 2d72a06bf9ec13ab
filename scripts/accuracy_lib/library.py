"""The library at work beside the program: a process that is asked (``ask.py``)."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import running_tool
from figures import NotRunError
from running_tool import last_line
from truth import held_between

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plan import Plan
    from truth import Life

    from sources import Source

_ASK = Path(__file__).parent / "ask.py"
_SHARED = Path(running_tool.__file__).parent
_PATIENCE_S = 300.0


class Library:
    """A library that traces."""

    def __init__(self, plan: Plan, source: Source, directory: Path) -> None:
        self._plan, self._source, self._directory = plan, source, directory
        self._err = directory / "library-err"
        words = [plan.python, "-B", str(_ASK), source.name, str(plan.perf_pages), plan.filter]
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True,
                env={**os.environ, "PYTHONPATH": str(_SHARED)},
            )  # fmt: skip

    def await_ready(self) -> None:
        """Wait until it traces.

        Raises:
            NotRunError: it ended instead.

        """
        assert self.process.stdout is not None  # noqa: S101 - for the type
        if self.process.stdout.readline() != "ready\n":
            raise NotRunError(f"the library does not trace: {last_line(self._err)}")

    def look_at(self, root: int) -> None:
        """Say which forest grows."""
        assert self.process.stdin is not None  # noqa: S101 - for the type
        self.process.stdin.write(f"root {root}\n")
        self.process.stdin.flush()

    def ask(self, lives: list[Life]) -> dict[str, Any]:
        """Ask about all pairs; return what it answered.

        Raises:
            RuntimeError: it has failed.

        """
        numbers = {life: number for number, life in enumerate(lives)}
        had = [[_text(change.value) for change in life.names] or [""] for life in lives]
        within_ns = self._source.looks_within_ns
        task = {
            "start_ns": self._source.start_ns,
            "seed": self._plan.seed,
            "questions": self._plan.questions,
            "lives": [
                [life.pid, life.born_from_ns, life.born_to_ns,
                 -1 if life.creator is None else numbers[life.creator]]
                for life in lives
            ],
            "names": [[_text(name) for name in _last_names(life, within_ns)] for life in lives],
            "former_names": had,
            "asked_names": sorted({"nobody", *(name for names in had for name in names)} - {""}),
        }  # fmt: skip
        path = self._directory / "questions"
        path.write_text(json.dumps(task), "ascii")
        out, _ = self.process.communicate(f"{path}\n", _PATIENCE_S)
        if self.process.returncode:
            raise RuntimeError(f"the library failed: {last_line(self._err)}")
        answers: dict[str, Any] = json.loads(out)
        return answers

    def end(self) -> None:
        """End it, if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _last_names(life: Life, within_ns: int) -> list[bytes]:
    """Return the last name, or all that a source may have seen when it looked last."""
    if not life.names:
        return [b""]
    if not within_ns:
        return [life.names[-1].value]
    return held_between(life.names, life.end_to_ns - within_ns, life.end_to_ns)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


@contextmanager
def library(plan: Plan, source: Source, directory: Path) -> Iterator[Library]:
    """Have a library trace."""
    running = Library(plan, source, directory)
    try:
        running.await_ready()
        yield running
    finally:
        running.end()
