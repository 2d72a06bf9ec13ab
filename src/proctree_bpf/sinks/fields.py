"""The columns that a table can have: their names, widths and contents. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proctree_bpf.core.events import EVENT_KINDS, Exit
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.describe import command_text, exit_text
from proctree_bpf.sinks.wall_time import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.core.tracker import ProcessEvent
    from proctree_bpf.sinks.wall_time import TraceClock


@dataclass(frozen=True, slots=True)
class View:
    """What the contents of a cell depend on beside the record."""

    clock: TraceClock
    max_args: int | None = None
    max_ancestors: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A column; ``width`` is None if it takes the room that the others leave."""

    header: str
    width: int | None
    text: Callable[[ProcessEvent, View], str]
    right: bool = False


def _age(applied: ProcessEvent, _view: View) -> str:
    return "" if applied.age_ns is None else duration(applied.age_ns)


def _cpu(applied: ProcessEvent, _view: View) -> str:
    cpu_ns = applied.info.cpu_ns
    return "" if cpu_ns is None else duration(cpu_ns)


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


FIELDS = {
    "time": Field("TIME", 12, lambda row, view: view.clock.time_of_day(row.event.timestamp_ns)),
    "timestamp": Field(
        "TIME(s)", 10, lambda row, view: view.clock.since_start(row.event.timestamp_ns), right=True
    ),
    "event": Field("EVENT", 5, lambda row, _view: EVENT_KINDS[type(row.event)]),
    "pid": Field("PID", 7, lambda row, _view: str(row.node.pid), right=True),
    "ppid": Field("PPID", 7, lambda row, _view: str(row.node.kernel_parent.pid), right=True),
    "user": Field("USER", 10, lambda row, _view: visible(row.info.user)),
    "uid": Field("UID", 10, lambda row, _view: _number(row.info.uid), right=True),
    "comm": Field("COMM", 15, lambda row, _view: visible(row.info.cmd)),
    "exit": Field(
        "EXIT",
        8,
        lambda row, _view: exit_text(row.event) if isinstance(row.event, Exit) else "",
        right=True,
    ),
    "age": Field("AGE", 7, _age, right=True),
    "cpu": Field("CPU", 7, _cpu, right=True),
    "cgroup": Field("CGROUP", 10, lambda row, _view: _number(row.info.cgroup_id), right=True),
    "command": Field("COMMAND", None, lambda row, view: command_text(row.info, view.max_args)),
    # Its contents are a list, which the table shortens itself.
    "ancestry": Field("ANCESTRY", None, lambda _row, _view: ""),
}  # fmt: skip
DEFAULT_FIELDS = (
    "time", "event", "pid", "ppid", "user", "comm", "exit", "age", "command", "ancestry",
)  # fmt: skip

# What a narrow terminal goes without, in this order, and how much room command and
# ancestry must have for it to stay. The command shows the name too, so that goes early.
_EXPENDABLE = {
    "comm": 48, "ppid": 30, "age": 30, "user": 30, "exit": 30, "timestamp": 30, "time": 30
}  # fmt: skip


def header_of(name: str, view: View) -> str:
    """Return what stands above a column."""
    return "TIME(UTC)" if name == "time" and view.clock.utc else FIELDS[name].header


def room_beside(names: Sequence[str], columns: int) -> int:
    """Return the cells that the columns of fixed width leave for the others."""
    return columns - sum(FIELDS[name].width or 0 for name in names) - (len(names) - 1)


def that_fit(names: Sequence[str], columns: int | None) -> tuple[str, ...]:
    """Return the columns that leave enough room for command and ancestry."""
    kept = tuple(names)
    for name, room in _EXPENDABLE.items():
        if columns is None or room_beside(kept, columns) + 1 >= room:
            break
        kept = tuple(other for other in kept if other != name)
    return kept
