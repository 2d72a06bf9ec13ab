"""Tries each of what is supported, and judges what came of it."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from failure import OUTDATED, SIGNALLED, TOO_SLOW, UNABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Outcome(Protocol):
    """What came of one of them."""

    @property
    def faults(self) -> Sequence[str]:
        """What went wrong, each told in full."""

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
Tried = TypeVar("Tried", bound=Outcome)


class EndedError(BaseException):
    """A signal ended the test of one of them, in which something had failed already."""

    def __init__(self, outcome: Outcome, status: int) -> None:
        super().__init__(status)
        self.outcome = outcome
        self.status = status


class Cut(NamedTuple):
    """Where a signal ended it all, and the exit status that tells which."""

    name: str
    status: int


def try_each(names: Iterable[T], attempt: Callable[[T], Tried]) -> tuple[list[Tried], Cut | None]:
    """Try one after the other; a signal that ends it does not take what was seen before."""
    outcomes: list[Tried] = []
    for name in names:
        try:
            outcomes.append(attempt(name))
        except EndedError as end:
            return [*outcomes, end.outcome], Cut(str(name), end.status)  # type: ignore[list-item]  # attempt's own
        except (KeyboardInterrupt, SystemExit) as end:
            return outcomes, Cut(str(name), signalled(end))
    return outcomes, None


def signalled(end: BaseException) -> int:
    """Return the exit status that tells of a signal."""
    if isinstance(end, SystemExit):
        return int(end.code or 0)
    return SIGNALLED + signal.SIGINT


def conclude(table: str, outcomes: Sequence[Outcome], cut: Cut | None) -> int:
    """Print what was seen; return the exit status."""
    sys.stdout.write(f"{table}\n")
    failed = [outcome for outcome in outcomes if outcome.faults]
    outdated = [line for outcome in outcomes for line in outcome.outdated]
    for fault in (fault for outcome in failed for fault in outcome.faults):
        sys.stdout.write(f"\n{fault}\n")
    for line in outdated:
        sys.stdout.write(f"\n{line}: update scripts/vm/lib/supported.py and the README\n")
    if cut is not None:
        sys.stdout.write(f"\nended by a signal while testing {cut.name}\n")
    return status(failed, cut, outdated=bool(outdated))


def status(failed: Sequence[Outcome], cut: Cut | None, *, outdated: bool) -> int:
    """Return the exit status; what failed for a lesser reason than a test's does not hide one."""
    if any(not (outcome.unable or outcome.slow) for outcome in failed):
        return 1
    if cut is not None:
        return cut.status
    if failed:
        return UNABLE if all(outcome.unable for outcome in failed) else TOO_SLOW
    return OUTDATED if outdated else 0


def differs(what: str, supported: str, found: str) -> list[str]:
    """Return one line if a version is not of the series that is supported, else none."""
    if f"{found}.".startswith(f"{supported}."):
        return []
    return [f"{what} is {found}, and not {supported}"]
