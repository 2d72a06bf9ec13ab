"""What sinks keep of a process, so that it is encoded once and not for each record. Pure.

What is kept of a process is good until the table forgets it (``TrackedProcess.link`` is None
again), and what is kept of the line above its children until ``ProcessTable.chains_changed``
counts on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from proctree_bpf.core.lineage import line_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.lineage import End
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable

# Long texts, such as arguments, are kept of so many processes at once: enough for those
# between their exec and their exit, whatever the number of those that live.
_DETAILED = 4096

A = TypeVar("A")


class Kept(msgspec.Struct, eq=False, gc=False):
    """What one sink has encoded of one process. Holds nothing that could lead back to it."""

    owner: object
    link: str | None = None
    """It, as a link in the chains of others."""
    own: Any = None
    """Its own part of a record about it."""
    above: Any = None
    """What its children have above them: its link and those above it."""
    above_is: int = -1
    """As of which ``chains_changed``."""


class KeptTexts(Generic[A]):
    """Keeps what one sink has encoded.

    Args:
        table: where processes are kept.
        link: encodes a process as a link in a chain.
        join: makes what is above a process of it, of the links of its chain, nearest first,
            and of how the line ends.
        max_ancestors: how many links a chain may have; None for all.
        mark: marks a link that was only seen as the parent of the one before it.

    """

    def __init__(
        self,
        table: ProcessTable,
        link: Callable[[TrackedProcess], str],
        join: Callable[[list[TrackedProcess], list[str], End], A],
        max_ancestors: int | None,
        *,
        mark: Callable[[str], str],
    ) -> None:
        self.owner = object()
        """What all that is kept here is marked with."""
        self._table = table
        self._link = link
        self._join = join
        self._max_ancestors = max_ancestors
        self._mark = mark
        self._detailed: deque[Kept] = deque()

    def of(self, process: TrackedProcess) -> Kept:
        """Return what is kept of a process; fields that are None are not encoded yet."""
        kept = process.link
        if type(kept) is Kept and kept.owner is self.owner:
            return kept
        kept = process.link = Kept(self.owner)
        return kept

    def keep_own(self, kept: Kept, own: object) -> None:
        """Keep a process's own part of its records, for a while."""
        kept.own = own
        detailed = self._detailed
        detailed.append(kept)
        if len(detailed) > _DETAILED:
            detailed.popleft().own = None

    def let_go(self, process: TrackedProcess, kept: Kept) -> None:
        """Keep no more than its children need of a process of which nothing more will come."""
        kept.own = None
        if process.children is None:
            process.link = None

    def above(self, process: TrackedProcess) -> A:
        """Return what is above a process.

        It is the same for all that have one creator, unless one of them can be above it, too, or
        was only seen below it.
        """
        creator = process.creator
        if (
            creator is None
            or not process.is_kept
            or not 0 < creator.start_time_ns < process.start_time_ns
            or process.fork_missed
        ):
            return self._encode(process)
        kept = creator.link
        if type(kept) is not Kept or kept.owner is not self.owner:
            kept = creator.link = Kept(self.owner)
        chains_changed = self._table.chains_changed
        if kept.above_is != chains_changed:
            kept.above = self._encode(process)
            kept.above_is = chains_changed
        above: A = kept.above
        return above

    def _encode(self, process: TrackedProcess) -> A:
        line, end = line_up(process, self._max_ancestors)
        links = []
        below = process
        for member in line[1:]:
            kept = self.of(member)
            if kept.link is None:
                kept.link = self._link(member)
            links.append(self._mark(kept.link) if below.fork_missed else kept.link)
            below = member
        return self._join(line, links, end)
