"""What the place that text goes to can show. Values only."""

from __future__ import annotations

from dataclasses import dataclass

RED, YELLOW, DIM, RESET = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Layout:
    """How much room there is.

    Attributes:
        columns: width of the terminal, or None if nothing may be cut.
        colour: whether to use colours.
        rows: height of the terminal, if lines on it may be rewritten; else None.

    """

    columns: int | None = None
    colour: bool = False
    rows: int | None = None

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour, if there are colours."""
        return f"{colour}{text}{RESET}" if self.colour and colour else text
