"""A BPF source that a test polls, and the events of processes on one CPU."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Self

from proctree_bpf.codecs.sample_decoder import KINDS
from proctree_bpf.sources.system.clock import boottime_ns
from support.spawner import Spawner
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf import BpfSource, Gap, ProcEvent
    from support.actor import Helpers


def events_until_now(source: BpfSource) -> list[ProcEvent]:
    """Poll until all that has happened by now was told; return what was told."""
    now_ns = boottime_ns()
    events: list[ProcEvent] = []

    def is_told() -> bool:
        delivery = source.poll()
        events.extend(delivery.events)
        return delivery.watermark_ns > now_ns

    wait_until("all that happened", is_told)
    return events


def begun_by_kind(source: BpfSource) -> dict[str, int]:
    """Return what the BPF programs say they sent or failed to send, by kind."""
    program = source._program
    assert program is not None
    counters = program.counters()
    every = len(KINDS)  # of each copy of the programs
    return {kind: sum(sum(c.begun[n::every]) for c in counters) for n, kind in enumerate(KINDS)}


class PolledSource:
    """A source, everything that it told, and how many records its programs began."""

    def __init__(self, source: BpfSource, helpers: Helpers, directory: Path) -> None:
        self.source = source
        self.events: list[ProcEvent] = []
        self.gaps: list[Gap] = []
        self._watermark_ns = 0
        self._helpers = helpers
        self._directory = directory

    def __enter__(self) -> Self:
        self.source.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def poll(self) -> None:
        delivery = self.source.poll()
        self.events += delivery.events
        self.gaps += delivery.gaps
        self._watermark_ns = delivery.watermark_ns

    def settle(self) -> None:
        """Poll until all that has happened by now was told, or is known to be lost."""
        now_ns = boottime_ns()

        def is_told() -> bool:
            self.poll()
            return self._watermark_ns > now_ns

        wait_until("all that happened", is_told)

    def spawn(self, token: str, count: int, cpu: int) -> set[int]:
        """Run short processes on a CPU without polling; return their PIDs."""
        spawner = Spawner(self._helpers, self._directory, token, count, cpu=cpu)
        return {spawned.pid for spawned in spawner.finish()}

    def kinds(self, pids: set[int]) -> Counter[type[ProcEvent]]:
        """Return how many events of which kind were told of these processes."""
        return Counter(type(event) for event in self.events if event.key.pid in pids)

    def lost(self, cpu: int) -> int:
        """Return how many records of a CPU are told to be lost."""
        return sum(gap.count or 0 for gap in self.gaps if gap.cpu == cpu)

    def balances(self) -> None:
        """Fail unless each record that was begun has come or is told to be lost."""
        self.source.stop()
        self.settle()
        stats, begun = self.source.stats(), begun_by_kind(self.source)
        for kind, counts in stats["by_kind"].items():
            assert counts["received"] + counts["lost"] == begun[kind], kind
        assert stats["lost"] == sum(gap.count or 0 for gap in self.gaps)
