"""Options that choose how records are shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from proctree_bpf.cli.exits import CliError, ExitCode
from proctree_bpf.sinks.fields import DEFAULT_FIELDS, FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

EVENTS = ("fork", "exec", "exit")
_DEFAULT_EVENTS = ("exec", "exit")
MOST = 1_000_000_000
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


@dataclass(frozen=True, slots=True)
class DisplayOptions:
    """What the user asked to see; what is None was not asked for.

    ``shared`` says that a program which we started writes to our terminal too: then its
    lines must not be taken for ours.
    """

    fields: Sequence[str] | None = None
    time: bool = False
    timestamp: bool = False
    utc: bool = False
    max_args: int | None = None
    max_ancestors: int | None = None
    colour: Colour = Colour.AUTO
    quiet: bool = False
    shared: bool = False

    @property
    def times(self) -> tuple[str, ...]:
        """The columns of time that were asked for by -T and -t."""
        wanted = (("time", self.time), ("timestamp", self.timestamp))
        return tuple(name for name, is_wanted in wanted if is_wanted)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table: -t alone takes the place of the time of day."""
        chosen = self.fields
        if chosen is None:
            chosen = DEFAULT_FIELDS[1:] if self.times else DEFAULT_FIELDS
        return (*(name for name in self.times if name not in chosen), *chosen)

    def check(self, style: Format, events: str | None) -> None:
        """Refuse what would have no effect.

        Raises:
            CliError: an option is not for this format.

        """
        shown = style in {Format.TABLE, Format.TREE}
        refused = (
            ("--fields", self.fields is not None and style is not Format.TABLE, "-f table"),
            ("-T/--time", self.time and not shown, "-f table and -f tree"),
            ("-t/--timestamp", self.timestamp and not shown, "-f table and -f tree"),
            ("--utc", self.utc and not shown, "-f table and -f tree"),
            ("--max-args", self.max_args is not None and not shown, "-f table and -f tree"),
            (
                "--max-ancestors",
                self.max_ancestors is not None and style is Format.TREE,
                "the other formats",
            ),
            ("-e/--events", events is not None and style is Format.TREE, "the other formats"),
        )
        for option, is_refused, where in refused:
            if is_refused:
                raise CliError(
                    f"{option} has no effect with -f {style}: it is for {where}.", ExitCode.USAGE
                )


def split_list(text: str) -> list[str]:
    """Split a list at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def events_of(style: Format, text: str | None) -> list[str]:
    """Return the kinds of event to show; a tree needs them all."""
    if text is not None:
        return split_list(text)
    return list(EVENTS if style is Format.TREE else _DEFAULT_EVENTS)


def most_ancestors(wanted: int | None) -> int:
    """Return how many ancestors to show."""
    return DEFAULT_MAX_ANCESTORS if wanted is None else wanted


def check_events(text: str | None) -> str | None:
    """Check ``--events``."""
    return _check_list(text, EVENTS)


def check_fields(text: str | None) -> str | None:
    """Check ``--fields``."""
    return _check_list(text, FIELDS)


def _check_list(text: str | None, known: Collection[str]) -> str | None:
    if text is not None:
        wanted = split_list(text)
        if not wanted or not set(wanted) <= set(known):
            raise typer.BadParameter(f"choose from {', '.join(known)}, separated by commas")
    return text


# What each option is called and says of itself; typer reads these.
Events = Annotated[
    str | None,
    typer.Option(
        "--events",
        "-e",
        metavar="LIST",
        callback=check_events,
        help="Which of fork,exec,exit to show; exec,exit if not said. A tree has all.",
    ),
]
Fields = Annotated[
    str | None,
    typer.Option(
        "--fields",
        metavar="LIST",
        callback=check_fields,
        help=f"Columns of the table, with commas between them: {', '.join(FIELDS)}.",
    ),
]
Time = Annotated[
    bool,
    typer.Option("--time", "-T", help="Show the time of day; a table does unless told otherwise."),
]
Timestamp = Annotated[
    bool,
    typer.Option(
        "--timestamp",
        "-t",
        help="Show the seconds since the trace began, instead of the time unless -T.",
    ),
]
Utc = Annotated[bool, typer.Option("--utc", help="Show the time of day in UTC.")]
MaxArgs = Annotated[
    int | None,
    typer.Option(
        "--max-args",
        min=0,
        max=MOST,
        metavar="N",
        help="Show so many arguments of a command, then an ellipsis.",
    ),
]
MaxAncestors = Annotated[
    int | None,
    typer.Option(
        "--max-ancestors",
        min=0,
        max=MOST,
        metavar="N",
        help="Show so many ancestors of a process, then an ellipsis; "
        f"{DEFAULT_MAX_ANCESTORS} if not said.",
    ),
]
ColourWhen = Annotated[
    Colour,
    typer.Option(
        "--color",
        help="Colour table and tree; auto heeds NO_COLOR and FORCE_COLOR, then whether "
        "it is a terminal.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Say nothing on stderr but errors and what was lost."),
]
