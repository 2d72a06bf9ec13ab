"""What ``doctor`` finds: a verdict, and what would mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended. Only a source that receives nothing is a FAIL that counts."""

    PASS = "PASS"  # noqa: S105 - a verdict
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, and what mends it if it is not PASS."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""
    seconds: float | None = None


def passed(check: str, detail: str) -> Finding:
    """Return a finding of which nothing is to be mended."""
    return Finding(check, Verdict.PASS, detail)
