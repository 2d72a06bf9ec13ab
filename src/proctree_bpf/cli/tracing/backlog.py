"""Tells how much is left to be written after a trace was stopped."""

from __future__ import annotations

import os
import time

from proctree_bpf.cli.messages import counted, say

_STDERR = 2
# What is written sooner than anybody can read of it is not worth a line.
_WORTH_TELLING = 20_000
_EVERY_S = 1.0


class Backlog:
    """A line that says what is left; on a terminal it counts down."""

    def __init__(self) -> None:
        self._is_terminal = os.isatty(_STDERR)
        self._next = 0.0
        self._is_told = False

    def show(self, left: int) -> None:
        """Tell that so many events are left."""
        now = time.monotonic()
        if now < self._next or (not self._is_told and left < _WORTH_TELLING):
            return
        self._next = now + _EVERY_S if self._is_terminal else float("inf")
        self._is_told = True
        say(
            f"stopped; {counted(left, 'event')} from before are still to be written "
            "(a second signal discards them)"
        )
