"""The process that watches, seen from outside: asked, measured and ended."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drift import Told
from proc_looks import memory
from running_tool import last_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WATCHING = Path(__file__).with_name("watching.py")
_FLAGS = ["-s", "-B", *(["-E"] if sys.flags.ignore_environment else [])]
_PATIENCE_S = 60.0


class TracerEndedError(Exception):
    """It ended before its time; the text says how."""


class Tracer:
    """A collector in a process of its own, below ``before``; its ``pid`` is the innermost one.

    Raises:
        TracerEndedError: it did not start.

    """

    def __init__(self, churned: str, before: Sequence[str], err: Path) -> None:
        self._err = err
        with err.open("wb") as stderr:
            # Ctrl-C is for us: in a session of its own it does not hear of it.
            self._process = subprocess.Popen(
                [*before, sys.executable, *_FLAGS, str(_WATCHING), churned],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            hello = self._next_line()
        except BaseException:
            self.kill()
            raise
        self.pid = int(hello["pid"])
        self.source = str(hello["source"])

    def ask(self, question: str) -> Any:
        """Return its answer: ``figures``, or ``stop``, which are the last figures.

        Raises:
            TracerEndedError: it has ended, or does not answer.

        """
        stdin = self._process.stdin
        if stdin is None:
            raise TracerEndedError("it was never started")
        with suppress(BrokenPipeError):  # why is told where its answer is missing
            stdin.write(f"{question}\n".encode())
            stdin.flush()
        return self._next_line()

    def living(self) -> Told:
        """Return who lives in its tree.

        Raises:
            TracerEndedError: see ``ask``.

        """
        subprocess.run(
            ["true"], check=False
        )  # so that there is something to tell on a quiet machine
        answer = self.ask("living")
        return Told({(pid, ticks) for pid, ticks in answer["living"]}, answer["until_s"])

    def _next_line(self) -> Any:
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], _PATIENCE_S)[0]:
            raise TracerEndedError(f"it has not answered for {_PATIENCE_S:.0f} s")
        line = stdout.readline()
        if not line:
            status = self._process.wait(_PATIENCE_S)
            raise TracerEndedError(f"it ended with status {status}: {last_line(self._err)}")
        return json.loads(line)

    def memory(self) -> tuple[int, int]:
        """Return the bytes of its resident memory: now, and at its highest."""
        return memory(self.pid)

    def kill(self) -> None:
        """End it, if it is still there; what ends with its stdin, ends by itself."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            self._process.wait(_PATIENCE_S / 4)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()


@contextmanager
def tracing(churned: str, before: Sequence[str], err: Path) -> Iterator[Tracer]:
    """Have a tracer at work; it is gone in the end, whatever happens."""
    tracer = Tracer(churned, before, err)
    try:
        yield tracer
    finally:
        tracer.kill()
