"""What failed: at which step and why, how to do it again, and the log that says more."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]

# Exit statuses; scripts/vm/ci-slice has them, too.
UNABLE = 77
"""What was to be tested could not be had."""
OUTDATED = 76
"""All passed, but not with the versions that supported.py lists."""
TOO_SLOW = 75
"""The time was over before the end, and nothing had failed by then."""
SIGNALLED = 128
"""To this, the number of the signal is added."""


class FailedError(Exception):
    """A step that failed, with the file that tells more, where there is one."""

    def __init__(self, step: str, reason: str, log: Path | None = None) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason
        self.log = log
        self.unable = False
        """What was to be tested could not be had."""
        self.slow = False
        """There was no end within the time allowed."""

    def report(self, subject: str, again: str) -> str:
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


def unable(step: str, reason: str) -> FailedError:
    """Return the failure to get what was to be tested from others."""
    error = FailedError(step, reason)
    error.unable = True
    return error


@contextmanager
def unexpected() -> Iterator[None]:
    """Turn what nobody thought of into a failure, so that it is told as one; others go on."""
    try:
        yield
    except FailedError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise FailedError("scripts/vm itself", f"{type(error).__name__}: {error}") from error
