"""Runs the tests on each kernel or userland, one after the other, and reports what came of it."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from vmtest.failure import OUTDATED, SIGNALLED, TOO_SLOW, UNABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Outcome(Protocol):
    """What came of one of them."""

    @property
    def faults(self) -> Sequence[str]:
        """What went wrong, each a text that says all."""

    @property
    def unable(self) -> bool:
        """Whether it could not be had, so that nothing was tested."""

    @property
    def slow(self) -> bool:
        """Whether its tests did not come to their end, and none had failed by then."""

    @property
    def outdated(self) -> Sequence[str]:
        """What has another version than supported.py says."""


T = TypeVar("T")
AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)


class InterruptedRunError(BaseException):
    """A signal ended the tests of one of them, in which something had failed already."""

    def __init__(self, outcome: Outcome, status: int) -> None:
        super().__init__(status)
        self.outcome = outcome
        self.status = status


class Interruption(NamedTuple):
    """Which of them a signal ended, and the exit status that says which signal."""

    name: str
    status: int


def run_each(
    names: Iterable[T], run: Callable[[T], AnyOutcome]
) -> tuple[list[AnyOutcome], Interruption | None]:
    """Run one after the other; a signal that ends it does not take what was seen before."""
    outcomes: list[AnyOutcome] = []
    for name in names:
        try:
            outcomes.append(run(name))
        except InterruptedRunError as end:
            done = [*outcomes, end.outcome]
            return done, Interruption(str(name), end.status)  # type: ignore[return-value]  # run's own
        except (KeyboardInterrupt, SystemExit) as end:
            return outcomes, Interruption(str(name), signal_status(end))
    return outcomes, None


def signal_status(end: BaseException) -> int:
    """Return the exit status for a signal that raised this."""
    if isinstance(end, SystemExit):
        return int(end.code or 0)
    return SIGNALLED + signal.SIGINT


def print_report(table: str, outcomes: Sequence[Outcome], interruption: Interruption | None) -> int:
    """Print what was seen; return the exit status."""
    sys.stdout.write(f"{table}\n")
    failed = [outcome for outcome in outcomes if outcome.faults]
    outdated = [line for outcome in outcomes for line in outcome.outdated]
    for fault in (fault for outcome in failed for fault in outcome.faults):
        sys.stdout.write(f"\n{fault}\n")
    for line in outdated:
        sys.stdout.write(f"\n{line}: update scripts/vm/vmtest/supported.py and the README\n")
    if interruption is not None:
        sys.stdout.write(f"\nended by a signal while testing {interruption.name}\n")
    return exit_status(failed, interruption, outdated=bool(outdated))


def exit_status(
    failed: Sequence[Outcome], interruption: Interruption | None, *, outdated: bool
) -> int:
    """Return the exit status; what failed for a lesser reason than a test's does not hide one."""
    if any(not (outcome.unable or outcome.slow) for outcome in failed):
        return 1
    if interruption is not None:
        return interruption.status
    if failed:
        return UNABLE if all(outcome.unable for outcome in failed) else TOO_SLOW
    return OUTDATED if outdated else 0


def version_mismatch(what: str, supported: str, found: str) -> list[str]:
    """Return one line if a version is not of the series that is supported, else none."""
    if f"{found}.".startswith(f"{supported}."):
        return []
    return [f"{what} is {found}, and not {supported}"]
