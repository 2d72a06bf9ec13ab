"""The options of ``trace`` that choose how records are shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proctree_bpf.cli.errors import CliError, ExitCode
from proctree_bpf.sinks.fields import DEFAULT_FIELDS, FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection

EVENTS = ("fork", "exec", "exit")
_DEFAULT_EVENTS = ("exec", "exit")
MAX_COUNT = 1_000_000_000
"""More than there can be of anything that a number is asked for."""
DEFAULT_MAX_ANCESTORS = 64
"""Deeper than honest programs go; without a limit, a deep chain would fill the disk."""


class Format(StrEnum):
    """The formats of ``trace``."""

    TABLE = "table"
    TREE = "tree"
    JSONL = "jsonl"
    CHAIN = "chain"


class Colour(StrEnum):
    """When to use colours."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class NameList(tuple[str, ...]):
    """Names that were given as a list with commas."""

    __slots__ = ()


def _names(text: str, known: Collection[str]) -> NameList:
    names = NameList(name.strip() for name in text.split(",") if name.strip())
    if not names or not set(names) <= set(known):
        raise typer.BadParameter(f"choose from {', '.join(known)}, separated by commas")
    return names


def _parse_events(text: str) -> NameList:
    return _names(text, EVENTS)


def _parse_fields(text: str) -> NameList:
    return _names(text, FIELDS)


def number(metavar: str, least: int, most: int, text: str, **how: Any) -> Any:
    """Declare an option that takes a number within these bounds."""
    return typer.Option(metavar=metavar, min=least, max=most, help=text, **how)


MaxAncestors = Annotated[
    int | None,
    number(
        "N", 0, MAX_COUNT, "Show the N nearest ancestors of a process, and '…' for the rest.",
        show_default=str(DEFAULT_MAX_ANCESTORS),
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class DisplayOptions:
    """What the user asked to see; what is None was not asked for.

    ``shares_terminal`` says that a program which we started writes to our terminal too: then
    its lines must not be taken for ours.
    """

    events: Annotated[
        NameList | None,
        typer.Option(
            "--events", "-e", metavar="LIST", parser=_parse_events,
            show_default=",".join(_DEFAULT_EVENTS),
            help="The events to show, separated by commas: fork, exec, exit. A tree shows all.",
        ),
    ] = None  # fmt: skip
    fields: Annotated[
        NameList | None,
        typer.Option(
            metavar="LIST", parser=_parse_fields,
            help=f"The columns of the table, separated by commas: {', '.join(FIELDS)}.",
        ),
    ] = None  # fmt: skip
    time: Annotated[
        bool, typer.Option("--time", "-T", help="Show the time of day, as a table does by default.")
    ] = False
    timestamp: Annotated[
        bool,
        typer.Option(
            "--timestamp", "-t",
            help="Show the seconds since the trace began, instead of the time of day unless "
            "-T is given too.",
        ),
    ] = False  # fmt: skip
    utc: Annotated[bool, typer.Option("--utc", help="Show the time of day in UTC.")] = False
    max_args: Annotated[
        int | None,
        number("N", 0, MAX_COUNT, "Show the first N arguments of a command, and '…' for the rest."),
    ] = None
    max_ancestors: MaxAncestors = None
    colour: Annotated[
        Colour,
        typer.Option(
            "--color", help="Colour the table and the tree. auto: as NO_COLOR or FORCE_COLOR "
            "says, else on a terminal.",
        ),
    ] = Colour.AUTO  # fmt: skip
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Write nothing to stderr except errors and what was lost."
        ),
    ] = False
    shares_terminal: bool = False

    def events_of(self, style: Format) -> tuple[str, ...]:
        """Return the kinds of event to show; a tree needs them all."""
        if self.events is not None:
            return self.events
        return EVENTS if style is Format.TREE else _DEFAULT_EVENTS

    @property
    def times(self) -> tuple[str, ...]:
        """The columns of time that were asked for by -T and -t."""
        wanted = (("time", self.time), ("timestamp", self.timestamp))
        return tuple(name for name, is_wanted in wanted if is_wanted)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table: -t alone takes the place of the time of day."""
        chosen: tuple[str, ...] | None = self.fields
        if chosen is None:
            chosen = DEFAULT_FIELDS[1:] if self.times else DEFAULT_FIELDS
        return (*(name for name in self.times if name not in chosen), *chosen)

    def check(self, style: Format) -> None:
        """Refuse an option that has no effect with this format, by a CliError."""
        shown = style in {Format.TABLE, Format.TREE}
        tree = style is Format.TREE
        refused = (
            ("--fields", self.fields is not None and style is not Format.TABLE, "-f table"),
            ("-T/--time", self.time and not shown, "-f table and -f tree"),
            ("-t/--timestamp", self.timestamp and not shown, "-f table and -f tree"),
            ("--utc", self.utc and not shown, "-f table and -f tree"),
            ("--max-args", self.max_args is not None and not shown, "-f table and -f tree"),
            ("--max-ancestors", self.max_ancestors is not None and tree, "the other formats"),
            ("-e/--events", self.events is not None and tree, "the other formats"),
        )
        for option, is_refused, where in refused:
            if is_refused:
                raise CliError(
                    f"{option} has no effect with -f {style}; it is for {where}.", ExitCode.USAGE
                )


def max_ancestors_shown(wanted: int | None) -> int:
    """Return how many ancestors to show."""
    return DEFAULT_MAX_ANCESTORS if wanted is None else wanted
