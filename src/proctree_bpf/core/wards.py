"""Processes whose parent is another than their creator, found by that parent. Pure.

When it ends, they are the ones that are handed to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.identity import same_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.core.process import TrackedProcess


class Wards:
    """Living processes by the PID of ``parent``, each in the order in which it got it."""

    def __init__(self) -> None:
        self._by_pid: dict[int, dict[TrackedProcess, None]] = {}

    def __iter__(self) -> Iterator[TrackedProcess]:
        for wards in self._by_pid.values():
            yield from wards

    def add(self, ward: TrackedProcess) -> None:
        """Take in a process; without a parent of its own it is none."""
        if ward.parent is not None:
            self._by_pid.setdefault(ward.parent.pid, {})[ward] = None

    def discard(self, ward: TrackedProcess) -> None:
        """Forget a process, before its parent changes."""
        if ward.parent is None:
            return
        wards = self._by_pid.get(ward.parent.pid)
        if wards is not None and wards.pop(ward, self) is None and not wards:
            del self._by_pid[ward.parent.pid]

    def of(self, parent: TrackedProcess) -> list[TrackedProcess]:
        """Return those whose parent is this process."""
        return [
            ward
            for ward in self._by_pid.get(parent.pid, ())
            if ward.parent is not None
            and same_start(ward.parent.start_time_ns, parent.start_time_ns)
        ]
