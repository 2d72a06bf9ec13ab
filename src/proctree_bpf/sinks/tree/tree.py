"""The tree, live: a line per process, below its creator; at the end the whole tree once.

On a terminal the lines are kept up to date (``screen``), elsewhere lines are only added
(``log``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from proctree_bpf.sinks.describe import gap_text
from proctree_bpf.sinks.tree.family import Family, Member
from proctree_bpf.sinks.tree.lines import TreeLines
from proctree_bpf.sinks.tree.log import LogLines
from proctree_bpf.sinks.tree.screen import ScreenLines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import TreeStore
    from proctree_bpf.sinks.fields import View
    from proctree_bpf.sinks.layout import Layout

# So many lines may wait for a flush; a burst is written in pieces.
_MAX_WAITING = 256


class TreeSink:
    """Writes a tree.

    Args:
        out: where to.
        tree: for whether a process still runs, if its exit was not written.
        view: the clock, and how many arguments to show.
        layout: called at each flush, so that a resized terminal is noticed. Lines are
            rewritten if it names rows at the start.
        times: columns to begin with, of "time" and "timestamp".
        family: who is shown, and under whom.

    """

    def __init__(
        self,
        out: TextIO,
        tree: TreeStore,
        view: View,
        layout: Callable[[], Layout],
        times: Sequence[str] = (),
        *,
        family: Family | None = None,
    ) -> None:
        self._out = out
        self._tree = tree
        self._read_layout = layout
        self._lines = TreeLines(view, times, layout())
        self._family = Family() if family is None else family
        in_place = self._lines.layout.rows is not None
        self._shown: ScreenLines | LogLines = (
            ScreenLines(self._lines) if in_place else LogLines(self._lines)
        )
        self._header_due = True

    def write(self, process_event: ProcessEvent) -> None:
        """Take one record."""
        member, is_new = self._family.take(process_event)
        if is_new:
            self._shown.started(member)
        if process_event.as_received.kind == "exit":
            self._shown.ended(member)
        if len(self._shown) >= _MAX_WAITING:
            self._draw()

    def gap(self, gap: Gap) -> None:
        """Write a line that says what is missing."""
        self._shown.gap(gap_text(gap))

    def flush(self) -> None:
        """Write what has changed."""
        self._draw()
        self._out.flush()

    def finish(self) -> None:
        """Write the whole tree."""
        self._draw(is_last=True)
        if self._family.roots:
            self._out.write("\n")
            for line in self._lines.whole(self._family, self._still_runs):
                self._out.write(line + "\n")
        self._out.flush()

    def _draw(self, *, is_last: bool = False) -> None:
        self._lines.layout = self._read_layout()
        if self._header_due:
            self._header_due = False
            self._out.write(self._lines.header() + "\n")
        self._out.write(self._shown.flush(is_last=is_last))

    def _still_runs(self, member: Member) -> bool:
        node = self._tree.get_node(member.key)
        return not member.ended and node is not None and node.exited_ns is None
