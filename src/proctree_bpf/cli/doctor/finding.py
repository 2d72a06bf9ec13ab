"""What a check of ``doctor`` finds: a verdict, and what would mend it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How a check ended. Only a source that receives nothing is a FAIL that counts."""

    PASS = "PASS"  # noqa: S105 - a verdict
    WARN = "WARN"
    FAIL = "FAIL"


class Finding(NamedTuple):
    """The result of a check, and what mends it if it is not PASS."""

    verdict: Verdict
    detail: str
    remedy: str = ""
    seconds: float | None = None


def passed(detail: str) -> Finding:
    """Return a finding of which nothing is to be mended."""
    return Finding(Verdict.PASS, detail)


def warned(detail: str, remedy: str) -> Finding:
    """Return a finding of what something does not work without."""
    return Finding(Verdict.WARN, detail, remedy)


def failed(detail: str, remedy: str) -> Finding:
    """Return a finding of what BPF or every source does not work without."""
    return Finding(Verdict.FAIL, detail, remedy)
