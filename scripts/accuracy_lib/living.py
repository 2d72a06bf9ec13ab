"""How a tree differs from who lives by /proc."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def differences(
    before: Mapping[int, int], told: Mapping[int, int], after: Mapping[int, int]
) -> list[str]:
    """Return what is wrong with who is told to live, between two looks at /proc.

    ``told`` has starts in ns, the others in ticks. Who was there at one look only may be told
    or not.
    """
    lived = {pid: ticks for pid, ticks in before.items() if after.get(pid) == ticks}
    ticks_told = {pid: start_ns // _TICK_NS for pid, start_ns in told.items()}
    missing = [
        f"{pid} lives and is not told"
        for pid, ticks in lived.items()
        if ticks_told.get(pid) != ticks
    ]
    ghosts = [
        f"{pid} is told and does not live"
        for pid, ticks in ticks_told.items()
        if ticks not in (before.get(pid), after.get(pid)) and pid
    ]
    return missing + ghosts
