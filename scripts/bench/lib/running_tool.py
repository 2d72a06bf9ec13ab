"""A tool that traces while something else happens: started, waited for, stopped as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from figures import NotRunError
from proc_looks import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PATIENCE_S = 60.0
_STOP_PATIENCE_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


def wait_for(what: str, condition: Callable[[], bool], seconds: float = _PATIENCE_S) -> None:
    """Poll until something holds.

    Raises:
        RuntimeError: it never did.

    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.002)


def last_line(path: Path) -> str:
    """Return the last line of what a tool has said."""
    lines = path.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


class Tool:
    """A running tool.

    Attributes:
        ready_s: seconds from its start until it traced.
        ready_bytes: its resident memory then.
        cpu_s: CPU seconds since then; once stopped, to its end.
        stop_s: seconds from SIGINT to its end.
        status: its exit status, once it has ended.
        peak_bytes: its resident memory at its highest, as last seen; once stopped.

    """

    def __init__(self, command: Sequence[str], out: Path, err: Path) -> None:
        self.err = err
        self.ready_s = self.cpu_s = self.stop_s = 0.0
        self.ready_bytes = self.peak_bytes = 0
        self._before_s = 0.0
        self.status: int | None = None
        self._begun = time.monotonic()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )

    @property
    def pid(self) -> int:
        """Its PID."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Tell whether it is gone; its resources are noted then."""
        if self.status is None:
            self.peak_bytes = memory(self.pid)[1] or self.peak_bytes
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = self.status = os.waitstatus_to_exitcode(status)
                self.cpu_s = usage.ru_utime + usage.ru_stime - self._before_s
        return self.status is not None

    def await_ready(self, ready: Callable[[], bool]) -> None:
        """Wait until it traces.

        Raises:
            NotRunError: it ended instead.

        """
        wait_for("it begins to trace", lambda: ready() or self.has_ended())
        if self.has_ended():
            raise NotRunError(f"it ended at once: {last_line(self.err)}")
        self.ready_s = time.monotonic() - self._begun
        self.ready_bytes = self.resident_bytes()
        self._before_s = self.cpu_now_s()

    def cpu_now_s(self) -> float:
        """Return the CPU seconds that it has taken since its start."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
        return sum(map(int, fields.split()[11:13])) / _TICKS

    def resident_bytes(self) -> int:
        """Return its resident memory now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C, and do not wait."""
        self._process.send_signal(signal.SIGINT)

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        begun = time.monotonic()
        self.press_ctrl_c()
        wait_for("it ends", self.has_ended, _STOP_PATIENCE_S)
        self.stop_s = time.monotonic() - begun

    def kill(self) -> None:
        """End it, if it is still there."""
        if not self.has_ended():
            self._process.kill()
            wait_for("it is gone", self.has_ended)


@contextmanager
def tool(command: Sequence[str], out: Path, err: Path) -> Iterator[Tool]:
    """Start a tool; it is gone in the end, whatever happens."""
    running = Tool(command, out, err)
    try:
        yield running
    finally:
        running.kill()


def says_it_traces(err: Path) -> Callable[[], bool]:
    """Return what tells whether proctree-bpf has said that it traces."""
    return lambda: b": tracing with" in err.read_bytes()
