"""A table of made-up processes, and its rows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from proctree_bpf.sinks.fields import DEFAULT_FIELDS, View
from proctree_bpf.sinks.layout import Layout
from proctree_bpf.sinks.lines.table import TableSink
from proctree_bpf.sinks.wall_time import TraceClock
from support.made_up_processes import SECOND_NS, MadeUpProcesses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf import ProcessEvent

_WALL_NS = 1_767_323_045 * SECOND_NS


class Page:
    """A table sink and the scene that it shows."""

    def __init__(
        self,
        columns: int | None = None,
        *,
        colour: bool = False,
        fields: Sequence[str] = DEFAULT_FIELDS,
        max_args: int | None = None,
    ) -> None:
        self.scene = MadeUpProcesses()
        self.layout = Layout(columns, colour)
        self.out = io.StringIO()
        self.clock = TraceClock(_WALL_NS, utc=True)
        self.sink = TableSink(
            self.out,
            self.scene.tree,
            View(self.clock, max_args),
            lambda: self.layout,
            fields,
            may_drop=fields is DEFAULT_FIELDS,
        )

    def show(self, *shown: ProcessEvent) -> list[str]:
        """Return the rows of these records, without the header."""
        for process_event in shown:
            self.sink.write(process_event)
        self.sink.flush()
        return self.lines()[1:]

    def lines(self) -> list[str]:
        text = self.out.getvalue()
        assert text == "" or text.endswith("\n")
        return text.split("\n")[:-1]
