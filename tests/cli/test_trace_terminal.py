"""A table in a real terminal: its width, its colours, and what it lets through."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.program import PROGRAM, environment
from support.screen import cells
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel

_COLOUR = re.compile(r"\x1b\[\d+m")


class Terminal:
    """A terminal in which the program runs, and what it has shown."""

    def __init__(self, columns: int) -> None:
        self._ours, self.theirs = os.openpty()
        self.shown = bytearray()
        self.resize(columns)

    def resize(self, columns: int) -> None:
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def read_until(self, what: bytes) -> None:
        """Read until it is shown; a busy machine shows megabytes of other things."""
        deadline = time.monotonic() + PATIENCE_S
        searched = 0
        while self.shown.find(what, searched) < 0:
            assert time.monotonic() < deadline, f"{what!r} is not in {self.shown!r}"
            searched = max(len(self.shown) - len(what), 0)
            self._read(0.1)

    def read_to_end(self, process: subprocess.Popen[bytes]) -> str:
        while process.poll() is None or self._read(0):
            self._read(0.05)
        assert process.returncode == 0
        return self.shown.decode()

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self.shown += os.read(self._ours, 65_536)
        return True

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@contextmanager
def table_in_terminal(
    columns: int, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    terminal = Terminal(columns)
    try:
        process = subprocess.Popen(
            [*PROGRAM, "trace", *options],
            stdin=subprocess.DEVNULL,
            stdout=terminal.theirs,
            stderr=subprocess.DEVNULL,
            env=environment(env),
        )
        try:
            terminal.read_until(b"TIME ")
            yield terminal, process
        finally:
            process.kill()
            process.wait()
    finally:
        terminal.close()


def rows(text: str) -> list[str]:
    """Return the lines of a terminal without their colours."""
    assert text.endswith("\r\n")
    return [_COLOUR.sub("", line) for line in text.split("\r\n")[:-1]]


def show(columns: int, words: Sequence[str | bytes], env: Mapping[str, str] | None = None) -> str:
    """Run a command while a table is shown, and return all that was shown."""
    with table_in_terminal(columns, env=env) as (terminal, process):
        with subprocess.Popen(words) as shown:
            pass
        terminal.read_until(b"exit  %7d " % shown.pid)
        process.send_signal(signal.SIGINT)
        return terminal.read_to_end(process)


_LONG = ["sh", "-c", "exit 3", "w" * 300, "\u6f22" * 100, "e\u0301" * 100]


@pytest.mark.parametrize("columns", [80, 100, 133, 200])
def test_no_row_is_wider_than_the_terminal(columns: int) -> None:
    shown = rows(show(columns, _LONG))
    assert {row: cells(row) for row in shown if cells(row) > columns} == {}


def test_a_row_uses_the_width_there_is() -> None:
    shown = rows(show(200, _LONG))
    assert any("w" * 40 in row for row in shown)


def test_a_resized_window_is_noticed() -> None:
    with table_in_terminal(220) as (terminal, process):
        with subprocess.Popen(_LONG) as wide:
            pass
        terminal.read_until(b"exit  %7d " % wide.pid)
        terminal.resize(120)
        # The new size counts from the second batch on, so wait for a batch in between.
        for _ in range(2):
            with subprocess.Popen(_LONG) as narrow:
                pass
            terminal.read_until(b"exit  %7d " % narrow.pid)
        process.send_signal(signal.SIGINT)
        shown = rows(terminal.read_to_end(process))
    assert max(cells(row) for row in shown if f"{wide.pid:>7} " in row) > 120
    assert all(cells(row) <= 120 for row in shown if f"exit  {narrow.pid:>7} " in row)


def test_a_failure_is_coloured_and_no_color_is_heeded() -> None:
    assert "\x1b[31m" in show(200, ["sh", "-c", "exit 3"])
    assert "\x1b" not in show(200, ["sh", "-c", "exit 3"], {"NO_COLOR": "1"})


def test_a_dumb_terminal_gets_no_colours() -> None:
    assert "\x1b" not in show(200, ["sh", "-c", "exit 3"], {"TERM": "dumb"})


def test_names_and_arguments_cannot_drive_the_terminal(tmp_path: Path) -> None:
    hostile = tmp_path / os.fsdecode(b"\x1b]0;\x07\xe2\x80\xae\n\r\xc2\x9b")
    hostile.symlink_to("/bin/sh")
    words = [
        os.fsencode(hostile),
        b"-c",
        b"exit 3",
        b"\x1b[2J\x1b[H\xe2\x80\xae\r\n\x08\xc2\x9b31m\xff",
    ]
    text = show(400, words)
    assert "\x1b" not in _COLOUR.sub("", text)
    assert all(row.isprintable() for row in rows(text))
    assert r"\x1b[2J" in text
