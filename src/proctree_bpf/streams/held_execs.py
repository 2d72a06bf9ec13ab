"""Execs that wait until what /proc showed of them is known to be theirs. Pure.

What /proc shows may already be from after the next exec, or after a new name or user. A message
tells of that change, but later: the kernel makes the change first, and sends the message when that
is done. It says what was changed to; what was read and differs from that was read before. What
the next exec changed to is read from /proc too, so it is known only if that reading is right.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import msgspec

from proctree_bpf.core.events import Exec
from proctree_bpf.core.identity import NOT_KNOWN

if TYPE_CHECKING:
    from proctree_bpf.codecs.proc_files import Reading, Stat
    from proctree_bpf.core.identity import ProcessKey

# So long it may take from when an exec shows in /proc until its message is sent, unless it waits
# for a disk: the program is loaded in between. On a busy machine others run meanwhile (20 ms was
# seen to be too short where ten wanted to run on two CPUs).
_LONGEST_CHANGE_NS = 100_000_000


class _Held(msgspec.Struct, eq=False):
    event: Exec
    start_stack: int
    read_by_ns: float = inf
    """When /proc had been read, at the latest."""
    before: _Held | None = None
    """The exec before it, of which what was read is right only if what was read of this one is."""
    is_released: bool = False


class HeldExecs:
    """Holds execs back, and takes out of them what may be from later."""

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._last: dict[ProcessKey, _Held] = {}
        self._adopted: list[_Held] = []
        self._last_kept: _Held | None = None

    def begin(self, now_ns: int) -> None:
        """Take note that all execs held so far were read before ``now_ns``."""
        for held in reversed(self._held):
            if held.read_by_ns < inf:
                return
            held.read_by_ns = now_ns
            if held.before is not None:
                held.before.read_by_ns = now_ns

    def hold(self, event: Exec, stat: Stat, *, is_adopted: bool) -> None:
        """Hold an exec of which ``/proc`` was read just now, and so perhaps who had adopted it."""
        held = _Held(event, stat.start_stack, before=self._last_kept)
        if held.before is not None:
            held.before.read_by_ns = inf
        self._held.append(held)
        self._last[event.key] = held
        if is_adopted:
            self._adopted.append(held)

    def execed(self, key: ProcessKey, time_ns: int, read: Reading | None) -> None:
        """Take note of the next exec of a process, and of what ``/proc`` shows of it."""
        self._last_kept = None
        held = self._that_may_be_from_after(key, time_ns)
        if held is None:
            return
        if held.before is not None:
            _forget(held.before)
            held.before = None
        if read is None or _may_be_of(held, read):
            _forget(held)
        else:
            self._last_kept = held

    def renamed(self, key: ProcessKey, time_ns: int, comm: str) -> None:
        """Take note of a new name."""
        held = self._that_may_be_from_after(key, time_ns)
        if held is not None and held.event.comm == comm:
            _forget(held)

    def has_new_user(self, key: ProcessKey, time_ns: int) -> None:
        """Take note of a new user or group."""
        held = self._that_may_be_from_after(key, time_ns)
        if held is not None:
            held.event = msgspec.structs.replace(held.event, uid=None, gid=None)

    def parent_ended(self, time_ns: int) -> None:
        """Take note of the end of one that may have adopted: then another adopts, in its place."""
        for held in self._adopted:
            if time_ns <= held.read_by_ns + _LONGEST_CHANGE_NS:
                held.event = msgspec.structs.replace(held.event, parent=NOT_KNOWN)

    def _that_may_be_from_after(self, key: ProcessKey, time_ns: int) -> _Held | None:
        held = self._last.get(key)
        if held is None or time_ns > held.read_by_ns + _LONGEST_CHANGE_NS:
            return None
        return held

    def release(self, complete_ns: float) -> list[Exec]:
        """Return those that nothing can change any more.

        All messages that were sent before ``complete_ns`` have been taken.
        """
        count = 0
        for held in self._held:
            if held.read_by_ns + _LONGEST_CHANGE_NS > complete_ns:
                break
            count += 1
            held.is_released = True
            if self._last.get(held.event.key) is held:
                del self._last[held.event.key]
        released, self._held = self._held[:count], self._held[count:]
        if self._adopted:
            self._adopted = [held for held in self._adopted if not held.is_released]
        return [held.event for held in released]

    def first_ns(self) -> float:
        """Return the time of the first that is still held."""
        return min((held.event.timestamp_ns for held in self._held), default=inf)


def _may_be_of(held: _Held, read: Reading) -> bool:
    """Tell whether what was read of one exec may be what the next one runs."""
    stat, info = read
    same_stack = stat.has_stack(held.start_stack)
    if same_stack is not None:
        return same_stack
    program = held.event.executable, held.event.args_raw
    return None in program or program == (info.executable, info.args_raw)


def _forget(held: _Held) -> None:
    event = held.event
    held.event = Exec(event.timestamp_ns, event.key, event.parent)
