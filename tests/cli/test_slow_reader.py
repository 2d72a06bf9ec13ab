"""A reader that is slow, or does not read at all: whole lines, and an end."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.program import Trace, json_lines, tracing
from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What the test does, and nothing that the rest of the machine does.
_OURS = (
    "-f",
    "jsonl",
    "-e",
    "fork,exec,exit",
    "--source",
    "bpf",
    "--ancestor-pid",
    str(os.getpid()),
)
# What the program itself has, some room for a busy machine, and not the minutes of before.
_BOUND_S = 15.0
# Less than that waits where the trace, which leaves the CPU to others, has not come to it yet: it
# stops at some 26 KB of a pipe of 64.
_MUCH = 20_000


def unread(read: int) -> int:
    """Return how many bytes wait in a pipe."""
    (count,) = struct.unpack("i", fcntl.ioctl(read, termios.FIONREAD, bytes(4)))
    return int(count)


def fill(trace: Trace, read: int) -> None:
    """Let so much happen that the trace waits for its reader."""

    def takes_no_more() -> bool:
        before = unread(read)
        for _ in range(10):
            subprocess.run(["true", "x" * 500], check=True)
        time.sleep(0.1)  # several of its rounds
        return unread(read) == before > _MUCH or trace.process.poll() is not None

    wait_until("the trace waits for its reader", takes_no_more, 3 * PATIENCE_S)


def rest(read: int) -> str:
    """Read a pipe whose writers have gone."""
    with os.fdopen(read, "rb") as file:
        return file.read().decode()


@contextmanager
def tracing_into_a_pipe(*options: str) -> Iterator[tuple[Trace, int]]:
    """Run a trace whose output is a pipe; only the test may read from it."""
    read, write = os.pipe()
    with tracing(*_OURS, *options, stdout=write) as trace:
        os.close(write)
        yield trace, read


class TestNobodyReads:
    @pytest.mark.parametrize("number", _STOP_SIGNALS, ids=lambda number: number.name)
    def test_one_signal_ends_it_with_whole_lines_and_says_what_is_missing(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        stats = tmp_path / "stats"
        with tracing_into_a_pipe("--stats-file", str(stats)) as (trace, read):
            fill(trace, read)
            result = trace.stop(number, _BOUND_S)
        assert result.code == 70
        assert "nobody reads it" in result.err.splitlines()[-1]
        missing = json.loads(stats.read_text())["unwritten_lines"]
        assert missing > 0
        assert f"{missing} line" in result.err.splitlines()[-1]
        assert len(json_lines(rest(read))) > 10

    def test_a_duration_ends_it(self, tmp_path: Path) -> None:
        stats = tmp_path / "stats"
        with tracing_into_a_pipe("-d", "2", "--stats-file", str(stats)) as (trace, read):
            fill(trace, read)
            result = trace.wait(_BOUND_S)
        assert result.code == 70
        assert json.loads(stats.read_text())["unwritten_lines"] > 0
        json_lines(rest(read))

    def test_a_second_signal_ends_it_at_once_with_whole_lines_and_statistics(
        self, tmp_path: Path
    ) -> None:
        stats = tmp_path / "stats"
        with tracing_into_a_pipe("--stats-file", str(stats)) as (trace, read):
            fill(trace, read)
            trace.process.send_signal(signal.SIGINT)
            wait_until("it says what a second one does", lambda: "second signal" in trace.err())
            assert trace.process.poll() is None
            begun = time.monotonic()
            assert trace.stop(signal.SIGINT).code == -signal.SIGINT
            assert time.monotonic() - begun < 1
        assert json.loads(stats.read_text())["unwritten_lines"] > 0
        json_lines(rest(read))

    def test_a_line_longer_than_what_a_pipe_takes_in_one_piece_is_not_cut(self) -> None:
        words = [f"{turn}{'x' * 9000}" for turn in range(40)]
        with tracing_into_a_pipe("--max-args-bytes", "32768") as (trace, read):
            os.kill(trace.pid, signal.SIGSTOP)  # so that it writes many at once, into an empty pipe
            for word in words:
                subprocess.run(["true", word], check=True)
            os.kill(trace.pid, signal.SIGCONT)
            fill(trace, read)
            trace.stop(signal.SIGTERM, _BOUND_S)
        records = json_lines(rest(read))
        args = {record["process"]["args"][-1] for record in records}
        assert len(args.intersection(words)) > 1


class TestSlowReader:
    def test_one_that_goes_on_reading_gets_everything(self) -> None:
        """However long it takes: each piece that it takes is a sign of life."""
        parts: list[bytes] = []
        with tracing_into_a_pipe() as (trace, read):
            fill(trace, read)
            for turn in range(20):
                subprocess.run(["true", f"last-{turn}"], check=True)
            trace.process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            while time.monotonic() - begun < 5:  # longer than anybody's patience without it
                parts.append(os.read(read, 512))
                time.sleep(0.5)
                assert trace.process.poll() is None
            drain = threading.Thread(target=lambda: parts.append(rest(read).encode()))
            drain.start()
            result = trace.wait()
            drain.join()
        assert result.code == 0
        records = json_lines(b"".join(parts).decode())
        args = [record["process"]["args"] for record in records]
        assert all(["true", f"last-{turn}"] in args for turn in range(20))


def test_a_second_signal_ends_a_trace_with_much_to_do_within_a_second(tmp_path: Path) -> None:
    out, stats = tmp_path / "out", tmp_path / "stats"
    options = ("--interval", "1000", "--perf-pages", "4096")
    with tracing(*_OURS, *options, "-o", str(out), "--stats-file", str(stats)) as trace:
        subprocess.run(["sh", "-c", "for i in $(seq 1500); do /bin/true; done"], check=True)
        trace.process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # within what it has to do
        begun = time.monotonic()
        trace.stop(signal.SIGTERM)
        assert time.monotonic() - begun < 1
    json.loads(stats.read_text())
    json_lines(out.read_text())
