"""One line per event: what happened, a tab, the chain string."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from proctree_bpf.core.events import EVENT_KINDS, Gap
from proctree_bpf.core.lineage import build_chain_string

if TYPE_CHECKING:
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.core.tracker import ProcessEvent


class ChainSink:
    """Writes ``exec<TAB>pid|cmd|user;…`` lines; names are escaped, so a line is a line."""

    def __init__(
        self, out: TextIO, tree: TreeStore, cache: CacheStore, max_ancestors: int | None = None
    ) -> None:
        self._out = out
        self._tree = tree
        self._cache = cache
        self._max_ancestors = max_ancestors

    def write(self, applied: ProcessEvent) -> None:
        """Write one record."""
        chain = build_chain_string(
            self._tree, self._cache, applied.node, max_ancestors=self._max_ancestors
        )
        self._out.write(f"{EVENT_KINDS[type(applied.event)]}\t{chain}\n")

    def gap(self, gap: Gap) -> None:
        """Write that events are missing here."""
        count = "some" if gap.count is None else gap.count
        self._out.write(f"gap\t{count} {gap.kind or 'event'}\n")

    def flush(self) -> None:
        """Flush the file."""
        self._out.flush()

    def finish(self) -> None:
        """Owe nothing at the end."""
