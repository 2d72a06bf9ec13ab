"""A real terminal, as tmux has it: keys go in, what a person would see comes out."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.program import environment
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COLUMNS, ROWS = 100, 40
_POLL_S = 0.03


class Tmux:
    """One window of a tmux server of our own."""

    def __init__(self, socket: Path) -> None:
        self._words = ["tmux", "-S", str(socket), "-f", os.devnull]

    def tmux(self, *words: str) -> str:
        """Run a tmux command; return what it says."""
        command = [*self._words, *words]
        return subprocess.run(
            command, check=True, capture_output=True, encoding="utf-8", env=environment()
        ).stdout

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        self.tmux("send-keys", "-l", line)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names, such as C-c."""
        self.tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def shown(self) -> str:
        """Return all that was shown, lines that have scrolled away included."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until a pattern is shown; ``^`` and ``$`` are a line's ends."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            shown = self.shown()
            found = re.search(pattern, shown, re.MULTILINE)
            if found:
                return found
            assert time.monotonic() < deadline, f"{pattern!r} is not in:\n{shown.rstrip()}"
            time.sleep(_POLL_S)


@contextmanager
def terminal(command: Sequence[str]) -> Iterator[Tmux]:
    """Run a command in a terminal; all that is left in it is hung up at the end."""
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-tmux-") as directory:
        window = Tmux(Path(directory) / "socket")
        window.tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), *command)
        try:
            yield window
        finally:
            window.tmux("kill-server")
