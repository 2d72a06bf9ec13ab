"""How many proc connector messages came, and from their numbers how many did not. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.cn_proc import What
from proctree_bpf.core.events import Gap

if TYPE_CHECKING:
    from proctree_bpf.codecs.cn_proc import CnProcEvent

SOURCE = "proc-connector"


class ConnectorCount:
    """Keeps count by CPU and by kind. Numbers are counted per CPU, whatever the kind."""

    def __init__(self) -> None:
        self._next_seq: dict[int, int] = {}
        self._last_ns: dict[int, int] = {}
        self._overrun_since_ns: int | None = None
        self._by_kind: Counter[str] = Counter()
        self._received_by_cpu: Counter[int] = Counter()
        self._lost_by_cpu: Counter[int] = Counter()
        self._overruns = 0
        self.undecodable = 0

    def overrun(self, now_ns: int) -> None:
        """Note that the receive buffer was full: the next numbers should tell how much is lost."""
        self._overruns += 1
        self._overrun_since_ns = now_ns

    def message(self, message: CnProcEvent, time_ns: int) -> Gap | None:
        """Compare a message's number with its predecessor's on the same CPU."""
        cpu = message.cpu
        kind = message.what.name.lower() if isinstance(message.what, What) else "other"
        self._by_kind[kind] += 1
        self._received_by_cpu[cpu] += 1
        expected = self._next_seq.get(cpu)
        missing = (message.seq - expected) & 0xFFFFFFFF if expected is not None else 0
        gap = None
        # More than half the range is a message from the past, not a loss.
        if missing < 1 << 31:
            self._next_seq[cpu] = (message.seq + 1) & 0xFFFFFFFF
            if missing:
                self._lost_by_cpu[cpu] += missing
                self._overrun_since_ns = None
                since_ns = self._last_ns.get(cpu, 0)
                gap = Gap(time_ns, SOURCE, missing, None, cpu, since_ns, time_ns)
        self._last_ns[cpu] = time_ns
        return gap

    def unexplained_overrun(self) -> Gap | None:
        """Return a gap of unknown size for an overrun that no number has shown yet."""
        since_ns, self._overrun_since_ns = self._overrun_since_ns, None
        if since_ns is None:
            return None
        return Gap(since_ns, SOURCE, None, until_ns=since_ns)

    def summary(self) -> dict[str, Any]:
        """Return received and lost messages, in all, by CPU and by kind."""
        return {
            "received": sum(self._received_by_cpu.values()),
            "lost": sum(self._lost_by_cpu.values()) + self.undecodable,
            "undecodable": self.undecodable,
            "overruns": self._overruns,
            "by_kind": {kind: {"received": count} for kind, count in self._by_kind.items()},
            "by_cpu": [
                {"cpu": cpu, "received": received, "lost": self._lost_by_cpu[cpu]}
                for cpu, received in sorted(self._received_by_cpu.items())
            ],
        }
