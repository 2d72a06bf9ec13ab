"""The columns that a table can have: their names, widths and contents. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from proctree_bpf.sinks.describe import command_text, exit_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.sinks.wall_time import TraceClock


@dataclass(frozen=True, slots=True)
class View:
    """What the contents of a cell depend on beside the record."""

    clock: TraceClock
    max_args: int | None = None
    max_ancestors: int | None = None


def _nothing(_told: ProcessEvent) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and where its contents come from: ``text`` unless one of the last says it.

    Attributes:
        name: what it is chosen by.
        header: what stands above it.
        width: how wide it is; None if it takes the room that the others leave.
        right: whether it is aligned to the right.
        text: makes its contents of each record.
        of_exits: whether it is for exits only, and the others have nothing here.
        of_status: makes its contents of the status in an exit.
        of_span: returns a span of time in ns, if there is one, and its contents are how long it is.
        of_time: returns what makes its contents of the time.
        of_process: returns what tells its contents of a process, a name or a number; they
            stay while that is what it was. The command is text that can be shown.
        is_own: whether that is another one for nearly every process.
        of_kind: makes its contents of the kind of the event.
        is_handed_in: whether the table itself makes them.

    """

    name: str
    header: str
    width: int | None
    right: bool = False
    text: Callable[[ProcessEvent], str] = _nothing
    of_exits: bool = False
    of_status: Callable[[int | None], str] | None = None
    of_span: Callable[[ProcessEvent], int | None] | None = None
    of_time: Callable[[View], Callable[[int], str]] | None = None
    of_process: Callable[[View], Callable[[TrackedProcess], str | int]] | None = None
    is_own: bool = False
    of_kind: Callable[[str], str] | None = None
    is_handed_in: bool = False


def _age(told: ProcessEvent) -> int | None:
    process = told.process
    began_ns = process.began_ns if process.held_until_ns else process.start_time_ns
    return told.as_received.timestamp_ns - began_ns if began_ns else None


def _cpu(told: ProcessEvent) -> int | None:
    return told.process.cpu_ns


def _cgroup(told: ProcessEvent) -> str:
    return _number(told.process.cgroup_id)


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _ppid(process: TrackedProcess) -> int:
    return process.ppid if process.parent is None else process.parent.pid


def _command_of(view: View) -> Callable[[TrackedProcess], str]:
    return partial(command_text, max_args=view.max_args)


_ALL = (
    Field("time", "TIME", 12, of_time=lambda view: view.clock.time_of_day),
    Field("timestamp", "TIME(s)", 10, right=True, of_time=lambda view: view.clock.since_start),
    Field("event", "EVENT", 5, of_kind=str),
    Field("pid", "PID", 7, right=True, of_process=lambda _: attrgetter("pid"), is_own=True),
    Field("ppid", "PPID", 7, right=True, of_process=lambda _: _ppid),
    Field("user", "USER", 10, of_process=lambda _: attrgetter("user")),
    Field("uid", "UID", 10, right=True, of_process=lambda _: lambda process: _number(process.uid)),
    Field("comm", "COMM", 15, of_process=lambda _: attrgetter("cmd")),
    Field("exit", "EXIT", 8, right=True, of_status=exit_text, of_exits=True),
    Field("age", "AGE", 7, right=True, of_span=_age, of_exits=True),
    Field("cpu", "CPU", 7, right=True, of_span=_cpu),
    Field("cgroup", "CGROUP", 10, right=True, text=_cgroup),
    Field("command", "COMMAND", None, of_process=_command_of, is_own=True),
    # Its contents are a list, which the table shortens itself.
    Field("ancestry", "ANCESTRY", None, is_handed_in=True),
)
FIELDS = {field.name: field for field in _ALL}
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
