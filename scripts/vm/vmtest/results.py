"""What came of the tests: read from what pytest_reporter.py wrote, counted and judged."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHOWN = 8


class PhaseReport(NamedTuple):
    """What one phase of a test came to."""

    test: str
    outcome: str
    """passed, failed, skipped or open (failed as expected); empty if there is more to come."""
    seconds: float
    reason: str


@dataclass
class Count:
    """How the tests of a group ended."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    open: int = 0
    seconds: float = 0.0

    def add(self, report: PhaseReport) -> None:
        """Count a phase of a test."""
        self.seconds += report.seconds
        if report.outcome:
            setattr(self, report.outcome, getattr(self, report.outcome) + 1)

    def cell(self) -> str:
        """Return this as a cell of a table."""
        if self == Count():
            return "n/a"
        words = [f"{self.passed} ok"]
        for number, word in ((self.failed, "FAILED"), (self.skipped, "skip"), (self.open, "open")):
            if number:
                words.append(f"{number} {word}")
        return f"{', '.join(words)}, {self.seconds:.0f} s"


def faults(
    counts: Mapping[str, Count], reports: Iterable[PhaseReport], *, whole: bool
) -> list[str]:
    """Return what is wrong: groups with failures, and the tests that failed.

    If the whole selection was run, a group of which nothing passed is wrong too.
    """
    found = []
    for name, count in counts.items():
        if count.failed:
            found.append(f"{count.failed} failed in group {name}")
        elif whole and not count.passed:
            found.append(f"nothing passed in group {name}")
    failed = [each for each in reports if each.outcome == "failed"]
    found += [f"{each.test}: {_first_line(each.reason)}" for each in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        found.append(f"and {len(failed) - _SHOWN} more tests: see the log")
    return found


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def read_reports(text: str) -> list[PhaseReport]:
    """Return the phases of the tests, as far as they were written."""
    found = []
    for line in text.splitlines():
        with suppress(ValueError, TypeError):  # the last line of a guest that crashed
            word, _, rest = line.partition(" ")
            if word == "test":
                found.append(PhaseReport(*json.loads(rest)))
    return found
