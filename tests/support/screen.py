"""What a terminal makes of text, without the code that the program uses."""

from __future__ import annotations

import re
import unicodedata

# All that the program may send to a terminal beside printable text: colours, the cursor
# so many lines up, clearing below it, wrapping off and on.
_SEQUENCE = re.compile(r"\x1b\[(?:(\d+)m|(\d+)A|(J)|\?7[lh])|\r|\n")


def cells(text: str) -> int:
    """Return the columns that printable text takes, as wcwidth(3) counts them."""
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class Screen:
    """A terminal: what has scrolled off, and below it what can still be reached."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.lines = [""]
        """All lines ever, the cursor's last."""
        self._at = 0

    def show(self, text: str) -> None:
        """Take text; fail on anything that is neither printable nor an allowed sequence."""
        end = 0
        for match in _SEQUENCE.finditer(text):
            self._print(text[end : match.start()])
            end = match.end()
            self._obey(match)
        self._print(text[end:])

    def _print(self, text: str) -> None:
        assert text.isprintable(), ascii(text)
        line = self.lines[self._at] + text
        assert cells(line) < self.columns, "the line reaches the last column"
        self.lines[self._at] = line

    def _obey(self, match: re.Match[str]) -> None:
        _colour, up, clear = match.groups()
        if match[0] == "\n":
            self._at += 1
            if self._at == len(self.lines):
                self.lines.append("")
        elif up:
            top = max(len(self.lines) - self.rows, 0)
            assert self._at - int(up) >= top, "the line has scrolled off"
            self._at -= int(up)
        elif clear:
            assert match.string[: match.start()].rpartition("\n")[2].count("\r"), "column unknown"
            del self.lines[self._at + 1 :]
            self.lines[self._at] = ""
