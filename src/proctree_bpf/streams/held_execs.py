"""Execs of which /proc was read, until it is sure that nothing came between. Pure.

What /proc shows may be from after the next exec, or after a new name or user. The word of that
comes, too, but later: the kernel makes the change first, and sends word of it when it is done.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import msgspec

from proctree_bpf.core.events import Exec

if TYPE_CHECKING:
    from proctree_bpf.core.identity import ProcessKey

# So long an exec, once it shows in /proc, may take until its word is sent, but for one that
# waits for a disk: it also loads the program.
_LONGEST_CHANGE_NS = 20_000_000


class _Held(msgspec.Struct):
    event: Exec
    read_by_ns: float = inf
    """When /proc had been read, at the latest."""


class HeldExecs:
    """Holds execs back, and takes out of them what may be from later."""

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._last: dict[ProcessKey, _Held] = {}

    def begin(self, now_ns: int) -> None:
        """Take note that all execs held so far were read before ``now_ns``."""
        for held in reversed(self._held):
            if held.read_by_ns < inf:
                return
            held.read_by_ns = now_ns

    def hold(self, event: Exec) -> None:
        """Hold an exec that was read just now."""
        held = _Held(event)
        self._held.append(held)
        self._last[event.key] = held

    def changed(self, key: ProcessKey, time_ns: int, *, user_only: bool = False) -> None:
        """Take word of another change of a process: what was read may be from after it."""
        held = self._last.get(key)
        if held is None or time_ns > held.read_by_ns + _LONGEST_CHANGE_NS:
            return
        if user_only:
            held.event = msgspec.structs.replace(held.event, uid=None, gid=None)
        else:
            at_ns, parent = held.event.timestamp_ns, held.event.parent
            held.event = Exec(at_ns, key, parent)

    def release(self, complete_ns: float) -> list[Exec]:
        """Return those that nothing can change any more.

        All word that was sent before ``complete_ns`` has been taken.
        """
        count = 0
        for held in self._held:
            if held.read_by_ns + _LONGEST_CHANGE_NS > complete_ns:
                break
            count += 1
            if self._last.get(held.event.key) is held:
                del self._last[held.event.key]
        released, self._held = self._held[:count], self._held[count:]
        return [held.event for held in released]

    def first_ns(self) -> float:
        """Return the time of the first that is still held."""
        return min((held.event.timestamp_ns for held in self._held), default=inf)
