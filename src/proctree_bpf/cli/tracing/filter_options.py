"""The filter options of ``trace``; most are made from the one table of terms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proctree_bpf.cli.option_groups import option_parameter, replacing
from proctree_bpf.errors import FilterError
from proctree_bpf.filters.terms import NOT, TERMS, Question, Value, question

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Iterator

    from proctree_bpf.filters.terms import Term


class FilterIn(StrEnum):
    """Where to filter."""

    AUTO = "auto"
    KERNEL = "kernel"
    USER = "user"


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """What the filter options asked for."""

    include_self: Annotated[
        bool, typer.Option(help="Whether the ancestor that --ancestor names is shown itself.")
    ] = True
    by_parent: Annotated[
        bool,
        typer.Option(
            "--by-parent", help="Ancestors are the kernel's present parents, not the creators."
        ),
    ] = False
    filter_in: Annotated[
        FilterIn,
        typer.Option(
            help="Where ancestry is decided. auto: in the kernel if it can decide this filter, "
            "else in user space."
        ),
    ] = FilterIn.AUTO
    questions: tuple[Question, ...] = ()


def with_filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command an option for each term, in the place of its ``questions``."""
    return replacing(command, "questions", list(_options()), _questions)


def _options() -> Iterator[inspect.Parameter]:
    for term in TERMS.values():
        yield _option(term.name, term, f"{term.help} --{NOT}{term.name}: all others.")
        yield _option(NOT + term.name, term, f"All except those of --{term.name}.", hidden=True)


def _option(name: str, term: Term, text: str, *, hidden: bool = False) -> inspect.Parameter:
    option = typer.Option(
        f"--{name}", metavar=term.value.value or None, help=text, hidden=hidden, show_default=False
    )
    if term.value is Value.NOTHING:
        return option_parameter(_parameter(name), Annotated[bool, option], default=False)
    return option_parameter(_parameter(name), Annotated[list[str] | None, option], default=None)


def _parameter(name: str) -> str:
    return f"filter_{name.replace('-', '_')}"


def _questions(**given: Any) -> tuple[Question, ...]:
    found = []
    for term in TERMS:
        for name in (term, NOT + term):
            value = given[_parameter(name)]
            if not value:
                continue
            try:
                found.append(question(name, () if value is True else value))
            except FilterError as error:
                raise typer.BadParameter(str(error), param_hint=f"--{name}") from error
    return tuple(found)
