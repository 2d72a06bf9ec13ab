"""The process that is watched while it watches: a collector with its defaults, and who asks it.

Run by its path, with what all arguments of the churned processes begin with. It answers each
line of stdin with a line of JSON, and ends when stdin does: so nobody has to end it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from proctree_bpf import Collector
from proctree_bpf.sources.system import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf import ProcessEvent


class Ears:
    """What was told since the start, and how late."""

    def __init__(self, churned: bytes) -> None:
        self.events = self.ends = self.uncertain = 0
        self.until_ns = 0
        """When the last of it happened (CLOCK_BOOTTIME)."""
        self._worst_ns = self._late_ns = self._heard = 0
        self._churned = churned
        self._shift_ns = clock.shift().boottime_ns

    def hear(self, told: ProcessEvent) -> None:
        """Take one event."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._shift_ns
        self.until_ns = told.as_received.timestamp_ns
        late_ns = now_ns - self.until_ns
        self._worst_ns = max(self._worst_ns, late_ns)
        self._late_ns += late_ns
        self._heard += 1
        self.events += 1
        self.uncertain += told.uncertain
        if told.as_received.kind == "exit":
            self.ends += (told.process.args_raw or b"").startswith(self._churned)

    def lag(self) -> dict[str, float]:
        """Return the worst and the mean lag since the last time, in seconds."""
        worst_ns, late_ns, heard = self._worst_ns, self._late_ns, self._heard
        self._worst_ns = self._late_ns = self._heard = 0
        return {"lag_worst_s": worst_ns / 1e9, "lag_mean_s": late_ns / 1e9 / max(1, heard)}


def _figures(collector: Collector, ears: Ears) -> dict[str, Any]:
    """Return what there is to count; raise what ended the collector, if it has ended."""
    collector.wait(0)
    stats = collector.stats()
    kinds = stats.get("by_kind", {})
    return {
        # Not what answering costs, which is on this thread.
        "cpu_s": time.process_time() - time.thread_time(),
        "events": ears.events,
        "ended": ears.ends,
        "uncertain": ears.uncertain,
        "lost_of_churned": sum(kinds.get(kind, {}).get("lost", 0) for kind in ("exec", "exit")),
        **{name: stats[name] for name in ("gaps", "lost", "late", "repairs", "tree")},
        **ears.lag(),
    }


def _living(collector: Collector, ears: Ears) -> dict[str, Any]:
    # Read before the tree, which may know more by then, but not less. While the tree is uncertain,
    # there is no time until which all has been told.
    until_s = 0.0 if collector.tree.tracker.uncertain else ears.until_ns / 1e9
    keys = (process.key for process in collector.tree.find(live_only=True))
    return {"until_s": until_s, "living": [(key.pid, key.ticks) for key in keys]}


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Watch until stdin ends."""
    ears = Ears(os.fsencode(sys.argv[1]))
    collector = Collector(on_event=ears.hear)
    questions: dict[str, Callable[[], object]] = {
        "figures": lambda: _figures(collector, ears),
        "living": lambda: _living(collector, ears),
    }
    with collector:
        _answer({"pid": os.getpid(), "source": collector.source_name})
        for line in sys.stdin:
            if line.strip() == "stop":
                break
            _answer(questions[line.strip()]())
    _answer(_figures(collector, ears))


if __name__ == "__main__":
    main()
