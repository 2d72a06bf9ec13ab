"""A tree where lines cannot be rewritten: in a file, a pipe, a CI log. Pure.

A line when a process starts, and the same line with its end when it ends; one that
starts and ends within a batch gets only the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.sinks.layout import YELLOW
from proctree_bpf.sinks.tree.lines import DEEPEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.sinks.tree.family import Member
    from proctree_bpf.sinks.tree.lines import TreeLines


class _Note(NamedTuple):
    """What is to be written: a process, or a fixed text."""

    member: Member | None
    text: str = ""


class LogLines:
    """Collects what happens and makes lines of it at each flush.

    A forked process that has not called exec waits until the second flush: mostly it
    does so at once, and then its line names what it runs, not what its creator ran.
    """

    def __init__(self, lines: TreeLines) -> None:
        self._lines = lines
        self._todo: list[_Note] = []
        self._waited: set[Member] = set()
        # The members that a reader takes for the creators of what stands next.
        self._path: list[Member] = []

    def __len__(self) -> int:
        """Return how much waits to be written."""
        return len(self._todo)

    def started(self, member: Member) -> None:
        """Take note of a new process."""
        self._todo.append(_Note(member))

    def ended(self, member: Member) -> None:
        """Take note that a process is over."""
        if member.shown:
            self._todo.append(_Note(member))

    def gap(self, text: str) -> None:
        """Take note of a line about what is missing."""
        self._todo.append(_Note(None, text))

    def flush(self, *, is_last: bool = False) -> str:
        """Return the lines of what was noted; at last also of those that may still call exec."""
        return "".join(f"{line}\n" for line in self._due(patient=not is_last))

    def _due(self, *, patient: bool) -> Iterator[str]:
        waiting: list[Member] = []
        for member, text in self._todo:
            if member is None:
                yield self._lines.text(text, YELLOW)
            elif member.shown:
                if member.ended:
                    yield self._line(member, again=True)
            elif patient and self._may_call_exec(member):
                waiting.append(member)
            else:
                yield from self._with_creators(member)
        self._waited = {member for member in waiting if not member.shown}
        self._todo = [_Note(member) for member in waiting if not member.shown]

    def _may_call_exec(self, member: Member) -> bool:
        return member.info.inherited and not member.ended and member not in self._waited

    def _with_creators(self, member: Member) -> Iterator[str]:
        """Write a process, but first those of its creators that still wait."""
        line = [member]
        while (above := line[-1].parent) is not None and not above.shown:
            line.append(above)
        for one in reversed(line):
            yield self._line(one)

    def _line(self, member: Member, *, again: bool = False) -> str:
        in_place = self._stands_below(member)
        at_ns = member.exit.timestamp_ns if again and member.exit else member.began_ns
        text = self._lines.live(member, at_ns, astray=not in_place and not again)
        member.shown = True
        member.let_go()
        return text

    def _stands_below(self, member: Member) -> bool:
        """Tell whether the next line will be read as the child of its creator."""
        depth = member.depth
        if depth > DEEPEST:  # not told by the indentation
            last, self._path = self._path[-1:], [member]
            return last == [member.parent]
        if depth == 0 or (len(self._path) >= depth and self._path[depth - 1] is member.parent):
            self._path[depth:] = [member]
            return True
        self._path = member.line_of_descent()
        return False
