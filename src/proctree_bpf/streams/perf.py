"""One drain of the perf buffers -> events, gaps and a watermark. Pure."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.sample_decoder import ALWAYS_TOLD, DECODERS, HEADER_KEY, KINDS
from proctree_bpf.core.events import Gap
from proctree_bpf.errors import DecodeError
from proctree_bpf.streams.loss_accounting import LossAccounting
from proctree_bpf.streams.misses import READINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf.codecs.inputs import CpuCounters, Drain
    from proctree_bpf.core.compact import AnyEvent


MISSES_ASKED_EVERY_NS = 1_000_000_000


class PerfStream:
    """Decodes drains and accounts for what they should have held."""

    def __init__(self, source: str, cpus: int, started_ns: int, copies: int = 1) -> None:
        """Begin; each program is attached as ``copies``, which count their own samples."""
        self._accounting = LossAccounting(source, KINDS * copies, cpus, started_ns)
        # By CPU, and by version and kind as they lie in a header: what counts it, what decodes it.
        self._known = [
            {
                header: (lanes[kind], decoder)
                for header, (kind, decoder) in DECODERS.items()
                if kind < len(lanes)
            }
            for lanes in self._accounting.lanes
        ]
        self._source = source
        self._missed = 0
        # When for misses, the last times. One more than are needed: what is taken together comes
        # with one time, so these may be later than when the source asked, but not by another turn.
        self._asked_ns = deque([started_ns], maxlen=READINGS + 1)
        self.undecodable = 0

    def feed(self, drain: Drain) -> tuple[list[AnyEvent], list[Gap], int]:
        """Return the events in order of arrival, the gaps found, and the watermark in ns."""
        events: list[AnyEvent] = []
        known = self._known
        for cpu, data in drain.samples:
            try:
                lane, decoder = known[cpu][data[HEADER_KEY]]
                seq, event = decoder(data)
            except (LookupError, DecodeError, struct.error):
                self.undecodable += 1
                self._accounting.unreadable(cpu)
                continue
            if seq == lane.accounted + 1:
                lane.accounted, lane.last_ns = seq, event.timestamp_ns
            else:
                kind, _ = DECODERS[data[HEADER_KEY]]
                self._accounting.received(cpu, kind, seq, event.timestamp_ns)
            events.append(event)
        watermark_ns = self._accounting.settle(drain.taken_ns, drain.counters)
        return events, self._accounting.take_gaps() + self._new_misses(drain), watermark_ns

    def outstanding(self, counters: Sequence[CpuCounters]) -> int:
        """Count the samples that were begun by then and have neither come nor been given up."""
        return sum(
            max(0, begun - lane.accounted)
            for lanes, counted in zip(self._accounting.lanes, counters, strict=False)
            for lane, begun in zip(lanes, counted.begun, strict=True)
        )

    def _new_misses(self, drain: Drain) -> list[Gap]:
        new, since_ns = drain.missed - self._missed, self._asked_ns[0]
        if drain.taken_ns >= self._asked_ns[-1] + MISSES_ASKED_EVERY_NS:  # as the source asks
            self._asked_ns.append(drain.taken_ns)
        if new <= 0:
            return []
        self._missed = drain.missed
        until_ns = self._accounting.newest_ns(drain.taken_ns)
        return [Gap(until_ns, self._source, new, from_ns=since_ns, until_ns=until_ns)]

    def summary(self) -> dict[str, Any]:
        """Return received and lost samples, in all, by CPU and by kind."""
        per_cpu = self._accounting.summary()
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
            "lost": sum(counts["lost"] for counts in kinds.values()) + self._missed,
            "missed": self._missed,
            "undecodable": self.undecodable,
            "by_kind": kinds,
            "by_cpu": [
                {"cpu": cpu, **{kind: lanes[kind] for kind in shown}}
                for cpu, lanes in enumerate(per_cpu)
            ],
        }
