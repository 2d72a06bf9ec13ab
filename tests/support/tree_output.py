"""A tree sink, made-up processes, and the lines that it shows of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from proctree_bpf.sinks.fields import View
from proctree_bpf.sinks.layout import Layout
from proctree_bpf.sinks.tree.tree import TreeSink
from proctree_bpf.sinks.wall_time import TraceClock
from support.made_up_processes import MadeUpProcesses
from support.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf import ProcessEvent
    from proctree_bpf.sinks.tree.family import Family


class TreeOutput:
    """Shows records as a tree: as lines, or with ``rows`` on a screen."""

    def __init__(
        self,
        columns: int | None = None,
        rows: int | None = None,
        *,
        max_args: int | None = None,
        times: Sequence[str] = (),
        colour: bool = False,
        family: Family | None = None,
    ) -> None:
        self.scene = MadeUpProcesses()
        self.layout = Layout(columns, colour, rows)
        self.clock = TraceClock(0, utc=True)
        self.out = io.StringIO()
        view = View(self.clock, max_args)
        self.sink = TreeSink(
            self.out, self.scene.tree, view, lambda: self.layout, times, family=family
        )
        self.screen = Screen(rows or 0, columns or 1_000_000)
        self._read = 0

    def show(self, *shown: ProcessEvent) -> list[str]:
        """Take a batch; return the lines there are, without the header."""
        for process_event in shown:
            self.sink.write(process_event)
        self.sink.flush()
        return self.lines()[1:]

    def end(self) -> list[str]:
        """Return the lines of the whole tree, without its header."""
        self.sink.finish()
        lines = self.lines()
        return lines[lines.index("") + 2 :] if "" in lines else []

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size; it does not break lines again."""
        self.layout = Layout(columns, self.layout.colour, rows)
        self.screen.columns, self.screen.rows = columns, rows

    def lines(self) -> list[str]:
        """Return all lines as they stand there, also those that have scrolled off."""
        text = self.out.getvalue()
        self.screen.show(text[self._read :])
        self._read = len(text)
        *lines, cursor = self.screen.lines
        assert cursor == ""
        return lines
