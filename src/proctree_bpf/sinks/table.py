"""A table for people, a row per event. Nothing that a process chose can leave its cell."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING, TextIO

from proctree_bpf.core.events import EVENT_KINDS, Exit, Gap
from proctree_bpf.core.lineage import lineage
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.cells import cell_len, cut, fit
from proctree_bpf.sinks.wall_time import duration, local_time_of_day

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.model import PidNode, ProcInfo
    from proctree_bpf.core.stores import TreeStore
    from proctree_bpf.core.tracker import Applied

_COLUMNS = (
    ("TIME", 12),
    ("EVENT", 5),
    ("PID", 7),
    ("PPID", 7),
    ("USER", 10),
    ("COMM", 15),
    ("EXIT", 8),
    ("AGE", 7),
)
_RIGHT = frozenset({"PID", "PPID", "EXIT", "AGE"})
# What a narrow terminal goes without, in this order, and how much room command and
# ancestry must have for it to stay. The command shows the name too, so that goes early.
_EXPENDABLE = {"COMM": 48, "PPID": 30, "AGE": 30, "USER": 30, "EXIT": 30, "TIME": 30}
_COMMAND_SHARE = 0.58
_PIPED_COMMAND_WIDTH = 40
_ARROW = " < "

_RED, _YELLOW, _DIM, _RESET = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Layout:
    """How wide the table is: ``columns`` of the terminal, or None if nothing may be cut."""

    columns: int | None = None
    colour: bool = False


def exit_text(event: Exit) -> str:
    """Return the exit code, or the signal's name with ``*`` if it dumped core."""
    if event.status is None:
        return "?"
    if event.signal is None:
        return str(event.exit_code)
    try:
        name = Signals(event.signal).name
    except ValueError:
        name = f"SIG{event.signal}"
    return name[:7] + ("*" if event.core_dumped else "")


def command_text(info: ProcInfo) -> str:
    """Return the quoted arguments, or the name in brackets where there are none."""
    args = info.args
    if not args:
        return f"[{visible(info.cmd)}]"
    text = visible(shlex.join(args))
    if info.truncated:
        text += " …"
    return f"({text})" if info.inherited else text


class TableSink:
    """Writes a table.

    Args:
        out: where to.
        tree: for the ancestry.
        wall_offset_ns: what to add to CLOCK_BOOTTIME to get UTC.
        layout: called at each flush, so that a resized terminal is noticed.

    """

    def __init__(
        self,
        out: TextIO,
        tree: TreeStore,
        wall_offset_ns: int,
        layout: Callable[[], Layout],
    ) -> None:
        self._out = out
        self._tree = tree
        self._offset = wall_offset_ns
        self._read_layout = layout
        self._layout = layout()
        self._columns = _columns_for(self._layout.columns)
        self._header_due = True

    def write(self, applied: Applied) -> None:
        """Write one row."""
        self._write_header()
        event, node, info = applied.event, applied.node, applied.info
        exited = event if isinstance(event, Exit) else None
        age_ns = event.timestamp_ns - node.start_time_ns if node.start_time_ns else None
        parent = node.kernel_parent.pid
        cells = {
            "TIME": local_time_of_day(event.timestamp_ns + self._offset),
            "EVENT": EVENT_KINDS[type(event)],
            "PID": str(node.pid),
            "PPID": str(parent),
            "USER": visible(info.user),
            "COMM": visible(info.cmd),
            "EXIT": exit_text(exited) if exited is not None else "",
            "AGE": duration(age_ns) if age_ns is not None and exited is not None else "",
        }
        row = self._row(cells, command_text(info), self._ancestors(node, applied.uncertain))
        self._out.write(self._coloured(row, exited) + "\n")

    def gap(self, gap: Gap) -> None:
        """Write a row that says what is missing."""
        self._write_header()
        count = "some" if gap.count is None else str(gap.count)
        where = "" if gap.cpu is None else f" on CPU {gap.cpu}"
        span = f" within {duration(gap.until_ns - gap.from_ns)}" if gap.from_ns else ""
        time = local_time_of_day(gap.timestamp_ns + self._offset)
        records = "record" if gap.count == 1 else "records"
        text = f"{time} gap   {count} {gap.kind or 'event'} {records} lost{where}{span}"
        if self._layout.columns is not None:
            text = cut(text, self._layout.columns)
        self._out.write(f"{_YELLOW}{text}{_RESET}\n" if self._layout.colour else f"{text}\n")

    def flush(self) -> None:
        """Flush, and look at the terminal's size again."""
        self._write_header()
        self._out.flush()
        layout = self._read_layout()
        if layout != self._layout:
            self._layout = layout
            self._columns = _columns_for(layout.columns)

    def _write_header(self) -> None:
        if self._header_due:
            self._header_due = False
            row = self._row({name: name for name, _ in _COLUMNS}, "COMMAND", ["ANCESTRY"])
            self._out.write((f"{_DIM}{row}{_RESET}" if self._layout.colour else row) + "\n")

    def _row(self, cells: dict[str, str], command: str, ancestors: list[str]) -> str:
        fixed = " ".join(
            _right(cells[name], width) if name in _RIGHT else fit(cells[name], width)
            for name, width in self._columns
        )
        columns = self._layout.columns
        if columns is None:
            padding = " " * (_PIPED_COMMAND_WIDTH - cell_len(command))
            return f"{fixed} {command}{padding} {_ARROW.join(ancestors)}".rstrip()
        room = columns - _width_of(self._columns) - 1
        if room < 2:  # noqa: PLR2004 - a cell each
            return cut(fixed, columns)
        command_width = max(int(room * _COMMAND_SHARE), 1)
        shown = _shorten(ancestors, room - command_width)
        return f"{fixed} {fit(command, command_width)} {shown}".rstrip()

    def _ancestors(self, node: PidNode, uncertain: bool) -> list[str]:  # noqa: FBT001 - a flag
        chain = list(lineage(self._tree, node.key))
        # A name with an arrow in it must not pass for two.
        names = [visible(link.cmd).replace(_ARROW, r" \x3c ") for link in chain[1:]]
        last = chain[-1] if chain else node
        if last.ppid not in (0, last.pid):
            names.append("?")
        if uncertain:
            names[-1:] = [" ".join([*names[-1:], "(uncertain)"])]
        return names

    def _coloured(self, row: str, exited: Exit | None) -> str:
        if not self._layout.colour or exited is None:
            return row
        return f"{_RED if exited.status else _DIM}{row}{_RESET}"


def _columns_for(columns: int | None) -> tuple[tuple[str, int], ...]:
    """Return the columns that leave room for command and ancestry."""
    kept: tuple[tuple[str, int], ...] = _COLUMNS
    for name, room in _EXPENDABLE.items():
        if columns is None or _width_of(kept) + room <= columns:
            break
        kept = tuple(column for column in kept if column[0] != name)
    return kept


def _width_of(kept: tuple[tuple[str, int], ...]) -> int:
    return sum(width + 1 for _, width in kept)


def _right(text: str, width: int) -> str:
    return text.rjust(width) if len(text) <= width else fit(text, width)


def _shorten(ancestors: list[str], width: int) -> str:
    """Drop middle ancestors, keeping the nearest ones and the root."""
    # More than this never fits, and joining a deep chain for each row would cost.
    nearest, root = ancestors[:width], ancestors[-1:]
    text = _ARROW.join(nearest)
    if len(nearest) == len(ancestors) and cell_len(text) <= width:
        return text
    while len(nearest) > 1:
        nearest.pop()
        text = _ARROW.join([*nearest, "…", *root])
        if cell_len(text) <= width:
            return text
    return cut(text, width)
