"""Counts what has arrived from each CPU: where the watermark stands, and what is lost. Pure.

The BPF side counts a sample as begun *before* it stamps and submits it, and counts
a failed submit afterwards. So whoever takes a time T, then reads the counters, then
drains the buffers, knows every sample stamped before T, and can tell a sample that is
lost from one that is still on its way. Counters are per CPU and kind of sample,
because one BPF program never runs twice at once on one CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from proctree_bpf.core.events import Gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf.codecs.inputs import CpuCounters

# A sample is on its way for microseconds; a virtual CPU can be stolen for longer.
# What has not come after this time will not come: it is counted as lost.
STUCK_AFTER_NS = 2_000_000_000

# bpf_ktime_get_boot_ns() reads the timekeeper without its lock, so it can be off by a
# clock adjustment's worth against clock_gettime() (kernel/time/timekeeping.c,
# __ktime_get_fast_ns). Far more than any such error, far less than a drain interval.
CLOCK_SLACK_NS = 100_000


# A msgspec.Struct is made faster, but its attributes are set at a fifth of the speed.
@dataclass(slots=True)
class Lane:
    """What has come of one kind of sample from one CPU."""

    accounted: int = 0  # the highest sequence number received or given up
    failures_explained: int = 0
    last_ns: int = 0
    again: int = 0  # received though they had been given up
    lost: int = 0
    awaited: int = 0  # the sequence number that the last settling waited for
    awaited_since_ns: int = 0


def _is_stuck(lane: Lane, now_ns: int) -> bool:
    """Tell whether one and the same sample has been awaited for too long."""
    if lane.awaited != lane.accounted + 1:
        lane.awaited = lane.accounted + 1
        lane.awaited_since_ns = now_ns
    return now_ns - lane.awaited_since_ns > STUCK_AFTER_NS


class LossAccounting:
    """Accounts for the samples of one source that counts as described above.

    If several programs count samples of one kind, the kind is there once for each.
    """

    def __init__(self, source: str, kinds: Sequence[str], cpus: int, started_ns: int) -> None:
        self._source = source
        self._kinds = tuple(kinds)
        self.lanes = [[Lane(last_ns=started_ns) for _ in kinds] for _ in range(cpus)]
        self._complete_ns = [started_ns] * cpus
        self._unreadable = [0] * cpus
        self._gaps: list[Gap] = []
        self._lost_until_ns = 0

    def received(self, cpu: int, kind: int, seq: int, time_ns: int) -> None:
        """Account for one received sample.

        For the next one that its lane expects, setting the lane's ``accounted`` and
        ``last_ns`` is all that this does.
        """
        lane = self.lanes[cpu][kind]
        missing = seq - lane.accounted - 1
        if missing > 0:
            self._lose(cpu, kind, missing, time_ns)
        elif missing < 0:
            lane.again += 1
        lane.accounted = max(lane.accounted, seq)
        lane.last_ns = time_ns

    def unreadable(self, cpu: int) -> None:
        """Account for a sample that came but could not be read, so nobody knows its number."""
        if cpu < len(self._unreadable):
            self._unreadable[cpu] += 1

    def settle(self, taken_ns: int, counters: Sequence[CpuCounters]) -> int:
        """Account for a drain that followed these counters, taken after ``taken_ns``.

        Returns the watermark: every sample stamped before it has arrived or is lost.
        """
        self._lost_until_ns = 0
        for cpu, counted in enumerate(counters):
            lanes = range(len(counted.begun))
            settled = [self._settle_lane(cpu, kind, counted, taken_ns) for kind in lanes]
            if all(settled):
                self._complete_ns[cpu] = taken_ns
        return min(self._complete_ns) - CLOCK_SLACK_NS

    def _settle_lane(self, cpu: int, kind: int, counted: CpuCounters, taken_ns: int) -> bool:
        lane = self.lanes[cpu][kind]
        outstanding = counted.begun[kind] - lane.accounted
        if outstanding <= 0:
            return True
        failed = counted.failed[kind] - lane.failures_explained + self._unreadable[cpu]
        if failed < outstanding and not _is_stuck(lane, taken_ns):
            return False
        self._lose(cpu, kind, outstanding, self.newest_ns(taken_ns))
        lane.accounted += outstanding
        return True

    def newest_ns(self, taken_ns: int) -> int:
        """Return a time that is after all that was received when these losses are found.

        They may have been begun after ``taken_ns``, until the counters were read; but then all
        that their processes had done before was received.
        """
        if not self._lost_until_ns:
            newest_ns = max(lane.last_ns for lanes in self.lanes for lane in lanes)
            self._lost_until_ns = max(taken_ns, newest_ns + 1)
        return self._lost_until_ns

    def _lose(self, cpu: int, kind: int, count: int, until_ns: int) -> None:
        lane = self.lanes[cpu][kind]
        unreadable = min(count, self._unreadable[cpu])
        self._unreadable[cpu] -= unreadable
        lane.failures_explained += count - unreadable
        lane.lost += count
        self._gaps.append(
            Gap(
                timestamp_ns=until_ns,
                source=self._source,
                count=count,
                kind=self._kinds[kind],
                cpu=cpu,
                # A CPU is complete up to a time when all from before it has come.
                from_ns=max(lane.last_ns, self._complete_ns[cpu] - CLOCK_SLACK_NS),
                until_ns=until_ns,
            )
        )
        lane.last_ns = until_ns

    def take_gaps(self) -> list[Gap]:
        """Return and forget the gaps found since the last call, one per CPU and kind."""
        merged: dict[tuple[int | None, str | None], Gap] = {}
        for gap in self._gaps:
            first = merged.setdefault((gap.cpu, gap.kind), gap)
            if first is not gap:
                count = (first.count or 0) + (gap.count or 0)
                merged[gap.cpu, gap.kind] = msgspec.structs.replace(
                    gap, count=count, from_ns=first.from_ns
                )
        self._gaps = []
        return list(merged.values())

    def summary(self) -> list[dict[str, dict[str, int]]]:
        """Return received and lost samples, by CPU and kind."""
        found = []
        for lanes in self.lanes:
            counts = {kind: {"received": 0, "lost": 0} for kind in self._kinds}
            for kind, lane in zip(self._kinds, lanes, strict=True):
                counts[kind]["received"] += lane.accounted - lane.lost + lane.again
                counts[kind]["lost"] += lane.lost
            found.append(counts)
        return found
