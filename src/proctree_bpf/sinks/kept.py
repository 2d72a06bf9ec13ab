"""What sinks keep of a process, so that it is encoded once and not for each record. Pure.

What is kept of a process is good until the table forgets it (``TrackedProcess.link`` is None
again), and what is kept of a chain until ``ProcessTable.chains_changed`` counts on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proctree_bpf.core.lineage import End, line_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable

# Long texts, such as arguments, are kept of so many processes at once: enough for those
# between their exec and their exit, whatever the number of those that live.
_DETAILED = 4096


class Kept:
    """Texts about one process."""

    __slots__ = ("chain", "chain_is", "details", "link", "owner", "reference")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.link: str | None = None
        """It, as a link in the chains of others."""
        self.reference: str | None = None
        """It, as the parent of others."""
        self.details: str | None = None
        """Its own part of a record about it."""
        self.chain: str | None = None
        """The chain of those that it created: its link and those above it."""
        self.chain_is = -1
        """As of which ``chains_changed``."""


class KeptTexts:
    """Keeps what one sink has encoded.

    Args:
        table: where processes are kept.
        link: encodes a process as a link in a chain.
        missing: encodes a creator that is not remembered.
        join: makes a chain of its links, nearest first; told how the line ends.
        max_ancestors: how many links a chain may have; None for all.

    """

    def __init__(
        self,
        table: ProcessTable,
        link: Callable[[TrackedProcess], str],
        missing: Callable[[ProcessKey], str],
        join: Callable[[list[str], End], str],
        max_ancestors: int | None,
    ) -> None:
        self._table = table
        self._link = link
        self._missing = missing
        self._join = join
        self._max_ancestors = max_ancestors
        self._detailed: deque[Kept] = deque()

    def of(self, process: TrackedProcess) -> Kept:
        """Return what is kept of a process; fields that are None are not encoded yet."""
        kept = process.link
        if type(kept) is Kept and kept.owner is self:
            return kept
        kept = Kept(self)
        process.link = kept
        return kept

    def keep_details(self, kept: Kept, details: str) -> str:
        """Keep a process's own part of its records, for a while."""
        kept.details = details
        self._detailed.append(kept)
        if len(self._detailed) > _DETAILED:
            self._detailed.popleft().details = None
        return details

    def chain(self, process: TrackedProcess) -> str:
        """Return the chain of a process, without itself."""
        creator = process.creator
        if creator is None or self._max_ancestors == 0:
            return self._encode_chain(process)
        kept = self.of(creator)
        chains_changed = self._table.chains_changed
        if kept.chain is None or kept.chain_is != chains_changed:
            kept.chain = self._encode_chain(process)
            kept.chain_is = chains_changed
        return kept.chain

    def _encode_chain(self, process: TrackedProcess) -> str:
        line, end = line_up(process, self._max_ancestors)
        links = []
        for member in line[1:]:
            kept = self.of(member)
            if kept.link is None:
                kept.link = self._link(member)
            links.append(kept.link)
        if end is End.MISSING:
            links.append(self._missing(line[-1].creator_key))
        return self._join(links, end)
