"""A command on a terminal of its own, as a person has it: what it shows, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE = (50, 220)
"""Lines and columns: wide enough that nothing is cut."""
_CHUNK = 65536


class Terminal:
    """Runs a command for the time of a context, at the end of which it is killed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._fd, inner = pty.openpty()
        termios.tcsetwinsize(self._fd, _SIZE)
        # "dumb": without colours. It leads a session that has this terminal, so Ctrl-C reaches it.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=os.environ | {"TERM": "dumb"},
        )
        os.close(inner)
        self._shown = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._fd)

    def text(self) -> str:
        """Return what was shown so far."""
        return self._shown.decode(errors="replace").replace("\r", "")

    def wait_for(self, pattern: str, limit_s: float) -> bool:
        """Wait until the pattern is found in what was shown; tell whether it was."""
        deadline = time.monotonic() + limit_s
        while not re.search(pattern, self.text()):
            if not self._read(deadline):
                return False
        return True

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._fd, b"\x03")

    def end(self, limit_s: float) -> int | None:
        """Wait for the end; return the exit status, or None if there was no end."""
        deadline = time.monotonic() + limit_s
        while self._read(deadline):
            pass
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None

    def _read(self, deadline: float) -> bool:
        """Take in more; tell whether there was more before the deadline and the end."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
        try:
            more = os.read(self._fd, _CHUNK) if ready else b""
        except OSError:  # nobody has the other side open any more
            more = b""
        self._shown += more
        return bool(more)
