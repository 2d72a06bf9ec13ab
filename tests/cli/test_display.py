"""Options that choose how a trace looks: columns, times, colours, quiet."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import termios
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.cli.tracing.display_options import Colour, DisplayOptions
from proctree_bpf.cli.tracing.sink_factory import layout_of, wants_colour
from proctree_bpf.sinks.fields import FIELDS
from support.program import Result, run, tracing
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def shown(*options: str, command: tuple[str, ...] = ("sh", "-c", "exit 3")) -> Result:
    """Trace a command with these options."""
    with tracing(*options) as trace:
        with subprocess.Popen(command):
            pass
        return trace.stop()


class TestRefusals:
    @pytest.mark.parametrize("fields", ["pid,colour", "", ",", "PID"])
    def test_an_unknown_column_is_refused_with_a_list_of_all(self, fields: str) -> None:
        error = run("trace", "--fields", fields).usage_error()
        assert "--fields" in error
        assert all(name in error for name in FIELDS)

    @pytest.mark.parametrize(
        "options",
        [
            ("-f", "jsonl", "--fields", "pid"),
            ("-f", "tree", "--fields", "pid"),
            ("-f", "chain", "-T"),
            ("-f", "jsonl", "-t"),
            ("-f", "jsonl", "--utc"),
            ("-f", "chain", "--max-args", "3"),
            ("-f", "tree", "-e", "exec"),
        ],
        ids=" ".join,
    )
    def test_an_option_without_effect_is_refused_in_one_sentence(
        self, options: tuple[str, ...]
    ) -> None:
        result = run("trace", *options)
        assert (result.code, result.out) == (2, "")
        assert f"has no effect with -f {options[1]}" in result.sentence()

    @pytest.mark.parametrize("options", [("--max-args", "-1"), ("--color", "sometimes")])
    def test_a_value_out_of_range_is_refused(self, options: tuple[str, str]) -> None:
        assert options[0] in run("trace", *options).usage_error()


class TestColour:
    """--color, then NO_COLOR, then FORCE_COLOR, then whether it is a terminal."""

    @pytest.mark.parametrize(
        ("option", "env", "is_terminal", "coloured"),
        [
            ("auto", {}, True, True),
            ("auto", {}, False, False),
            ("auto", {"TERM": "dumb"}, True, False),
            ("auto", {"NO_COLOR": "1"}, True, False),
            ("auto", {"NO_COLOR": ""}, True, True),
            ("auto", {"FORCE_COLOR": "1"}, False, True),
            ("auto", {"FORCE_COLOR": "0"}, False, True),
            ("auto", {"FORCE_COLOR": ""}, False, False),
            ("auto", {"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
            ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
            ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
            ("never", {"FORCE_COLOR": "1"}, True, False),
        ],
    )
    def test_the_first_that_says_something_decides(
        self,
        option: str,
        env: dict[str, str],
        *,
        is_terminal: bool,
        coloured: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"TERM": "xterm"} | env).items():
            monkeypatch.setenv(name, value)
        out = io.StringIO()
        monkeypatch.setattr(out, "isatty", lambda: is_terminal)
        assert wants_colour(out, Colour(option)) is coloured

    @pytest.mark.kernel
    def test_a_pipe_is_coloured_if_asked_to(self) -> None:
        assert "\x1b[31m" in shown("--color", "always").out
        assert "\x1b" not in shown().out


class TestRows:
    """Lines are rewritten only where the layout has rows."""

    @pytest.mark.parametrize(
        ("term", "shared", "rows"),
        [("xterm", False, 30), ("dumb", False, None), ("", False, None), ("xterm", True, None)],
    )
    def test_a_terminal_has_them_if_its_cursor_moves_and_it_is_ours_alone(
        self, term: str, *, shared: bool, rows: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", term)
        ours, theirs = os.openpty()
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        with os.fdopen(ours), os.fdopen(theirs, "w") as out:
            layout = layout_of(out, Colour.AUTO, shared=shared)
        assert (layout.columns, layout.rows) == (100, rows)

    def test_a_file_has_neither_rows_nor_columns(self, tmp_path: Path) -> None:
        with (tmp_path / "out").open("w") as out:
            layout = layout_of(out, Colour.NEVER)
        assert (layout.columns, layout.rows) == (None, None)


class TestTimes:
    @pytest.mark.parametrize(
        ("options", "first"),
        [
            (DisplayOptions(), ["time", "event"]),
            (DisplayOptions(time=True), ["time", "event"]),
            (DisplayOptions(timestamp=True), ["timestamp", "event"]),
            (DisplayOptions(time=True, timestamp=True), ["time", "timestamp", "event"]),
            (DisplayOptions(fields=("pid",), time=True), ["time", "pid"]),
            (DisplayOptions(fields=("pid", "time"), time=True), ["pid", "time"]),
            (DisplayOptions(fields=("pid",)), ["pid"]),
        ],
    )
    def test_they_come_first_unless_they_are_placed(
        self, options: DisplayOptions, first: list[str]
    ) -> None:
        assert list(options.columns)[: len(first)] == first

    @pytest.mark.kernel
    def test_utc_is_the_time_of_day_in_greenwich(self) -> None:
        begun = datetime.now(UTC) - timedelta(seconds=1)
        header, *rows = shown("--utc", "--fields", "time,comm").out.splitlines()
        ended = datetime.now(UTC) + timedelta(seconds=1)
        assert header.split() == ["TIME(UTC)", "COMM"]
        times = [row.split()[0] for row in rows]
        assert times
        if begun.date() == ended.date():
            assert all(f"{begun:%H:%M:%S}" <= time <= f"{ended:%H:%M:%S}" for time in times)

    @pytest.mark.kernel
    def test_a_timestamp_counts_the_seconds_of_the_trace(self) -> None:
        header, *rows = shown("-t").out.splitlines()
        assert header.split()[:2] == ["TIME(s)", "EVENT"]
        seconds = [float(row.split()[0]) for row in rows]
        assert all(0 <= one < 20 for one in seconds)
        assert seconds == sorted(seconds)


@pytest.mark.kernel
class TestQuiet:
    def test_nothing_is_said_when_all_went_well(self) -> None:
        result = run("trace", "-q", "-d", "0")
        assert (result.code, result.err) == (0, "")

    def test_an_error_is_said_all_the_same(self) -> None:
        before = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"]
        result = run("trace", "-q", "--source", "bpf", before=before)
        assert result.code == 77
        assert result.sentence()


@pytest.mark.kernel
class TestSummary:
    def test_it_names_what_ran_and_what_failed(self) -> None:
        result = shown("--fields", "pid")
        first, *more = result.err.splitlines()[1:]
        assert re.fullmatch(r"proctree-bpf: .* exec, \d+ exit records written; nothing lost", first)
        titles = [line.split(":")[1].strip() for line in more]
        assert titles == ["ran most", "ran longest", "failed"]
        assert re.search(r": ran most: .*\S \d+", more[0])
        assert re.search(r": ran longest: .*\S [\d.]+(us|ms|s|m|h|d)", more[1])
        assert re.search(r": failed: .*\S \d+ \((exit code \d+|SIG\w+\*?)\)", more[2])


@pytest.mark.kernel
def test_a_tree_in_a_pipe_has_its_lines_and_the_whole_at_the_end() -> None:
    words = ("sh", "-c", "read line; /bin/true; exit 3", "marked")
    with tracing("-f", "tree") as trace:
        with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
            wait_until("its start is shown", lambda: "marked" in trace.out())
            assert process.stdin is not None
            process.stdin.close()
        result = trace.stop()
    live, _, end = result.out.partition("\n\n")
    (begun, ended) = [line for line in live.splitlines() if "marked" in line]
    assert begun.split()[1:4] == ["root", "sh", "-c"]
    assert ended.split()[2] == "3"
    begin = next(at for at, line in enumerate(end.splitlines()) if "marked" in line)
    first, second = end.splitlines()[begin : begin + 2]
    assert (first.split()[2], second.split()[-2:]) == ("3", ["└─", "/bin/true"])
    assert "\x1b" not in result.out
