"""A row of a table, put together of cells that are as old as what they tell of. Pure."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import msgspec

from proctree_bpf.core.events import EVENT_KINDS
from proctree_bpf.core.identity import ProcessKey  # noqa: TC001 - a struct's types can be asked for
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.cells import cell_len, fit
from proctree_bpf.sinks.fields import Field
from proctree_bpf.sinks.wall_time import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.sinks.fields import View

_PIPED_WIDTH = 40
_TEXTS_KEPT = 4096


class Own(msgspec.Struct, eq=False, gc=False):
    """The cells that tell only of a process, in runs of those that stand side by side."""

    runs: tuple[str, ...]
    parent: ProcessKey | None
    """Whom the kernel called its parent; the only thing that changes without notice."""


A = TypeVar("A")
Cell: TypeAlias = "Callable[[TrackedProcess], str]"
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


def _run_of(columns: Sequence[Column], view: View) -> Cell:
    """Return what makes the cells of columns that all tell only of the process."""
    cells: list[Cell] = []
    for is_own, group in groupby(columns, attrgetter("field.is_own")):
        made = [_cell_of(column, view) for column in group]
        cells.append(_side_by_side(made) if is_own else _shared(_side_by_side(made)))
    return _side_by_side(cells)


def _side_by_side(cells: Sequence[Callable[[A], str]]) -> Callable[[A], str]:
    """Return what makes some cells in a row; there are two at the most where it must be quick."""
    first, *others = cells
    if not others:
        return first
    if len(others) == 1:
        (second,) = others
        return lambda about: f"{first(about)} {second(about)}"
    return lambda about: " ".join([cell(about) for cell in cells])


def _cell_of(column: Column, view: View) -> Cell:
    width, cell, of_process = column.width, column.cell, column.field.of_process
    value_of: Callable[[TrackedProcess], str | int] = of_process(view) if of_process else str
    if width is None:

        def as_it_is(process: TrackedProcess) -> str:
            text = str(value_of(process))
            return text.ljust(_PIPED_WIDTH) if text.isascii() else padded(text, None)

        return as_it_is
    if column.field.right:  # a number
        return lambda process: str(value_of(process)).rjust(width)
    return lambda process: cell(visible(str(value_of(process))))


def _shared(cells: Cell) -> Cell:
    """Make cells once for all processes that have parent, user and name in common."""
    texts: dict[tuple[int, str, int | None, str], str] = {}

    def text(process: TrackedProcess) -> str:
        ppid = process.ppid if process.parent is None else process.parent.pid
        if not ppid:  # what is shown then depends on the process
            return cells(process)
        key = (ppid, process.user, process.uid, process.cmd)
        found = texts.get(key)
        if found is None:
            if len(texts) >= _TEXTS_KEPT:
                texts.clear()
            found = texts[key] = cells(process)
        return found

    return text


class _Source(Enum):
    """Where the cells of a column come from, in the records of one kind."""

    FIXED = "the kind"
    PROCESS = "what is kept of the process"
    TIME = "the time"
    ANCESTRY = "the table"
    RECORD = "each record"


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
        self._runs = [_run_of(run, view) for run in _runs_of(columns)]
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
        if len(self._runs) == 2:  # noqa: PLR2004 - as by default: at half the cost
            first, second = self._runs
            return Own((first(process), second(process)), process.parent)
        return Own(tuple([run(process) for run in self._runs]), process.parent)

    def text(self, told: ProcessEvent, own: Own, ancestry: str) -> str:
        """Return the row of a record."""
        event = told.as_received
        parts, pick, template = self._plans[event.kind]
        time = self._time(event.timestamp_ns)
        if not parts:
            return template % pick((ancestry, time, *own.runs))
        if len(parts) == 1:
            return template % pick((ancestry, time, *own.runs, parts[0](told)))
        return template % pick((ancestry, time, *own.runs, *[part(told) for part in parts]))

    def _plan(self, kind: str) -> _Plan:
        template: list[str] = []
        parts: list[Part] = []
        order: list[int] = []
        run = 1
        for source, group in groupby(self._columns, lambda column: self._source(column, kind)):
            columns = list(group)
            if source is _Source.FIXED:
                template += [_fixed(column, kind).replace("%", "%%") for column in columns]
                continue
            template.append("%s")
            if source is _Source.PROCESS:
                run += 1
                order.append(run)
            elif source is _Source.RECORD:
                parts.append(_side_by_side([self._part(column) for column in columns]))
                order.append(1 + len(self._runs) + len(parts))
            else:
                order.append(0 if source is _Source.ANCESTRY else 1)
        return _Plan(parts, _picker(order), " ".join(template))

    def _source(self, column: Column, kind: str) -> _Source:
        field = column.field
        if field.of_process is not None:
            return _Source.PROCESS
        if field.of_kind is not None or (field.of_exits and kind != "exit"):
            return _Source.FIXED
        if field.is_handed_in:
            return _Source.ANCESTRY
        return _Source.TIME if column is self._timed else _Source.RECORD

    def _part(self, column: Column) -> Part:
        field, cell, width = column.field, column.cell, column.width or 0
        text = field.text
        if field.of_time is not None:
            time = _time_of(column, self._view)
            return lambda told: time(told.as_received.timestamp_ns)

        if field.of_status is not None:
            return _ending_of(column, field.of_status)
        if field.of_span is not None:
            return _span_of(column, field.of_span)

        def on_the_right(told: ProcessEvent) -> str:
            shown = text(told)
            return shown.rjust(width) if len(shown) <= width else cell(shown)

        return on_the_right if field.right else lambda told: cell(text(told))


def _fixed(column: Column, kind: str) -> str:
    of_kind = column.field.of_kind
    return column.cell("" if of_kind is None else of_kind(kind))


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
        status = told.process.status
        cell = cells.get(status)
        if cell is None:
            cell = cells[status] = column.cell(text(status))
        return cell

    return ending


def _span_of(column: Column, span_of: Callable[[ProcessEvent], int | None]) -> Part:
    """Return what makes the cell of a span of time; short ones are many, and look alike."""

    @lru_cache(maxsize=_TEXTS_KEPT)
    def cell(micros: int) -> str:
        return column.cell(duration(micros * 1000))

    empty = column.cell("")

    def span(told: ProcessEvent) -> str:
        ns = span_of(told)
        return empty if ns is None else cell(ns // 1000)

    return span


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
