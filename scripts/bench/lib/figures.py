"""What was measured: figures with their spread, and how they look as markdown and as JSON. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OK, FAILED, NOT_RUN = "ok", "FAILED", "not run"
HEADER = ("row", "case", "median", "spread", "ratio", "its spread", "to", "note")
_ALIGN = ("---", "---", "---:", "---:", "---:", "---:", "---", "---")
_MANY = 100


class NotRunError(Exception):
    """A row, or a tool in it, cannot be had on this machine; the text says why."""


@dataclass(slots=True)
class Figure:
    """One thing that was measured, several times.

    ``ratios`` are to what ``beside`` names, each to what was measured beside it.
    """

    case: str
    unit: str = ""
    samples: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    beside: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it with its medians."""
        return {
            "case": self.case,
            "unit": self.unit,
            "median": _median(self.samples),
            "samples": self.samples,
            "ratio": _median(self.ratios),
            "ratios": self.ratios,
            "beside": self.beside,
            "note": self.note,
        }


@dataclass(slots=True)
class Result:
    """What came of one row."""

    name: str
    title: str
    status: str = OK
    reason: str = ""
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it with all its samples."""
        return {
            "name": self.name,
            "title": self.title,
            "status": self.status,
            "reason": self.reason,
            "seconds": round(self.seconds, 1),
            "figures": [figure.as_json() for figure in self.figures],
        }


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def grouped(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,.0f}".replace(",", " ")


def number(value: float) -> str:
    """Return three figures of a number, and no more than are in front of the point."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= _MANY or value == int(value):
        return grouped(value)
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def _cells(values: Sequence[float], unit: str) -> tuple[str, str]:
    if not values:
        return "", ""
    middle = number(statistics.median(values))
    spread = f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""
    return f"{middle} {unit}".rstrip(), spread


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def lines_of(result: Result) -> list[str]:
    """Return a row's lines of the table."""
    lines = [
        _row((
            result.name, figure.case, *_cells(figure.samples, figure.unit),
            *_cells(figure.ratios, ""), figure.beside, figure.note,
        ))
        for figure in result.figures
    ]  # fmt: skip
    if result.status != OK:
        lines.append(_row((result.name, result.status, "", "", "", "", "", result.reason)))
    return lines


def markdown(machine: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the machine and one table of all rows."""
    facts = [f"- {name}: {_fact(value)}" for name, value in machine.items()]
    titles = [f"- `{result.name}` ({result.seconds:.0f} s): {result.title}" for result in results]
    table = [_row(HEADER), _row(_ALIGN)]
    for result in results:
        table += lines_of(result)
    return "\n".join([*facts, "", *titles, "", *table]) + "\n"


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return str(value)
