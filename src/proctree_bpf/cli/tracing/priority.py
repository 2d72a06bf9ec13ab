"""How much of the CPU we take: what others leave, until what we have to read would be lost."""

from __future__ import annotations

import os
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proctree_bpf.sources.base import Waiting

_LAST, _FIRST = 19, -15
"""The niceness of who works when nobody else wants to, and of who goes before others."""


# Of a ring, and of the room for what was in rings: from where on we are like others, from
# where on we go before them, and below which each ends again.
_RING_SHORT, _RING_SHORTER, _RING_CALM = 0.25, 0.5, 0.02
_ROOM_SHORT, _ROOM_GONE, _ROOM_HALF, _ROOM_CALM = 0.75, 1.0, 0.5, 0.05


class _Level(Enum):
    AFTER_OTHERS = "after others"
    LIKE_OTHERS = "like others"
    BEFORE_OTHERS = "before others"


class ReaderPriority:
    """Leaves the CPU to those who are watched, while there is room for what they do.

    Buffers are emptied at our usual priority, which takes a hundredth of a CPU; what was in
    them is worked on after others, until it gets late or its room gets short, or if the tree is
    uncertain until it is done. While the kernel's buffers fill, we go before others. Without the
    privilege (CAP_SYS_NICE), nothing changes. A record may be ``late_ns`` late because others want
    the CPU.
    """

    def __init__(self, late_ns: int) -> None:
        self._late_ns = late_ns
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._present = self._usual
        self._level = _Level.LIKE_OTHERS
        self._may_change = _may_go_first(self._usual)

    def before_receiving(self) -> None:
        """Be like others, or before them."""
        self._set(_FIRST if self._level is _Level.BEFORE_OTHERS else self._usual)

    def before_finishing(self) -> None:
        """Go before others from now on."""
        self._level = _Level.BEFORE_OTHERS
        self.before_receiving()

    def before_working(self, waiting: Waiting) -> None:
        """Go after others if there is time."""
        self._level = self._next_level(waiting)
        if self._level is _Level.AFTER_OTHERS:
            self._set(_LAST)
        else:
            self.before_receiving()

    def _next_level(self, waiting: Waiting) -> _Level:
        ring, room = waiting.ring_fill, waiting.memory_fill
        if ring > _RING_SHORTER or room >= _ROOM_GONE:
            return _Level.BEFORE_OTHERS
        if self._level is _Level.BEFORE_OTHERS and (ring > _RING_CALM or room > _ROOM_HALF):
            return _Level.BEFORE_OTHERS
        is_late = waiting.late_ns > self._late_ns or waiting.is_mending
        if ring > _RING_SHORT or room > _ROOM_SHORT or is_late:
            return _Level.LIKE_OTHERS
        has_caught_up = room < _ROOM_CALM and waiting.late_ns < self._late_ns // 10
        if self._level is _Level.AFTER_OTHERS or has_caught_up:
            return _Level.AFTER_OTHERS
        return _Level.LIKE_OTHERS

    def _set(self, niceness: int) -> None:
        niceness = max(niceness, self._usual) if niceness > 0 else min(niceness, self._usual)
        if self._may_change and niceness != self._present:
            self._present = niceness
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, niceness)


def _may_go_first(usual: int) -> bool:
    """Tell whether we may lower our niceness again once we have raised it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST)
    except OSError:
        return False
    os.setpriority(os.PRIO_PROCESS, 0, usual)
    return True
