"""Processes whose parent is not their creator, and the children that a parent has. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.identity import same_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.process import TrackedProcess


class Wards:
    """Living processes whose parent is not their creator (*wards*), by the parent's PID."""

    def __init__(self) -> None:
        self._by_pid: dict[int, dict[TrackedProcess, None]] = {}

    def __iter__(self) -> Iterator[TrackedProcess]:
        for wards in self._by_pid.values():
            yield from wards

    def add(self, ward: TrackedProcess) -> None:
        """Take in a process, if it has a parent that is not its creator."""
        if ward.parent is not None:
            self._by_pid.setdefault(ward.parent.pid, {})[ward] = None

    def discard(self, ward: TrackedProcess) -> None:
        """Forget a process, before its parent changes."""
        if ward.parent is None:
            return
        wards = self._by_pid.get(ward.parent.pid)
        if wards is not None and wards.pop(ward, self) is None and not wards:
            del self._by_pid[ward.parent.pid]

    def set_parent(self, process: TrackedProcess, parent: ProcessKey | None) -> None:
        """Give a process another parent; None stands for its creator."""
        if process.is_kept and process.exited_ns is None:
            self.discard(process)
            process.parent = parent
            self.add(process)
        else:
            process.parent = parent

    def in_care_of(self, parent: TrackedProcess) -> list[TrackedProcess]:
        """Return the living processes whose parent this one is, as far as that is known."""
        found = [p for p in parent.children or () if p.exited_ns is None and p.parent is None]
        for ward in self._by_pid.get(parent.pid, ()):
            key = ward.parent
            if key is not None and same_start(key.start_time_ns, parent.start_time_ns):
                found.append(ward)
        return found
