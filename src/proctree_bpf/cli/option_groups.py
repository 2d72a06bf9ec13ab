"""Lets a command take its options in groups: a dataclass each, with a field for each option."""

from __future__ import annotations

import functools
import inspect
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from typer.models import ParameterInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command the options in the dataclasses among its parameters.

    A group is a keyword-only parameter. A field is an option if its annotation says so; other
    fields keep their defaults.
    """
    for each in inspect.signature(command, eval_str=True).parameters.values():
        group: Any = each.annotation
        if isinstance(group, type) and is_dataclass(group):
            command = replacing(command, each.name, list(_options_of(group)), group)
    return command


def replacing(
    command: Callable[..., None],
    name: str,
    options: list[inspect.Parameter],
    make: Callable[..., Any],
) -> Callable[..., None]:
    """Give a typer command options in the place of a parameter that is made of them."""
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += options if parameter.name == name else [parameter]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        made = make(**{option.name: values.pop(option.name) for option in options})
        command(**values, **{name: made})

    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapper


def _options_of(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        told = get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else ()
        if any(isinstance(each, ParameterInfo) for each in told):
            yield option_parameter(field.name, hints[field.name], field.default)


def option_parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Return an option as a parameter of a command."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
