"""One line per event: what happened, a tab, the chain string."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO

from proctree_bpf.core.lineage import End
from proctree_bpf.core.mirror import table_of
from proctree_bpf.core.model import CHAIN_SEPARATORS, OMISSION, UNKNOWN_NAME
from proctree_bpf.core.text import escape
from proctree_bpf.sinks.describe import observed
from proctree_bpf.sinks.kept import Kept, KeptTexts

if TYPE_CHECKING:
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import CacheStore, TreeStore


class ChainSink:
    """Writes ``exec<TAB>pid|cmd|user;…`` lines; names are escaped, so a line is a line."""

    def __init__(
        self, out: TextIO, tree: TreeStore, cache: CacheStore, max_ancestors: int | None = None
    ) -> None:
        self._out = out
        table, _ = table_of(tree, cache)
        self._kept = KeptTexts(table, _link, _above, max_ancestors, mark=observed)
        self._owner = self._kept.owner

    def write(self, told: ProcessEvent) -> None:
        """Write one record."""
        process, kind = told.process, told.as_received.kind
        kept: Any = process.link
        if type(kept) is not Kept or kept.owner is not self._owner:
            kept = process.link = Kept(self._owner)
        link = kept.link
        if link is None:
            link = kept.link = _link(process)
        self._out.write(f"{kind}\t{link}{self._kept.above(process)}\n")
        if kind == "exit":
            self._kept.let_go(process, kept)

    def gap(self, gap: Gap) -> None:
        """Write that events are missing here."""
        count = "some" if gap.count is None else gap.count
        self._out.write(f"gap\t{count} {gap.kind or 'event'}\n")

    def flush(self) -> None:
        """Flush the file."""
        self._out.flush()

    def finish(self) -> None:
        """Owe nothing at the end."""


@lru_cache(maxsize=4096)
def _escaped(name: str) -> str:
    return escape(name, CHAIN_SEPARATORS)


def _link(process: TrackedProcess) -> str:
    """Return what ``str`` gives of a ``ProcessLink``."""
    return f"{process.pid}|{_escaped(process.cmd)}|{_escaped(process.user)}"


def _above(line: list[TrackedProcess], links: list[str], end: End) -> str:
    """Return what comes behind a process in a chain."""
    if end is End.MISSING:
        missing = f"{line[-1].ppid}|{UNKNOWN_NAME}|{UNKNOWN_NAME}"
        links.append(observed(missing) if line[-1].fork_missed else missing)
    elif end is End.CUT:
        links.append(OMISSION)
    return "".join([f";{link}" for link in links])
