"""The priority of the reader: that of any program, until the kernel's buffers fill."""

from __future__ import annotations

import os
from contextlib import suppress

# From which fill on we go before others, and below which we no longer do: apart, so that we
# do not change with each drain.
_RAISE_ABOVE, _LOWER_BELOW = 0.2, 0.02
_NICENESS = -15


class ReaderPriority:
    """Takes what it needs of the CPU while what is to be read would be lost otherwise.

    A reader that is one of many which want the same CPU gets its share, and that need not do.
    Without the privilege, nothing changes.
    """

    def __init__(self) -> None:
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._is_raised = False

    def note(self, fill: float) -> None:
        """Take note of how full the fullest buffer was, from 0 to 1."""
        if self._is_raised:
            if fill < _LOWER_BELOW:
                self.lower()
        elif fill > _RAISE_ABOVE:
            self._is_raised = True
            self._set(min(self._usual, _NICENESS))

    def lower(self) -> None:
        """Be like others again."""
        if self._is_raised:
            self._is_raised = False
            self._set(self._usual)

    @staticmethod
    def _set(niceness: int) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
