"""A tree where lines can be rewritten: on a terminal. Pure.

Of what is on the screen, the last lines are ours, as long as nobody else writes there:
one less than the terminal has, because the cursor stands below them. At each flush, the
first of them that is out of date is looked for, and from there on everything is written
anew. What has left the screen, or was there when the terminal changed its width (which
breaks lines again), is never touched: a process whose line is there gets another one
when it ends.

Another program that writes to the same terminal shifts our lines, unseen by us. Then a
line may stand twice or that program's text be overwritten; nothing of the tree is lost,
because rewriting goes down to the last line. Whoever shares the terminal with the traced
program should have no rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proctree_bpf.sinks.layout import YELLOW

if TYPE_CHECKING:
    from proctree_bpf.sinks.tree.family import Member
    from proctree_bpf.sinks.tree.lines import TreeLines

# Nothing wraps while we write, however wide the terminal takes a character to be.
_BEGIN, _END = "\x1b[?7l\r", "\x1b[?7h"
_CLEAR_BELOW = "\x1b[J"


@dataclass(slots=True, eq=False)
class _Line:
    """A line: of a process, or with a fixed text."""

    member: Member | None
    text: str = ""
    astray: bool = False
    at_ns: int = 0
    last: bool = False
    """It says that a process has ended whose first line cannot be rewritten."""
    drawn: str | None = None
    """What stands on the screen; None if it was not drawn yet."""
    tells_end: bool = False
    """Whether the process had ended when it was drawn."""

    @property
    def depth(self) -> int:
        return 0 if self.member is None else self.member.depth


class ScreenLines:
    """Keeps the last lines of the screen in step with the tree."""

    def __init__(self, lines: TreeLines) -> None:
        self._lines = lines
        self._ours: list[_Line] = []
        self._columns = lines.layout.columns
        self._fresh = 0

    def __len__(self) -> int:
        """Return how much waits to be written."""
        return self._fresh

    def started(self, member: Member) -> None:
        """Put a new process below its creator if that is on the screen, else at the end."""
        parent = member.parent
        index = None if parent is None else self._place_below(parent)
        astray = parent is not None and index is None
        line = _Line(member, astray=astray, at_ns=member.began_ns)
        self._ours.insert(len(self._ours) if index is None else index, line)
        self._fresh += 1
        member.shown = member.open = True

    def ended(self, member: Member) -> None:
        """Say in another line that a process has ended, if its own cannot be rewritten."""
        if not member.open and member.exit is not None:
            self._append(_Line(member, at_ns=member.exit.timestamp_ns, last=True))

    def gap(self, text: str) -> None:
        """Add a line about what is missing."""
        self._append(_Line(None, text))

    def flush(self, *, is_last: bool = False) -> str:  # noqa: ARG002 - as of LogLines
        """Return what makes the screen show the tree as it is now."""
        layout = self._lines.layout
        if layout.columns != self._columns:
            self._columns = layout.columns
            self._close(len(self._ours))
        limit = max((layout.rows or 1) - 1, 0)
        self._close(sum(line.drawn is not None for line in self._ours) - limit)
        shown = self._draw()
        self._fresh = 0
        scrolled_off = max(len(self._ours) - limit, 0)
        for line in self._ours[:scrolled_off]:
            self._leave(line)
        del self._ours[:scrolled_off]
        return shown

    def _append(self, line: _Line) -> None:
        self._ours.append(line)
        self._fresh += 1

    def _place_below(self, parent: Member) -> int | None:
        """Return where a new child belongs: behind the creator and all that is below it."""
        ours = self._ours
        for index in range(len(ours) - 1, -1, -1):
            member = ours[index].member
            if member is None or (member is not parent and member.parent is not parent):
                continue
            index += 1  # noqa: PLW2901 - behind it
            while index < len(ours) and ours[index].depth > member.depth:
                index += 1  # noqa: PLW2901 - and behind what is below it
            return index
        return None

    def _draw(self) -> str:
        texts = [self._text(line) for line in self._ours]
        stale = (at for at, line in enumerate(self._ours) if line.drawn != texts[at])
        first = next(stale, None)
        if first is None:
            return ""
        up = sum(line.drawn is not None for line in self._ours[first:])
        for line, text in zip(self._ours[first:], texts[first:], strict=True):
            line.drawn = text
            line.tells_end = line.member is not None and line.member.ended
        move = f"\x1b[{up}A" if up else ""
        return f"{_BEGIN}{move}{_CLEAR_BELOW}" + "\n".join(texts[first:]) + f"\n{_END}"

    def _text(self, line: _Line) -> str:
        if line.member is None:
            return self._lines.text(line.text, YELLOW)
        if line.drawn is not None and line.last:
            return line.drawn
        return self._lines.live(line.member, line.at_ns, astray=line.astray)

    def _close(self, count: int) -> None:
        """Give up the first so many of the lines that were drawn."""
        closed = [line for line in self._ours if line.drawn is not None][: max(count, 0)]
        for line in closed:
            self._ours.remove(line)
            self._leave(line)
            if line.member is not None and line.member.ended and not line.tells_end:
                self.ended(line.member)

    @staticmethod
    def _leave(line: _Line) -> None:
        if line.member is not None:
            line.member.open = False
            if line.tells_end:
                line.member.let_go()
