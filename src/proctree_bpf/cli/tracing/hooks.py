"""How a trace follows its pipeline: when to stop, and what the user is told meanwhile."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from proctree_bpf.cli.messages import counted, say
from proctree_bpf.cli.tracing.priority import ReaderPriority
from proctree_bpf.cli.tracing.report import say_evicted_living
from proctree_bpf.pipeline_ports import PipelineHooks

if TYPE_CHECKING:
    from proctree_bpf.cli.output.writers import LineWriter
    from proctree_bpf.cli.run.supervisor import CommandSupervisor
    from proctree_bpf.cli.stopping import Stopper
    from proctree_bpf.cli.tracing.options import TraceOptions
    from proctree_bpf.sources.base import Waiting


_STDERR = 2
# What is written sooner than anybody can read of it is not worth a line.
_WORTH_TELLING = 20_000
_EVERY_S = 1.0
# So late may a record be where others want all CPUs: in a file, and before somebody's eyes.
_LATE_NS, _LATE_ON_TERMINAL_NS = 3_000_000_000, 500_000_000


class TraceHooks(PipelineHooks):
    """Ends a trace when it is told to, and tells how it goes."""

    def __init__(
        self,
        stop: Stopper,
        options: TraceOptions,
        out: LineWriter,
        supervisor: CommandSupervisor | None,
    ) -> None:
        self._stop = stop
        self._supervisor = supervisor
        self._priority = ReaderPriority(_LATE_ON_TERMINAL_NS if out.isatty() else _LATE_NS)
        self._backlog = None if options.display.quiet else _Backlog()
        self._capacity = options.collection.capacity

    def check(self) -> None:
        """End what takes its time after a second signal."""
        self._stop.check()

    def is_due(self) -> bool:
        """Tell whether to stop."""
        return self._stop.is_due()

    def before_receiving(self) -> None:
        """Take the CPU: it is for little time."""
        self._priority.before_receiving()

    def before_finishing(self) -> None:
        """Take the CPU: somebody waits for the end."""
        self._priority.before_finishing()

    def before_working(self, waiting: Waiting) -> None:
        """Leave the CPU to others, unless room is short or somebody waits for the end."""
        if self._supervisor is None or not self._supervisor.has_ended:
            self._priority.before_working(waiting)

    def on_backlog(self, events: int) -> None:
        """Tell the user what is left."""
        if self._backlog is not None:
            self._backlog.show(events)

    def on_evicted_living(self) -> None:
        """Tell the user what that means."""
        say_evicted_living(self._capacity)


class _Backlog:
    """A line that says what is left; on a terminal it counts down."""

    def __init__(self) -> None:
        self._is_terminal = os.isatty(_STDERR)
        self._next = 0.0
        self._is_told = False

    def show(self, left: int) -> None:
        """Tell that so many events are left."""
        now = time.monotonic()
        if now < self._next or (not self._is_told and left < _WORTH_TELLING):
            return
        self._next = now + _EVERY_S if self._is_terminal else float("inf")
        self._is_told = True
        say(
            f"stopped; {counted(left, 'event')} from before are still to be written "
            "(a second signal discards them)"
        )
