"""How something that failed is told: what, at which step, how to do it again, and the log."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[3]

UNABLE = 77
TOO_SLOW = 75
"""The time was over before the end, and nothing had failed by then."""
_TAIL = 12


class FailedError(Exception):
    """A step that failed, with the file that tells more, where there is one."""

    def __init__(self, step: str, reason: str, log: Path | None = None) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason
        self.log = log
        self.preparing = False
        """What was to be tested could not be had."""
        self.slow = False
        """There was no end within the time allowed."""

    def told(self, subject: str, again: str) -> str:
        """Return what a person needs to go on from here."""
        lines = [f"FAILED {subject} at: {self.step}", f"  {self.reason}", f"  again: {again}"]
        if self.log is not None:
            lines.append(f"  log:   {self.log.relative_to(ROOT)}")
        return "\n".join(lines)


def late(step: str, reason: str, log: Path) -> FailedError:
    """Return the failure to end in time."""
    error = FailedError(step, reason, log)
    error.slow = True
    return error


def status(faults: bool, unable: bool, slow: bool) -> int:  # noqa: FBT001 - said by name
    """Return the exit status; ``unable`` and ``slow`` say that each fault is no worse."""
    if not faults:
        return 0
    return UNABLE if unable else TOO_SLOW if slow else 1


@contextmanager
def preparing() -> Iterator[None]:
    """Mark what fails inside as a failure to get what was to be tested."""
    try:
        yield
    except FailedError as error:
        error.preparing = True
        raise


def run(step: str, log: Path, command: Sequence[str | Path], *, limit_s: float = 900) -> None:
    """Run a command, its words and output appended to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with log.open("ab") as out:
        out.write(f"+ {shlex.join(words)}\n".encode())
        out.flush()
        try:
            status = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=limit_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise late(step, f"no end after {limit_s:.0f} s: {words[0]}", log) from None
    if status:
        raise FailedError(step, f"exit status {status}: {words[0]}\n{tail(log)}", log)


def tail(log: Path) -> str:
    """Return the end of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL:]
    return "\n".join(f"  | {line}" for line in lines)
