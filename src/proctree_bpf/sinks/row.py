"""A row of a table, put together of cells that are as old as what they tell of. Pure."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from proctree_bpf.core.events import EVENT_KINDS, Exit
from proctree_bpf.core.identity import ProcessKey  # noqa: TC001 - a struct's types can be asked for
from proctree_bpf.sinks.cells import cell_len, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.tracker import ProcessEvent
    from proctree_bpf.sinks.fields import Field, View

_PIPED_WIDTH = 40


class Own(msgspec.Struct, eq=False, gc=False):
    """The cells that tell only of a process, in runs of those that stand side by side."""

    runs: tuple[str, ...]
    parent: ProcessKey | None
    """Whom the kernel called its parent; the only thing that changes without notice."""


Part: TypeAlias = "Callable[[ProcessEvent, Own, str], str]"


class Column(NamedTuple):
    """A column, and how wide it is here; None if as wide as its contents."""

    field: Field
    width: int | None

    def cell(self, text: str) -> str:
        """Return a cell with this text."""
        width = self.width
        if width is None or len(text) > width or not (self.field.right or text.isascii()):
            return padded(text, width)
        return text.rjust(width) if self.field.right else text.ljust(width)

    @property
    def form(self) -> str:
        """How ``%`` pads ASCII text that is not too long."""
        sign = "" if self.field.right and self.width is not None else "-"
        return f"%{sign}{_PIPED_WIDTH if self.width is None else self.width}s"


class _Run:
    """Columns side by side that all tell only of the process."""

    def __init__(self, columns: Sequence[Column], view: View) -> None:
        self._columns = columns
        self._view = view
        self._texts = [column.field.of_process or _nothing for column in columns]
        self._form = " ".join([column.form for column in columns])
        widths = [column.width for column in columns]
        self._is_open = widths == [None]
        self._size = None if None in widths else len(self._form % tuple([""] * len(columns)))

    def text(self, process: TrackedProcess) -> str:
        """Return the cells of a process."""
        view = self._view
        texts = tuple([text(process, view) for text in self._texts])
        cells = self._form % texts
        if (len(cells) == self._size or self._is_open) and cells.isascii():
            return cells
        return " ".join(map(Column.cell, self._columns, texts))


class Row:
    """How rows are made of these columns.

    The cell of the ancestry, which has no text of its own, is handed in.
    """

    def __init__(self, columns: Sequence[Column], view: View) -> None:
        self._columns = columns
        self._view = view
        self._runs = [_Run(run, view) for run in _runs_of(columns)]
        self._plans = {kind: self._plan(kind) for kind in EVENT_KINDS}

    def header(self, headers: Mapping[str, str], ancestry: str) -> str:
        """Return what stands above the columns."""
        return " ".join(
            ancestry if column.field.is_handed_in else column.cell(headers[column.field.name])
            for column in self._columns
        )

    def own(self, process: TrackedProcess) -> Own:
        """Return the cells that tell only of a process."""
        return Own(tuple([run.text(process) for run in self._runs]), process.parent)

    def text(self, told: ProcessEvent, own: Own, ancestry: str) -> str:
        """Return the row of a record."""
        template, parts = self._plans[type(told.event)]
        return template % tuple([part(told, own, ancestry) for part in parts])

    def _plan(self, kind: type) -> tuple[str, list[Part]]:
        """Return how to make the rows of a kind: what never changes, and the parts between."""
        constants: list[str] = []
        parts: list[Part] = []
        run = -1
        for index, column in enumerate(self._columns):
            field = column.field
            if field.of_process is not None:
                if index and self._columns[index - 1].field.of_process is not None:
                    continue
                run += 1
                parts.append(_run(run))
            elif field.of_kind is not None:
                constants.append(column.cell(field.of_kind(kind)).replace("%", "%%"))
                continue
            elif field.of_exits and kind is not Exit:
                constants.append(column.cell(""))
                continue
            else:
                parts.append(_handed_in if field.is_handed_in else self._of_record(column))
            constants.append("%s")
        return " ".join(constants), parts

    def _of_record(self, column: Column) -> Part:
        view, text, cell, width = self._view, column.field.text, column.cell, column.width

        def part(told: ProcessEvent, _own: Own, _ancestry: str) -> str:
            shown = text(told, view)
            return shown if len(shown) == width and shown.isascii() else cell(shown)

        return part


def _runs_of(columns: Sequence[Column]) -> list[list[Column]]:
    is_of_process = groupby(columns, lambda column: column.field.of_process is not None)
    return [list(run) for is_run, run in is_of_process if is_run]


def _nothing(_process: TrackedProcess, _view: View) -> str:
    return ""


def _run(number: int) -> Part:
    return lambda _told, own, _ancestry: own.runs[number]


def _handed_in(_told: ProcessEvent, _own: Own, ancestry: str) -> str:
    return ancestry


def padded(text: str, width: int | None) -> str:
    """Fill a cell; one without a width gets the least that keeps most rows aligned."""
    if width is None:
        return text + " " * (_PIPED_WIDTH - cell_len(text))
    return fit(text, width)
