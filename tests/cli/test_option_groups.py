"""A command that takes its options in groups, each a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from typer.testing import CliRunner

from proctree_bpf.cli.option_groups import with_option_groups

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Size:
    """Two options, and a field that is none."""

    width: Annotated[int, typer.Option(min=1, help="How wide.")] = 80
    height: Annotated[int | None, typer.Option("--height", "-h", help="How high.")] = None
    unit: str = "rows"


@dataclass(frozen=True)
class Look:
    """One more."""

    bold: Annotated[bool, typer.Option("--bold", help="Whether it is bold.")] = False


def program(taken: list[object]) -> Callable[..., object]:
    app = typer.Typer()

    def command(
        name: Annotated[str, typer.Argument(help="What to draw.")],
        *,
        size: Size,
        look: Look,
        loud: Annotated[bool, typer.Option("--loud", help="Whether it is loud.")] = False,
    ) -> None:
        taken.extend((name, size, look, loud))

    app.command()(with_option_groups(command))
    return lambda *words: CliRunner().invoke(app, words)


def test_what_is_not_said_is_the_default_of_its_field() -> None:
    taken: list[object] = []
    program(taken)("box")
    assert taken == ["box", Size(80, None, "rows"), Look(bold=False), False]


def test_each_option_goes_into_the_group_that_it_is_of() -> None:
    taken: list[object] = []
    program(taken)("--bold", "box", "-h", "3", "--width", "9", "--loud")
    assert taken == ["box", Size(9, 3, "rows"), Look(bold=True), True]


def test_a_field_that_is_no_option_cannot_be_given() -> None:
    taken: list[object] = []
    result = program(taken)("box", "--unit", "miles")
    assert (result.exit_code, taken) == (2, [])  # type: ignore[attr-defined]


def test_help_has_them_in_the_order_of_the_groups() -> None:
    text = program([])("--help").output  # type: ignore[attr-defined]
    places = [text.index(option) for option in ("--width", "--height", "--bold", "--loud")]
    assert places == sorted(places)
