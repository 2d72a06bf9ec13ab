"""One drain of the perf buffers -> events, gaps and a watermark. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from proctree_bpf.codecs.errors import DecodeError
from proctree_bpf.codecs.perf_records import ALWAYS_TOLD, KINDS, decode
from proctree_bpf.core.arrivals import Arrivals, CpuCounters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf.core.events import Gap, ProcEvent


class Drain(NamedTuple):
    """What was read at one moment, in this order: the clock, the counters, the records.

    ``taken_ns`` is CLOCK_BOOTTIME; ``counters`` has an entry per possible CPU;
    ``records`` are (CPU, bytes) in the order of arrival.
    """

    taken_ns: int
    counters: Sequence[CpuCounters]
    records: Sequence[tuple[int, bytes]]


class PerfStream:
    """Decodes drains and accounts for what they should have held."""

    def __init__(self, source: str, cpus: int, started_ns: int, copies: int = 1) -> None:
        """Begin; each program is attached as ``copies``, which count their own records."""
        self._lanes = len(KINDS) * copies
        self._arrivals = Arrivals(source, KINDS * copies, cpus, started_ns)
        self.undecodable = 0

    def feed(self, drain: Drain) -> tuple[list[ProcEvent], list[Gap], int]:
        """Return the events in order of arrival, the gaps found, and the watermark in ns."""
        events: list[ProcEvent] = []
        account = self._arrivals.record
        for cpu, data in drain.records:
            try:
                kind, seq, event = decode(data)
            except DecodeError:
                kind = self._lanes
            if kind >= self._lanes:
                self.undecodable += 1
                self._arrivals.unreadable(cpu)
                continue
            account(cpu, kind, seq, event.timestamp_ns)
            events.append(event)
        watermark_ns = self._arrivals.settle(drain.taken_ns, drain.counters)
        return events, self._arrivals.take_gaps(), watermark_ns

    def summary(self) -> dict[str, Any]:
        """Return received and lost records, in all, by CPU and by kind."""
        per_cpu = self._arrivals.summary()
        shown = [
            kind
            for kind in KINDS
            if kind in ALWAYS_TOLD or any(c[kind]["received"] or c[kind]["lost"] for c in per_cpu)
        ]
        kinds = {
            kind: {
                count: sum(lanes[kind][count] for lanes in per_cpu)
                for count in ("received", "lost")
            }
            for kind in shown
        }
        return {
            "received": sum(counts["received"] for counts in kinds.values()),
            "lost": sum(counts["lost"] for counts in kinds.values()),
            "undecodable": self.undecodable,
            "by_kind": kinds,
            "by_cpu": [
                {"cpu": cpu, **{kind: lanes[kind] for kind in shown}}
                for cpu, lanes in enumerate(per_cpu)
            ],
        }
