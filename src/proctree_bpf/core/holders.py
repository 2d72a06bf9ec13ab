"""Who has had a PID: found by PID and start time, however often the PID was had. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import chain
from typing import TYPE_CHECKING

from proctree_bpf.core.identity import TICK_NS, same_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.core.process import TrackedProcess


def _rank(process: TrackedProcess) -> tuple[bool, int]:
    """Order those who had one PID: the last is whom a bare PID means."""
    return process.exited_ns is None, process.start_time_ns


class PidHolders:
    """An index by PID: who a bare PID means, and all the others who had it.

    Args:
        capacity: how many there may be; whoever adds one has to see to it.

    """

    def __init__(self, capacity: int) -> None:
        self.room = capacity
        """How many PIDs there may be at once, beside all that have the PID of another."""
        self.current: dict[int, TrackedProcess] = {}
        """By PID: the living process, else the one that had it last."""
        self.others: dict[int, list[TrackedProcess]] = {}
        """By PID: those that had it, too, from the one that is meant least."""
        self.other_count = 0
        """How many of them there are in all."""

    def __len__(self) -> int:
        return len(self.current) + self.other_count

    def __iter__(self) -> Iterator[TrackedProcess]:
        return chain(self.current.values(), chain.from_iterable(self.others.values()))

    def find(self, pid: int, start_time_ns: int) -> TrackedProcess | None:
        """Return the process with this PID and start time; without one, whom the PID means."""
        current = self.current.get(pid)
        if current is None or not start_time_ns or current.start_time_ns == start_time_ns:
            return current
        others = self.others.get(pid)
        found = None if others is None else _find_among(others, start_time_ns)
        if not same_start(current.start_time_ns, start_time_ns):
            return found
        if found is None or start_time_ns != found.start_time_ns < current.start_time_ns:
            return current
        return found

    def add(self, process: TrackedProcess) -> None:
        """Take in a process that is not here."""
        current = self.current.get(process.pid)
        if current is None:
            self.current[process.pid] = process
        elif _rank(process) >= _rank(current):
            self.current[process.pid] = process
            self._add_other(current)
        else:
            self._add_other(process)

    def discard(self, process: TrackedProcess) -> None:
        """Let a process go."""
        pid = process.pid
        if self.current.get(pid) is process:
            successor = self.others[pid][-1] if pid in self.others else None
            if successor is None:
                del self.current[pid]
                return
            self.current[pid] = successor
            process = successor
        self._remove_other(process)

    def reconsider(self, process: TrackedProcess) -> None:
        """Find the right place of a process that has ended, lives again, or began otherwise."""
        others = self.others.get(process.pid)
        if others is None:
            return
        is_current = self.current.get(process.pid) is process
        if not is_current or _rank(process) < _rank(others[-1]):
            self.discard(process)
            self.add(process)

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` unless all that is kept agrees with itself; for tests."""
        assert self.other_count == sum(map(len, self.others.values()))  # noqa: S101
        for pid, others in self.others.items():
            ranks = [_rank(process) for process in others]
            assert ranks == sorted(ranks)  # noqa: S101
            assert ranks, "an empty list of others is kept"  # noqa: S101
            assert ranks[-1] <= _rank(self.current[pid])  # noqa: S101
            assert {process.pid for process in others} == {pid}  # noqa: S101

    def _add_other(self, process: TrackedProcess) -> None:
        insort(self.others.setdefault(process.pid, []), process, key=_rank)
        self.other_count += 1
        self.room -= 1

    def _remove_other(self, process: TrackedProcess) -> None:
        others = self.others[process.pid]
        others.remove(process)
        self.other_count -= 1
        self.room += 1
        if not others:
            del self.others[process.pid]


def _find_among(others: list[TrackedProcess], start_time_ns: int) -> TrackedProcess | None:
    """Find the very process, else the last that began in the same tick."""
    found: TrackedProcess | None = None
    tick_ns = start_time_ns - start_time_ns % TICK_NS
    for lives in (False, True):
        index = bisect_left(others, (lives, tick_ns), key=_rank)
        while index < len(others):
            other = others[index]
            if other.start_time_ns >= tick_ns + TICK_NS or (other.exited_ns is None) is not lives:
                break
            if other.start_time_ns == start_time_ns:
                return other
            if same_start(other.start_time_ns, start_time_ns):
                found = other
            index += 1
    return found
