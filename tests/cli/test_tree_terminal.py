"""A tree, and hostile names, in a real terminal: what tmux has on its screen is the truth."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.program import in_own_mounts
from support.screen import cells
from support.trace_in_tmux import TracePane, tracing_in_pane
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel


class Waiter:
    """A process that waits to be told to end; ``mark`` is among its arguments."""

    def __init__(self, mark: str, status: int = 0) -> None:
        script = f"read line; exit {status}"
        self._process = subprocess.Popen(["sh", "-c", script, mark], stdin=subprocess.PIPE)
        self.pid = self._process.pid

    def end(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def waiter(mark: str, status: int = 0) -> Iterator[Waiter]:
    process = Waiter(mark, status)
    try:
        yield process
    finally:
        process.end()


def of(lines: list[str], mark: str) -> list[str]:
    return [line for line in lines if mark in line]


def wait_for_end(pane: TracePane, mark: str, status: int) -> list[str]:
    """Return the lines with a mark once one of them tells its end."""
    lines: list[str] = []

    def is_told() -> bool:
        lines[:] = of(pane.lines(), mark)
        return any(tells_end(line, status) for line in lines) or pane.rest()

    wait_until(f"the end of {mark!r} is shown", is_told)
    return lines


def tells_end(line: str, status: int) -> bool:
    return bool(re.search(rf" {status} +[\d.]+[mu]?s ", line))


def push_off(pane: TracePane, mark: str) -> None:
    """Start processes until a line has left the screen."""

    def is_off() -> bool:
        subprocess.run(["true", "marked-other"], check=True)
        return not of(pane.lines(scrolled=False), mark)

    wait_until(f"{mark} has scrolled off", is_off)


def test_a_line_is_completed_where_it_stands() -> None:
    with tracing_in_pane("-f", "tree") as pane, waiter("marked-one", 3) as process:
        pane.wait_for_line("marked-one")
        process.end()
        (line,) = wait_for_end(pane, "marked-one", 3)
    assert re.fullmatch(
        rf" *{process.pid} root +3 +[\d.]+[mu]?s sh -c 'read line; exit 3' marked-one", line
    )


def test_what_has_scrolled_off_is_ended_by_another_line() -> None:
    with tracing_in_pane("-f", "tree", rows=8) as pane, waiter("marked-one", 3) as process:
        pane.wait_for_line("marked-one")
        push_off(pane, "marked-one")
        process.end()
        begun, ended = wait_for_end(pane, "marked-one", 3)
    assert begun.split()[2] == "sh"
    assert ended.split()[2] == "3"


@pytest.mark.parametrize(("columns", "rows"), [(100, 12), (90, 40), (160, 6)])
def test_a_resized_window_loses_and_doubles_nothing(columns: int, rows: int) -> None:
    with (
        tracing_in_pane("-f", "tree", columns=120, rows=24) as pane,
        waiter("marked-before") as before,
        waiter("marked-during") as during,
    ):
        pane.wait_for_line("marked-during")
        pane.resize(columns, rows)
        before.end()
        wait_for_end(pane, "marked-before", 0)
        with waiter("marked-after") as after:
            pane.wait_for_line("marked-after")
            after.end()
            wait_for_end(pane, "marked-after", 0)
        during.end()
        wait_for_end(pane, "marked-during", 0)
        lines = pane.lines()
    for mark in ("marked-before", "marked-during", "marked-after"):
        ended = [line for line in of(lines, mark) if tells_end(line, 0)]
        assert len(ended) == 1, lines
        assert 1 <= len(of(lines, mark)) <= 2, lines


def test_a_dumb_terminal_gets_lines_that_are_only_added() -> None:
    with (
        tracing_in_pane("-f", "tree", env={"TERM": "dumb"}) as pane,
        waiter("marked-one", 3) as process,
    ):
        pane.wait_for_line("marked-one")
        process.end()
        begun, ended = wait_for_end(pane, "marked-one", 3)
    assert (begun.split()[2], ended.split()[2]) == ("sh", "3")


def test_the_whole_tree_stands_at_the_end_and_the_terminal_is_as_before() -> None:
    with tracing_in_pane("-f", "tree") as pane:
        subprocess.run(["sh", "-c", "/bin/true; exit 3", "marked"], check=False)
        pane.wait_for_line("marked")
        lines = pane.stop()
        pane.tmux("send-keys", "x" * 150, "Enter")
        wrapped = pane.wait_for_line("x" * 119)
    begin = max(at for at, line in enumerate(lines) if "PID USER" in line)
    whole = lines[begin:]
    at = next(at for at, line in enumerate(whole) if "marked" in line)
    assert whole[at].split()[2] == "3"
    assert whole[at + 1].endswith(" └─ /bin/true")
    # Wrapping is on again: what does not fit goes on in the next line.
    assert any(re.fullmatch("x+", line) and len(line) < 120 for line in wrapped)


# Each would move the cursor, forge a line, reorder text or misalign what follows.
_HOSTILE = [
    b"\x1b[2J\x1b[H",
    b"\x1b[10A\r     1 root  forged",
    b"a\n     1 root           0  1.0s forged",
    b"\x1b]0;title\x07",
    b"\xe2\x80\xaeabc\xe2\x81\xa6",
    b"\xc2\x9b31m\xc2\x85",
    "\u6f22\u5b57".encode() * 3,
    "e\u0301\u200d\U0001f1e9\U0001f1ea".encode(),
    b"\t\t\x08\x08\x7f\xff",
]


@pytest.mark.parametrize("style", ["table", "tree"])
def test_a_hostile_name_stays_in_its_cell_and_on_its_line(tmp_path: Path, style: str) -> None:
    pids = []
    with tracing_in_pane("-f", style, columns=200, rows=50) as pane:
        for name in _HOSTILE:
            program = tmp_path / os.fsdecode(name.replace(b"/", b""))
            program.symlink_to("/bin/sh")
            words = [os.fsencode(program.name), b"-c", b"exit 3", b"marked", name]
            with subprocess.Popen(words, executable=program) as process:
                pids.append(process.pid)
        wait_for_end(pane, f" {pids[-1]} ", 3)
        shown = pane.lines()
        lines = pane.stop()
    # The test looks at the screen by programs of its own, which are told when the trace is late.
    start, title, *rows = [line for line in shown if line and " tmux" not in line]
    assert start.startswith("proctree-bpf: tracing with")
    begin = title.index("COMMAND")
    # An exec and an exit in the table, one line in the tree; and nothing else.
    assert len(rows) == len(pids) * (2 if style == "table" else 1), shown
    column = title.index("PID") - 4
    assert {int(line[column : column + 7]) for line in rows} == set(pids), shown
    for line in rows:
        before = next(at for at in range(len(line)) if cells(line[:at]) == begin)
        assert line[before - 1] == " ", line
        assert line[before] != " ", line
        assert "marked" in line
        assert line.isprintable()
    assert not any(re.match(r" *1 root .*forged", line) for line in lines)


@pytest.mark.parametrize("style", ["table", "tree"])
def test_a_hostile_user_name_stays_in_its_cell(tmp_path: Path, style: str) -> None:
    passwd = tmp_path / "passwd"
    hostile = b"\x1b[2J\xe2\x80\xae\xe6\xbc\xa2\xe6\xbc\xa2"
    passwd.write_bytes(b"root:x:0:0::/:\n" + hostile + b":x:4242:4242::/:/bin/sh\n")
    before = in_own_mounts(f"mount --bind {passwd} /etc/passwd")
    with tracing_in_pane("-f", style, before=before) as pane:
        words = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "true", "marked"]
        with subprocess.Popen(words) as process:
            pass
        wait_for_end(pane, f" {process.pid} ", 0)
        lines = pane.lines()
    begin = next(line for line in lines if "COMMAND" in line).index("USER")
    own = [line for line in of(lines, f" {process.pid} ") if " true marked" in line]
    assert {line[begin : begin + 11] for line in own} == {r"\x1b[2J\u… "}
