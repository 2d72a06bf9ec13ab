"""How many terminal cells text takes. Pure.

Counted as wcwidth(3) of glibc does. Libraries that join grapheme clusters count fewer for
some scripts, and a terminal that does not join them would then get rows that are too long.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache


@lru_cache(maxsize=4096)
def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def cell_len(text: str) -> int:
    """Return the cells that printable text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def fit(text: str, width: int) -> str:
    """Pad or cut printable text to exactly ``width`` cells."""
    size = cell_len(text)
    if size <= width:
        return text + " " * (width - size)
    if text.isascii():
        return text[: width - 1] + "…"
    used = 0
    for index, char in enumerate(text):
        used += _width(char)
        if used > width - 1:
            kept = text[:index]
            return kept + " " * (width - 1 - cell_len(kept)) + "…"
    return text


def cut(text: str, width: int) -> str:
    """Cut printable text to at most ``width`` cells."""
    return text if cell_len(text) <= width else fit(text, width).rstrip()
