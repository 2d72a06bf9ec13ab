"""The filter options of ``trace``; most are made from the one table of terms."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proctree_bpf.errors import FilterError
from proctree_bpf.filters.terms import NOT, TERMS, Question, Value, question

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.filters.terms import Term

_PREFIX = "filter_"


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

    def __str__(self) -> str:
        return " ".join(map(str, self.questions))


def with_filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command an option for each term, in the place of its ``questions``."""
    options = [parameter for term in TERMS.values() for parameter in _parameters(term)]
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += options if parameter.name == "questions" else [parameter]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        given = {p.name: values.pop(p.name) for p in options}
        command(**values, questions=_questions(given))

    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _parameters(term: Term) -> list[inspect.Parameter]:
    return [
        _parameter(term.name, term, f"{term.help} --{NOT}{term.name}: all others."),
        _parameter(NOT + term.name, term, f"All except those of --{term.name}."),
    ]


def _parameter(name: str, term: Term, text: str) -> inspect.Parameter:
    hidden = name.startswith(NOT)
    declared: dict[str, Any] = {"help": text, "hidden": hidden, "show_default": False}
    if term.value is Value.NOTHING:
        annotation: Any = Annotated[bool, typer.Option(f"--{name}", **declared)]
        default: Any = False
    else:
        declared["metavar"] = term.value.value
        annotation = Annotated[list[str] | None, typer.Option(f"--{name}", **declared)]
        default = None
    return inspect.Parameter(
        _PREFIX + name.replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=annotation,
    )


def _questions(given: dict[str, Any]) -> tuple[Question, ...]:
    found = []
    for term in TERMS:
        for name in (term, NOT + term):
            value = given[_PREFIX + name.replace("-", "_")]
            if not value:
                continue
            try:
                found.append(question(name, () if value is True else value))
            except FilterError as error:
                raise typer.BadParameter(str(error), param_hint=f"--{name}") from error
    return tuple(found)
