"""Processes whose creator is not kept, found by what is known of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.identity import TICK_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.core.process import TrackedProcess


class Waiting:
    """Those that wait for their creator, each in the order in which they began to."""

    def __init__(self) -> None:
        self.by_pid: dict[int, dict[int, dict[TrackedProcess, None]]] = {}
        """By the creator's PID, and then by the tick of its start (0: unknown)."""

    def __iter__(self) -> Iterator[TrackedProcess]:
        for by_tick in self.by_pid.values():
            for waiting in by_tick.values():
                yield from waiting

    def __contains__(self, process: TrackedProcess) -> bool:
        tick = process.creator_start_ns // TICK_NS
        return process in self.by_pid.get(process.ppid, {}).get(tick, ())

    def add(self, process: TrackedProcess) -> None:
        """Let a process wait."""
        by_tick = self.by_pid.setdefault(process.ppid, {})
        by_tick.setdefault(process.creator_start_ns // TICK_NS, {})[process] = None

    def discard(self, process: TrackedProcess) -> None:
        """Let a process wait no more, if it did."""
        if process not in self:
            return
        by_tick = self.by_pid[process.ppid]
        tick = process.creator_start_ns // TICK_NS
        del by_tick[tick][process]
        if not by_tick[tick]:
            del by_tick[tick]
            if not by_tick:
                del self.by_pid[process.ppid]

    def of(self, pid: int, tick: int | None) -> list[TrackedProcess]:
        """Return those that wait for this PID: began in this tick, or nobody knows; None: any."""
        by_tick = self.by_pid.get(pid, {})
        ticks = by_tick if tick is None else (tick, 0) if tick else (0,)
        return [process for tick in ticks for process in by_tick.get(tick, ())]

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if there is an empty place; for tests."""
        assert all(self.by_pid.values())  # noqa: S101
        assert all(all(by_tick.values()) for by_tick in self.by_pid.values())  # noqa: S101
