"""A table for people, a row per event. Nothing that a process chose can leave its cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from proctree_bpf.core.events import Exit, Gap
from proctree_bpf.core.lineage import End, line_of
from proctree_bpf.core.model import OMISSION
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.cells import cell_len, cut, fit
from proctree_bpf.sinks.describe import exit_colour, gap_text
from proctree_bpf.sinks.fields import DEFAULT_FIELDS, FIELDS, View, header_of, room_beside, that_fit
from proctree_bpf.sinks.layout import DIM, YELLOW, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.core.model import PidNode
    from proctree_bpf.core.stores import TreeStore
    from proctree_bpf.core.tracker import ProcessEvent

_COMMAND_SHARE = 0.58
_PIPED_WIDTH = 40
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
        self._tree = tree
        self._view = view
        self._read_layout = layout
        self._fields = tuple(fields)
        self._may_drop = may_drop
        self._header_due = True
        self._arrange(layout())

    def write(self, applied: ProcessEvent) -> None:
        """Write one row."""
        self._write_header()
        view = self._view
        texts = [text(applied, view) for text in self._texts]
        ancestors = self._ancestors(applied.node, applied.uncertain) if self._shows_ancestry else []
        exited = applied.event if isinstance(applied.event, Exit) else None
        row = self._row(texts, ancestors)
        self._out.write(self._layout.paint(row, exit_colour(exited)) + "\n")

    def gap(self, gap: Gap) -> None:
        """Write a row that says what is missing."""
        self._write_header()
        text = f"{self._view.clock.time_of_day(gap.timestamp_ns)} {gap_text(gap)}"
        if self._layout.columns is not None:
            text = cut(text, self._layout.columns)
        self._out.write(self._layout.paint(text, YELLOW) + "\n")

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
        self._texts = [FIELDS[name].text for name in names]
        self._cells = [(name == "ancestry", widths[name], FIELDS[name].right) for name in names]
        self._shows_ancestry = "ancestry" in names

    def _write_header(self) -> None:
        if self._header_due:
            self._header_due = False
            headers = [header_of(name, self._view) for name in self._names]
            row = self._row(headers, [FIELDS["ancestry"].header])
            self._out.write(self._layout.paint(row, DIM) + "\n")

    def _row(self, texts: list[str], ancestors: list[str]) -> str:
        cells = []
        for (is_ancestry, width, right), text in zip(self._cells, texts, strict=True):
            if is_ancestry:
                shown = _ARROW.join(ancestors) if width is None else _shorten(ancestors, width)
                cells.append(_padded(shown, width))
            elif width is None or len(text) > width or not (right or text.isascii()):
                cells.append(_padded(text, width))
            else:
                cells.append(text.rjust(width) if right else text.ljust(width))
        row = " ".join(cells).rstrip()
        return row if self._layout.columns is None else cut(row, self._layout.columns)

    def _ancestors(self, node: PidNode, uncertain: bool) -> list[str]:  # noqa: FBT001 - a flag
        line, end = line_of(self._tree, node, self._view.max_ancestors)
        # A name with an arrow in it must not pass for two.
        names = [visible(link.cmd).replace(_ARROW, r" \x3c ") for link in line[1:]]
        if end is not End.ROOT:
            names.append("?" if end is End.MISSING else OMISSION)
        if uncertain:
            names[-1:] = [" ".join([*names[-1:], "(uncertain)"])]
        return names


def _padded(text: str, width: int | None) -> str:
    """Fill a cell; one without a width gets the least that keeps most rows aligned."""
    if width is None:
        return text + " " * (_PIPED_WIDTH - cell_len(text))
    return fit(text, width)


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
