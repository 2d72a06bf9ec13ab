"""How a terminal counts width, without the library that the program uses. No test of its own."""

from __future__ import annotations

import unicodedata


def cells(text: str) -> int:
    """Return the columns that printable text takes, as wcwidth(3) counts them."""
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
