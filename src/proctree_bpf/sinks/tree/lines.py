"""How a process looks in a tree, live and at the end. Pure.

The columns stand before the drawing, so that nothing in it can push them aside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proctree_bpf.core.text import visible
from proctree_bpf.sinks.cells import cell_len, cut, fit
from proctree_bpf.sinks.describe import command_text, exit_colour, exit_text, observed
from proctree_bpf.sinks.layout import DIM, Layout
from proctree_bpf.sinks.wall_time import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from proctree_bpf.sinks.fields import View
    from proctree_bpf.sinks.tree.family import Family, Member

# Beyond this depth the indentation stops and the depth is written: a long line of
# descent would otherwise grow with its square.
DEEPEST = 32
_INDENT = "  "


def _age(member: Member) -> str:
    if member.exit is None or not member.started_ns:
        return ""
    return duration(member.exit.timestamp_ns - member.started_ns)


def _above(member: Member) -> str:
    """Return whom a line says that it belongs below, if that is in the tree."""
    if member.parent is None:
        return ""
    text = f"{visible(member.parent.info.cmd)} {member.parent.key.pid}"
    return f" < {observed(text) if member.observed else text}"


@dataclass(slots=True)
class TreeLines:
    """Makes lines.

    Attributes:
        view: the clock, and how many arguments to show.
        times: which columns of time to begin with: "time", "timestamp".
        layout: how much room there is; changes with the terminal.

    """

    view: View
    times: Sequence[str] = ()
    layout: Layout = field(default_factory=Layout)

    def header(self, *, cpu: bool = False) -> str:
        """Return what stands above the lines."""
        names = {"time": "TIME(UTC)" if self.view.clock.utc else "TIME", "timestamp": "TIME(s)"}
        times = [names[name] for name in self.times]
        fixed = ("PID", "USER", "EXIT", "AGE")
        return self._line(times, fixed, "CPU" if cpu else None, "COMMAND", colour=DIM)

    def live(self, member: Member, at_ns: int, *, astray: bool = False) -> str:
        """Return the line of a process as it is now.

        ``astray`` says that the line will not stand below that of the creator, which it
        then names, as it names one that was only seen as the parent.
        """
        end = "?" if member.ended and member.exit is None else ""
        mark = _above(member) if astray or member.observed else ""
        return self._member(member, at_ns, self._indent(member.depth), mark=mark, end=end)

    def whole(self, family: Family, still_runs: Callable[[Member], bool]) -> Iterator[str]:
        """Yield the lines of the whole tree, drawn with branches."""
        cpu = any(member.info.cpu_ns is not None for member in family.members())
        yield self.header(cpu=cpu)
        # Depth first with a stack of its own: member, depth, prefix of its line, prefix below.
        stack: list[tuple[Member | int, int, str, str]]
        stack = [(root, 0, "", "") for root in reversed(family.roots)]
        deepest = self._deepest()
        while stack:
            member, depth, own, below = stack.pop()
            if isinstance(member, int):
                yield self._more(member, own, cpu=cpu)
                continue
            end = "" if member.exit else "running" if still_runs(member) else "?"
            mark = _above(member) if member.observed else ""
            yield self._member(member, member.began_ns, own, mark=mark, end=end, cpu=cpu)
            kids: list[Member | int] = [*member.children, *([member.more] if member.more else [])]
            for index, kid in enumerate(reversed(kids)):
                branch, bar = ("└─ ", "   ") if index == 0 else ("├─ ", "│  ")
                if depth < deepest:
                    stack.append((kid, depth + 1, below + branch, below + bar))
                else:
                    stack.append((kid, depth + 1, f"{below}{branch}[depth {depth + 1}] ", below))
        if family.more:
            yield self._more(family.more, "", cpu=cpu)

    def _more(self, count: int, branches: str, *, cpu: bool) -> str:
        times = [""] * len(self.times)
        text = f"{branches}… and {count} more"
        return self._line(times, ("", "", "", ""), "" if cpu else None, text)

    def _member(
        self,
        member: Member,
        at_ns: int,
        before: str,
        *,
        mark: str = "",
        end: str = "",
        cpu: bool = False,
    ) -> str:
        clock, info = self.view.clock, member.info
        times = [
            clock.time_of_day(at_ns) if name == "time" else clock.since_start(at_ns)
            for name in self.times
        ]
        spent = (duration(info.cpu_ns) if info.cpu_ns is not None else "") if cpu else None
        fixed = (
            str(member.key.pid),
            visible(info.user),
            exit_text(member.exit.status) if member.exit is not None else end,
            _age(member),
        )
        command = before + command_text(info, self.view.max_args)
        colour = exit_colour(member.exit.status) if member.exit is not None else ""
        return self._line(times, fixed, spent, command, mark=mark, colour=colour)

    def _line(
        self,
        times: Sequence[str],
        fixed: tuple[str, str, str, str],
        cpu: str | None,
        command: str,
        *,
        mark: str = "",
        colour: str = "",
    ) -> str:
        pid, user, end, age = fixed
        columns = ""
        for name, text in zip(self.times, times, strict=True):
            columns += f"{text:<12} " if name == "time" else f"{text:>10} "
        columns += f"{pid:>7} {fit(user, 10)} {end:>8} {age:>7} "
        if cpu is not None:
            columns += f"{cpu:>7} "
        if mark and self.layout.columns is not None:
            # The command gives way: what is astray must say where it belongs.
            room = self.layout.columns - 1 - cell_len(columns) - cell_len(mark)
            command = cut(command, max(room, 1))
        return self.text(columns + command + mark, colour)

    def text(self, text: str, colour: str) -> str:
        """Return a line of this text, cut to the room that there is."""
        if self.layout.columns is not None:
            # The last column stays free: a cursor that waits there behaves oddly.
            text = cut(text, max(self.layout.columns - 1, 1))
        return self.layout.paint(text.rstrip(), colour)

    def _deepest(self) -> int:
        if self.layout.columns is None:
            return DEEPEST
        return min(DEEPEST, max(self.layout.columns // 12, 1))

    def _indent(self, depth: int) -> str:
        deepest = self._deepest()
        return _INDENT * depth if depth <= deepest else f"{_INDENT * deepest}[depth {depth}] "
