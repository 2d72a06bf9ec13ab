"""Makes what writes records: from the options, the terminal and the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from proctree_bpf.cli.tracing.display_options import (
    Colour,
    DisplayOptions,
    Format,
    max_ancestors_shown,
)
from proctree_bpf.sinks.fields import View
from proctree_bpf.sinks.jsonl.json_record import RecordOptions
from proctree_bpf.sinks.jsonl.jsonl import JsonlSink
from proctree_bpf.sinks.layout import Layout
from proctree_bpf.sinks.lines.chain import ChainSink
from proctree_bpf.sinks.lines.table import TableSink
from proctree_bpf.sinks.tree.tree import TreeSink
from proctree_bpf.sinks.wall_time import TraceClock
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system import procfs

if TYPE_CHECKING:
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.tracker import Tracker
    from proctree_bpf.sinks.base import Sink
    from proctree_bpf.sinks.tally import Tally
    from proctree_bpf.sources.base import EventSource


class TallyingSink:
    """Hands records on to another sink, and counts each."""

    def __init__(self, sink: Sink, tally: Tally) -> None:
        self._sink = sink
        self._tally = tally
        self.gap, self.flush, self.finish = sink.gap, sink.flush, sink.finish

    def write(self, process_event: ProcessEvent) -> None:
        """Count a record, and hand it on."""
        self._tally.add(process_event)
        self._sink.write(process_event)


def make_clock(display: DisplayOptions, source: EventSource, wall_offset_ns: int) -> TraceClock:
    """Return the clock of a source; a recording has its own."""
    if isinstance(source, ReplaySource):
        wall_offset_ns = source.header.get("wall_offset_ns", wall_offset_ns)
    return TraceClock(wall_offset_ns, display.utc)


def make_sink(
    style: Format,
    display: DisplayOptions,
    out: TextIO,
    tracker: Tracker,
    source: EventSource,
    *,
    clock: TraceClock,
) -> Sink:
    """Return what writes records in a format."""
    tree, cache = tracker.tree, tracker.cache
    max_ancestors = max_ancestors_shown(display.max_ancestors)
    if style is Format.JSONL:
        boot_id = procfs.boot_id()
        if isinstance(source, ReplaySource):
            boot_id = source.header.get("boot_id", "")
        options = RecordOptions(source.name, boot_id, clock.wall_offset_ns, max_ancestors)
        return JsonlSink(out, tree, cache, options)
    if style is Format.CHAIN:
        return ChainSink(out, tree, cache, max_ancestors)
    view = View(clock, display.max_args, max_ancestors)

    def layout() -> Layout:
        return layout_of(out, display.colour, shared=display.shares_terminal)

    if style is Format.TREE:
        return TreeSink(out, tree, view, layout, display.times)
    may_drop = display.fields is None
    return TableSink(out, tree, view, layout, display.columns, may_drop=may_drop)


def wants_colour(out: TextIO, colour: Colour = Colour.AUTO) -> bool:
    """Tell whether to use colours.

    What was asked for decides; then NO_COLOR (no-color.org), FORCE_COLOR
    (force-color.org), each if not empty; then whether it is a terminal that knows them.
    """
    if colour is not Colour.AUTO:
        return colour is Colour.ALWAYS
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return out.isatty() and os.environ.get("TERM") != "dumb"


def layout_of(out: TextIO, colour: Colour, *, shared: bool = False) -> Layout:
    """Return the size of a terminal, without limits if it is none.

    It has rows, so that lines on it are rewritten, if it has a cursor that moves and
    nobody else is known to write there.
    """
    painted = wants_colour(out, colour)
    if not out.isatty():
        return Layout(colour=painted)
    try:
        columns, rows = os.get_terminal_size(out.fileno())
    except OSError:
        columns, rows = 0, 0
    moves = os.environ.get("TERM", "") not in {"", "dumb"} and not shared
    return Layout(columns or 80, painted, (rows or 24) if moves else None)
