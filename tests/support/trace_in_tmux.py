"""``trace`` in a pane of tmux, to look at what it shows."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.tmux import Tmux
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# The program, but of all that the machine does it shows only what has this word among its
# arguments, and what that creates: a pane is too small for the rest.
MARK = "marked"
_ONLY_MARKED = """
import sys
from proctree_bpf.cli import main
from proctree_bpf.cli.tracing import start
from proctree_bpf.core.compact import value_of
from proctree_bpf.core.events import Exec, Exit, Fork
class Marked(start.DescendantSet):
    shown = set()
    def includes(self, event):
        shown, event = self.shown, value_of(event)
        if isinstance(event, Fork):
            (shown.add if event.creator.pid in shown else shown.discard)(event.child.pid)
        elif isinstance(event, Exec) and b"%s" in (event.args_raw or b""):
            shown.add(event.key.pid)
        is_hidden = event.key.pid not in shown
        if isinstance(event, Exit):
            shown.discard(event.key.pid)
        return is_hidden
start.DescendantSet = Marked
main()
"""
# A busy machine leaves the program little time to read.
_ROOMY = ("--perf-pages", "4096")


class TracePane(Tmux):
    """A window of tmux in which ``trace`` runs."""

    def lines(self, *, scrolled: bool = True) -> list[str]:
        """Return what is on the screen, with what has scrolled off above it."""
        begin = ["-S", "-"] if scrolled else []
        return self.tmux("capture-pane", "-p", *begin).split("\n")

    def wait_for_line(self, text: str) -> list[str]:
        """Return the lines once one of them has this in it."""
        lines: list[str] = []

        def is_there() -> bool:
            lines[:] = self.lines()
            return any(text in line for line in lines) or self.rest()

        try:
            wait_until(f"{text!r} is shown", is_there)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last lines are {lines[-20:]}") from error
        return lines

    @staticmethod
    def rest() -> bool:
        """Leave the CPUs to the program for a moment: a look at a pane costs two processes."""
        time.sleep(0.05)
        return False

    def stop(self) -> list[str]:
        """End the trace as a user does and return all that was shown."""
        self.press("C-c")
        return self.wait_for_line("ended with 0")


@contextmanager
def tracing_in_pane(
    *options: str,
    columns: int = 120,
    rows: int = 40,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[TracePane]:
    """Run ``trace`` in a pane; it has started when the block begins.

    ``before`` are words in front of the command.
    """
    program = [sys.executable, "-P", "-c", _ONLY_MARKED % MARK]
    changes = [f"{name}={value}" for name, value in (env or {}).items()]
    trace = shlex.join([*before, "env", *changes, *program, "trace", *_ROOMY, *options])
    with tempfile.TemporaryDirectory() as folder:
        pane = TracePane(Path(folder) / "tmux")
        size = ("-x", str(columns), "-y", str(rows))
        script = f"trap : INT; {trace}; echo ended with $?; exec cat"
        pane.tmux("start-server", ";", "set", "-g", "history-limit", "10000", ";",
                  "set", "-g", "default-terminal", "screen-256color", ";",
                  "new-session", "-d", *size, "sh", "-c", script)  # fmt: skip
        try:
            pane.wait_for_line("tracing with")
            yield pane
        finally:
            pane.tmux("kill-server")
