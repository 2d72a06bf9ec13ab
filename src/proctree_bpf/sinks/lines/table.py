"""A table for people, a row per event. Nothing that a process chose can leave its cell."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, TextIO

from proctree_bpf.core.lineage import End, line_up
from proctree_bpf.core.mirror import table_of
from proctree_bpf.core.model import OBSERVED, OMISSION
from proctree_bpf.core.stores import ProcCache
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.cells import cell_len, cut
from proctree_bpf.sinks.describe import exit_colour, gap_text, observed
from proctree_bpf.sinks.fields import DEFAULT_FIELDS, FIELDS, View, header_of, room_beside, that_fit
from proctree_bpf.sinks.kept import Kept, KeptTexts
from proctree_bpf.sinks.layout import DIM, YELLOW, Layout
from proctree_bpf.sinks.lines.row import Column, Row, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import TreeStore
    from proctree_bpf.sinks.lines.row import Own

_COMMAND_SHARE = 0.58
_ARROW = " < "


class TableSink:
    """Writes a table.

    Args:
        out: where to.
        tree: for the ancestry.
        view: the clock, and how many arguments to show.
        layout: called at each flush, so that a resized terminal is noticed.
        fields: names of the columns, from left to right.
        may_drop: whether a narrow terminal goes without some of them.

    """

    def __init__(
        self,
        out: TextIO,
        tree: TreeStore,
        view: View,
        layout: Callable[[], Layout],
        fields: Sequence[str] = DEFAULT_FIELDS,
        *,
        may_drop: bool = True,
    ) -> None:
        self._out = out
        self._table, _ = table_of(tree, ProcCache())
        self._view = view
        self._read_layout = layout
        self._fields = tuple(fields)
        self._may_drop = may_drop
        self._header_due = True
        self._arrange(layout())

    def write(self, told: ProcessEvent) -> None:
        """Write one row."""
        if self._header_due:
            self._write_header()
        process = told.process
        kept: Any = process.link
        if type(kept) is not Kept or kept.owner is not self._owner:
            kept = process.link = Kept(self._owner)
        own: Own = kept.own
        if own is None or own.parent != process.parent:
            own = self._row.own(process)
            self._kept.keep_own(kept, own)
        if not self._shows_ancestry:
            ancestry = ""
        elif told.uncertain:
            ancestry = self._uncertain_ancestry(process)
        else:
            ancestry = self._kept.above(process)
        row = self._row.text(told, own, ancestry).rstrip()
        has_ended = told.as_received.kind == "exit"
        if has_ended:
            self._kept.let_go(process, kept)
        if self._has_limits:
            row = self._fit(row, exit_colour(process.status) if has_ended else "")
        self._out.write(f"{row}\n")

    def _fit(self, row: str, colour: str) -> str:
        columns = self._layout.columns
        return self._layout.paint(row if columns is None else cut(row, columns), colour)

    def gap(self, gap: Gap) -> None:
        """Write a row that says what is missing."""
        self._write_header()
        text = f"{self._view.clock.time_of_day(gap.timestamp_ns)} {gap_text(gap)}"
        self._out.write(self._fit(text, YELLOW) + "\n")

    def flush(self) -> None:
        """Flush, and look at the terminal's size again."""
        self._write_header()
        self._out.flush()
        layout = self._read_layout()
        if layout != self._layout:
            self._arrange(layout)

    def finish(self) -> None:
        """Owe nothing at the end."""

    def _arrange(self, layout: Layout) -> None:
        """Choose the columns and their widths."""
        self._layout = layout
        self._has_limits = layout.columns is not None or layout.colour
        columns = layout.columns
        names = that_fit(self._fields, columns) if self._may_drop else self._fields
        flexible = [name for name in names if FIELDS[name].width is None]
        widths: dict[str, int | None] = {name: FIELDS[name].width for name in names}
        if columns is not None and flexible:
            room = room_beside(names, columns)
            if room < len(flexible):  # a cell each
                names = tuple(name for name in names if name not in flexible)
            elif len(flexible) == 1:
                widths[flexible[0]] = room
            else:
                share = max(int(room * _COMMAND_SHARE), 1)
                widths |= {"command": share, "ancestry": room - share}
        self._names = names
        self._row = Row([Column(FIELDS[name], widths[name]) for name in names], self._view)
        self._shows_ancestry = "ancestry" in names
        self._ancestry_width = widths.get("ancestry")
        # All anew: what was kept has the widths from before.
        self._kept = KeptTexts(
            self._table, _link, self._ancestry, self._view.max_ancestors, mark=observed
        )
        self._owner = self._kept.owner

    def _write_header(self) -> None:
        if self._header_due:
            self._header_due = False
            ancestry = self._ancestry_cell([FIELDS["ancestry"].header])
            headers = {name: header_of(name, self._view) for name in self._names}
            row = self._row.header(headers, ancestry).rstrip()
            self._out.write(self._fit(row, DIM) + "\n")

    def _ancestry_cell(self, names: list[str]) -> str:
        width = self._ancestry_width
        return padded(_ARROW.join(names) if width is None else _shorten(names, width), width)

    def _ancestry(self, line: list[TrackedProcess], names: list[str], end: End) -> str:
        return self._ancestry_cell(_ended(names, line, end))

    def _uncertain_ancestry(self, process: TrackedProcess) -> str:
        line, end = line_up(process, self._view.max_ancestors)
        names = [
            observed(_link(above)) if below.fork_missed else _link(above)
            for below, above in pairwise(line)
        ]
        names = _ended(names, line, end)
        names[-1:] = [" ".join([*names[-1:], "(uncertain)"])]
        return self._ancestry_cell(names)


def _link(process: TrackedProcess) -> str:
    # A name with an arrow in it must not pass for two, nor one be marked by itself.
    name = visible(process.cmd).replace(_ARROW, r" \x3c ")
    return r"\x7e" + name[1:] if name.startswith(OBSERVED) else name


def _ended(names: list[str], line: list[TrackedProcess], end: End) -> list[str]:
    if end is End.MISSING:
        names.append(observed("?") if line[-1].fork_missed else "?")
    elif end is End.CUT:
        names.append(OMISSION)
    return names


def _shorten(ancestors: list[str], width: int) -> str:
    """Drop middle ancestors, keeping the nearest ones and the root."""
    # More than this never fits, and joining a deep chain for each row would cost.
    nearest, root = ancestors[:width], ancestors[-1:]
    text = _ARROW.join(nearest)
    if len(nearest) == len(ancestors) and cell_len(text) <= width:
        return text
    while len(nearest) > 1:
        nearest.pop()
        left_out = [] if root[0].startswith(OMISSION) else [OMISSION]
        text = _ARROW.join([*nearest, *left_out, *root])
        if cell_len(text) <= width:
            return text
    return cut(text, width)
