"""What is measured every few seconds, and the figures that come of it. Pure."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from figures import number

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOUR_S = 3600.0
_MB = 1e6
_SHORTEST_TREND_S = 60.0
_SHORTEST_S = 0.1
_TOO_LATE = "records too late, or a loss not mended yet"


@dataclass(slots=True)
class Sample:
    """What there was at one moment, ``at_s`` seconds after the tracer had started.

    Counts are of all since then. ``lag_…`` is of the records since the sample before: how long
    after the event they were handed out. ``only_…`` are counted once what was on its way had
    arrived, which took ``settled_s``; 0 if it had not within a limit (not ``compared``).
    """

    at_s: float
    rss_bytes: int
    peak_bytes: int
    spawned: int
    events: int
    ended: int
    uncertain: int
    lag_worst_s: float
    lag_mean_s: float
    only_tree: int
    only_proc: int
    settled_s: float
    compared: bool
    gaps: int
    lost: int
    lost_of_churned: int
    late: int
    repairs: int
    tree: int
    cpu_s: float


class Happened(NamedTuple):
    """A disturbance: when, its name, and why not if it could not be."""

    at_s: float
    name: str
    trouble: str = ""


class Row(NamedTuple):
    """A line of the table."""

    what: str
    value: float
    unit: str = ""
    note: str = ""

    @property
    def shown(self) -> str:
        """The value with its unit."""
        return f"{number(self.value)} {self.unit}".rstrip()


@dataclass(slots=True)
class Outcome:
    """All that one run found.

    ``last`` are the counts after the tracer had worked off all that it had received.
    """

    asked: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    spawned: int = 0
    failure: str | None = None

    @property
    def missing(self) -> int:
        """How many that were spawned were not told to have ended."""
        return max(0, self.spawned - int(self.last["ended"])) if self.last else 0

    @property
    def untold(self) -> int:
        """How many of these no loss that was told accounts for."""
        return max(0, self.missing - int(self.last["lost_of_churned"])) if self.last else 0

    @property
    def drift(self) -> int:
        """How many lived by the tree or ``/proc`` alone, at the last sample."""
        return self.samples[-1].only_tree + self.samples[-1].only_proc if self.samples else 0

    @property
    def is_good(self) -> bool:
        """Whether the tracer ran to the end, lost nothing silently and has the tree of /proc."""
        if self.failure or not self.samples or not self.samples[-1].compared:
            return False
        return not (self.untold or self.drift)

    def rows(self) -> list[Row]:
        """Return the table."""
        if not self.samples:
            return []
        return [*_pace(self), *_memory(self.samples), *_lag(self.samples), *self._truth()]

    def _truth(self) -> list[Row]:
        samples = self.samples
        worst = max(samples, key=lambda one: one.only_tree + one.only_proc)
        last = self.last or asdict(samples[-1])
        not_compared = sum(not one.compared for one in samples)
        rows = [
            Row("only in the tree, at worst", worst.only_tree, note=_when(worst)),
            Row("only in /proc, at worst", worst.only_proc, note=_when(worst)),
            Row("the same at the end", self.drift),
            Row("samples not compared", not_compared, note=_TOO_LATE if not_compared else ""),
            Row("until both agree, at worst", max(one.settled_s for one in samples), "s"),
            Row("gaps", last["gaps"]),
            Row("records said to be lost", last["lost"]),
            Row("behind the watermark", last["late"]),
            Row("records called uncertain", last["uncertain"]),
            Row("repairs", last["repairs"]),
        ]
        if self.last:  # it has worked off all that it had received
            rows += [
                Row("ends not told", self.missing, note=f"of {self.spawned} spawned"),
                Row("of these, without a word", self.untold),
            ]
        return rows

    def as_json(self, machine: dict[str, Any]) -> dict[str, Any]:
        """Return all of it."""
        return {
            "machine": machine,
            "asked": self.asked,
            "is_good": self.is_good,
            "failure": self.failure,
            "conditions": self.conditions,
            "refused": self.refused,
            "happened": [one._asdict() for one in self.happened],
            "figures": {row.what: {"value": row.value, "unit": row.unit} for row in self.rows()},
            "samples": [asdict(one) for one in self.samples],
        }


FROM_TRACER = tuple(
    one.name
    for one in fields(Sample)
    if one.name
    not in {
        *("at_s", "rss_bytes", "peak_bytes", "spawned"),
        *("only_tree", "only_proc", "settled_s", "compared"),
    }
)
"""The members of a sample that the tracer says itself."""


def _when(sample: Sample) -> str:
    return f"after {sample.at_s:.0f} s" if sample.only_tree or sample.only_proc else ""


def rates(samples: Sequence[Sample]) -> list[float]:
    """Return the events per second up to each sample from the one before, or the start."""
    found = []
    before_s, before = 0.0, 0
    for one in samples:
        found.append((one.events - before) / max(_SHORTEST_S, one.at_s - before_s))
        before_s, before = one.at_s, one.events
    return found


def _pace(outcome: Outcome) -> list[Row]:
    last = outcome.samples[-1]
    seconds = max(_SHORTEST_S, last.at_s)
    saturated = outcome.asked.get("saturation_per_s")
    note = f"half of {number(saturated)}" if saturated else "as asked"
    return [
        Row("how long", seconds, "s", f"{len(outcome.samples)} samples"),
        Row("processes asked for", outcome.asked["rate"], "/s", note),
        Row("processes spawned", last.spawned / seconds, "/s"),
        Row("events told", last.events / seconds, "/s"),
        Row("its CPU", last.cpu_s / max(1, last.events) * 1e6, "µs/event"),
        Row("its CPU", last.cpu_s / seconds * 100, "% of one"),
    ]


def _memory(samples: Sequence[Sample]) -> list[Row]:
    later = samples[len(samples) // 2 :]
    rows = [
        Row("RSS at the start", samples[0].rss_bytes / _MB, "MB"),
        Row("RSS at the end", samples[-1].rss_bytes / _MB, "MB"),
        Row("RSS at its highest", samples[-1].peak_bytes / _MB, "MB"),
        Row("processes remembered", max(one.tree for one in samples)),
    ]
    if later[-1].at_s - later[0].at_s >= _SHORTEST_TREND_S:
        slope = statistics.linear_regression(
            [one.at_s / _HOUR_S for one in later], [one.rss_bytes / _MB for one in later]
        ).slope
        rows.insert(3, Row("RSS, over the second half", slope, "MB/h"))
    return rows


def _lag(samples: Sequence[Sample]) -> list[Row]:
    worst = max(samples, key=lambda one: one.lag_worst_s)
    return [
        Row("lag, of the median sample", statistics.median(one.lag_mean_s for one in samples), "s"),
        Row("lag, at worst", worst.lag_worst_s, "s", f"after {worst.at_s:.0f} s"),
    ]


def markdown(outcome: Outcome, machine: dict[str, Any]) -> str:
    """Return what was asked, what happened, and the table."""
    lines = [f"- {name}: {value}" for name, value in machine.items()]
    lines += [f"- with {what}" for what in outcome.conditions.values()]
    lines += [f"- {name} cannot be done here: {why}" for name, why in outcome.refused.items()]
    for one in outcome.happened:
        trouble = f", which failed: {one.trouble}" if one.trouble else ""
        lines.append(f"- after {one.at_s:.0f} s: {one.name}{trouble}")
    if outcome.failure:
        lines.append(f"- THE TRACER FAILED: {outcome.failure}")
    table = ["| what | value | note |", "| --- | ---: | --- |"]
    table += [f"| {row.what} | {row.shown} | {row.note} |" for row in outcome.rows()]
    return "\n".join([*lines, "", *table]) + "\n"
