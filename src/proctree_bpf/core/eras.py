"""When names were learnt, and which of them may be out of date since. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proctree_bpf.core.process import UNCERTAIN, Era

if TYPE_CHECKING:
    from proctree_bpf.core.process import TrackedProcess

# Some losses are told seconds late; fewer ends than that are presumed meanwhile.
_PRESUMED = 4096


class NameEras:
    """What the names that are learnt now share, until some of them may have been lost."""

    def __init__(self) -> None:
        self.era = Era()
        """That of the names that events tell now; see ``doubt_names``."""
        self.looked_era = Era()
        """That of the names that ``/proc`` shows now."""
        self._doubted: list[Era] = []
        self._presumed: deque[TrackedProcess] = deque(maxlen=_PRESUMED)

    def doubt_names(self, from_ns: int) -> None:
        """Take note that a new name of any process that lived after ``from_ns`` may be lost.

        So are those that are learnt from now on, until ``trust_names``.
        """
        for process in reversed(self._presumed):
            if process.exited_ns is None or process.exited_ns <= from_ns:
                break
            if process.status is None:
                process.named_in = process.details_in = UNCERTAIN
        self._doubted += [era for era in (self.era, self.looked_era) if not era.is_over]
        for era in self._doubted:
            era.end(from_ns)

    def trust_names(self) -> None:
        """Take note that events are told from now on which came after all that was lost."""
        self.era = Era()
        self._doubted.clear()

    def note_presumed(self, process: TrackedProcess) -> None:
        """Take note that nobody saw a process end, nor what it was called then."""
        self._presumed.append(process)
