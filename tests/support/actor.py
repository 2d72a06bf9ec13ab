"""Runs the helper programs of the kernel tests and reads what they report."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from support.proc_truth import Identity
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

_PID_TAKEN = 75  # TAKEN in helpers/identity.c
_MOST_TAKEN = 50
_PIPE_BYTES = 1 << 20  # all reports fit, so that a helper never waits for its reader


@dataclass(frozen=True, slots=True)
class Report:
    """One line of a helper: which part it plays, and what it says of itself."""

    role: str
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def who(self) -> Identity:
        """The process that the report is about."""
        return Identity(self.said["pid"], self.said["start"])

    @property
    def pid(self) -> int:
        """Its PID."""
        return int(self.said["pid"])

    @property
    def ppid(self) -> int:
        """The kernel's parent when it reported."""
        return int(self.said["ppid"])

    @property
    def status(self) -> int:
        """The wait status that its parent got."""
        return int(self.said["status"])


@dataclass(frozen=True, slots=True)
class Helpers:
    """The compiled helper programs."""

    directory: Path
    actor: Path
    quit: Path
    holder: Path
    spawner: Path
    clan: Path


class Actor:
    """A running helper. Its children and theirs hold its pipes, so the end of its output
    says that all of them are gone; leaving the block ends its input, which ends them.
    """

    def __init__(
        self, argv: Sequence[str | bytes | Path], *, executable: bytes | None = None, **popen: Any
    ) -> None:
        self.popen = subprocess.Popen(
            argv,
            executable=executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pipesize=_PIPE_BYTES,
            process_group=0,
            **popen,
        )
        self.pid = self.popen.pid
        self.reports: list[Report] = []
        self._partial = b""
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish()

    def await_report(self, role: str, count: int = 1) -> Report:
        """Return the latest of ``count`` reports in this role, once they have come."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.all_of(role)) < count:
            if self._ended:
                raise AssertionError(f"ended without saying {role!r}: {self.reports}")
            self._read(deadline)
        return self.all_of(role)[count - 1]

    def all_of(self, role: str) -> list[Report]:
        """Return the reports in this role that were read so far."""
        return [report for report in self.reports if report.role == role]

    def release(self) -> None:
        """Let those go that hold."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()

    def finish(self) -> int:
        """Let everybody go, read all reports, and return the wait status as Popen does."""
        self.release()
        deadline = time.monotonic() + PATIENCE_S
        try:
            while not self._ended:
                self._read(deadline)
        except BaseException:
            os.killpg(self.pid, signal.SIGKILL)  # our own group: we have not waited for it yet
            raise
        finally:
            assert self.popen.stdout is not None
            self.popen.stdout.close()
            self.popen.wait(PATIENCE_S)
        return self.popen.returncode

    def _read(self, deadline: float) -> None:
        assert self.popen.stdout is not None
        fd = self.popen.stdout.fileno()
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"no more in {PATIENCE_S} s after {self.reports}")
        chunk = os.read(fd, 1 << 16)
        self._ended = not chunk
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self.reports.append(Report(said.pop("role"), said))


class Stage:
    """Starts helpers, each by what it does."""

    def __init__(self, helpers: Helpers) -> None:
        self.helpers = helpers

    def play(self, case: str, *args: str | bytes | Path, **popen: Any) -> Actor:
        """Start the actor with a case; its cases are in helpers/*.c."""
        return Actor([self.helpers.actor, case, *args], **popen)

    def play_with_pid(self, role: str, case: str, *args: str | bytes | Path) -> Actor:
        """Start a case that needs a certain PID, again if another process has taken it.

        Returns once it has reported in this role.
        """
        taken = 0
        while True:
            actor = self.play(case, *args)
            try:
                actor.await_report(role)
            except AssertionError:
                assert (actor.finish(), taken < _MOST_TAKEN) == (_PID_TAKEN, True)
                taken += 1
            else:
                return actor

    def played(self, case: str, *args: str | bytes | Path, **popen: Any) -> Actor:
        """Run the actor with a case to its end."""
        with self.play(case, *args, **popen) as actor:
            pass
        assert actor.popen.returncode == 0, actor.reports
        return actor

    def hold(
        self,
        *argv: str | bytes | Path,
        program: bytes | None = None,
        **popen: Any,
    ) -> Actor:
        """Start the holder, or another ``program`` that becomes it, and wait for its report."""
        executable = program if program is not None else os.fsencode(self.helpers.holder)
        actor = Actor(argv, executable=executable, **popen)
        try:
            actor.await_report("holding")
        except BaseException:
            actor.popen.kill()
            actor.finish()
            raise
        return actor
