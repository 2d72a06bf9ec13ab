"""A row of a table, put together of cells that are as old as what they tell of. Pure."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from proctree_bpf.core.events import EVENT_KINDS
from proctree_bpf.core.identity import ProcessKey  # noqa: TC001 - a struct's types can be asked for
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.cells import cell_len, fit
from proctree_bpf.sinks.fields import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.sinks.fields import View

_PIPED_WIDTH = 40


class Own(msgspec.Struct, eq=False, gc=False):
    """The cells that tell only of a process, in runs of those that stand side by side."""

    runs: tuple[str, ...]
    parent: ProcessKey | None
    """Whom the kernel called its parent; the only thing that changes without notice."""


Part: TypeAlias = "Callable[[ProcessEvent], str]"


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


class _Run:
    """Columns side by side that all tell only of the process."""

    def __init__(self, columns: Sequence[Column], view: View) -> None:
        self._cells: list[Callable[[TrackedProcess], str]] = []
        for column in columns:
            if column.field.of_process is not None:
                self._cells.append(_cell_of(column, column.field.of_process(view)))

    def text(self, process: TrackedProcess) -> str:
        """Return the cells of a process."""
        return " ".join([cell(process) for cell in self._cells])


def _cell_of(
    column: Column, value_of: Callable[[TrackedProcess], str | int]
) -> Callable[[TrackedProcess], str]:
    width, cell = column.width, column.cell
    if width is None:

        def as_it_is(process: TrackedProcess) -> str:
            text = str(value_of(process))
            return text.ljust(_PIPED_WIDTH) if text.isascii() else padded(text, None)

        return as_it_is
    if column.field.right:  # a number
        return lambda process: str(value_of(process)).rjust(width)
    # Names are few.
    of_name = lru_cache(maxsize=4096)(lambda name: cell(visible(name)))
    return lambda process: of_name(value_of(process))


class _Plan(NamedTuple):
    """How to make the rows of a kind of event."""

    parts: list[Part]
    """What is made for each record."""
    pick: Callable[[tuple[str, ...]], tuple[str, ...]]
    """Puts the ancestry, the time, the runs of the process, and the parts in order."""
    template: str
    """What never changes, and ``%s`` for each of these."""


class Row:
    """How rows are made of these columns.

    The cell of the ancestry, which has no text of its own, is handed in.
    """

    def __init__(self, columns: Sequence[Column], view: View) -> None:
        self._columns = columns
        self._view = view
        self._runs = [_Run(run, view) for run in _runs_of(columns)]
        times = [column for column in columns if column.field.of_time is not None]
        self._timed = times[0] if times else Column(Field("", "", 0), 0)
        self._time = _time_of(self._timed, view)
        self._plans = {kind: self._plan(kind) for kind in EVENT_KINDS.values()}

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
        event = told.as_received
        parts, pick, template = self._plans[event.kind]
        time = self._time(event.timestamp_ns)
        if parts:
            return template % pick((ancestry, time, *own.runs, *[part(told) for part in parts]))
        return template % pick((ancestry, time, *own.runs))

    def _plan(self, kind: str) -> _Plan:
        template: list[str] = []
        parts: list[Part] = []
        order: list[int] = []
        run = 1
        for is_run, columns in groupby(self._columns, _is_of_process):
            if is_run:
                run += 1
                order.append(run)
                template.append("%s")
                continue
            for column in columns:
                field = column.field
                if field.of_kind is not None or (field.of_exits and kind != "exit"):
                    fixed = column.cell(field.of_kind(kind) if field.of_kind is not None else "")
                    template.append(fixed.replace("%", "%%"))
                    continue
                template.append("%s")
                if field.is_handed_in:
                    order.append(0)
                elif column is self._timed:
                    order.append(1)
                else:
                    parts.append(self._part(column))
                    order.append(1 + len(self._runs) + len(parts))
        return _Plan(parts, _picker(order), " ".join(template))

    def _part(self, column: Column) -> Part:
        field, cell, width = column.field, column.cell, column.width or 0
        text = field.text
        if field.of_time is not None:
            time = _time_of(column, self._view)
            return lambda told: time(told.as_received.timestamp_ns)

        if field.of_status is not None:
            return _ending_of(column, field.of_status)

        def on_the_right(told: ProcessEvent) -> str:
            shown = text(told)
            return shown.rjust(width) if len(shown) <= width else cell(shown)

        return on_the_right if field.right else lambda told: cell(text(told))


def _time_of(column: Column, view: View) -> Callable[[int], str]:
    """Return what makes the cell of a time."""
    of_time, cell = column.field.of_time, column.cell
    if of_time is None:
        return lambda _ns: ""
    say = of_time(view)
    return (lambda ns: cell(say(ns))) if column.field.right else say


def _ending_of(column: Column, text: Callable[[int | None], str]) -> Part:
    """Return what makes the cell of a status; there are few."""
    cells: dict[int | None, str] = {}

    def ending(told: ProcessEvent) -> str:
        exited = told.as_received
        if exited.kind != "exit":
            return column.cell("")
        cell = cells.get(exited.status)
        if cell is None:
            cell = cells[exited.status] = column.cell(text(exited.status))
        return cell

    return ending


def _picker(order: list[int]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    if len(order) > 1:
        return itemgetter(*order)
    return lambda values: tuple([values[index] for index in order])


def _is_of_process(column: Column) -> bool:
    return column.field.of_process is not None


def _runs_of(columns: Sequence[Column]) -> list[list[Column]]:
    return [list(run) for is_run, run in groupby(columns, _is_of_process) if is_run]


def padded(text: str, width: int | None) -> str:
    """Fill a cell; one without a width gets the least that keeps most rows aligned."""
    if width is None:
        if text.isascii():
            return text.ljust(_PIPED_WIDTH)
        return text + " " * (_PIPED_WIDTH - cell_len(text))
    return fit(text, width)
