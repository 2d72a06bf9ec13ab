"""A traced command in a real terminal behaves as it does in a shell without us."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.program import PROGRAM, is_compiling
from support.tmux import Tmux, terminal
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

_SHELL = ["bash", "--norc", "--noprofile", "-i"]
_INNER = "PS1='inner> ' bash --norc --noprofile -i"


@pytest.fixture
def outer() -> Iterator[Tmux]:
    """A terminal with an interactive shell in it."""
    with terminal(["env", "PS1=outer> ", "PS2=", "HISTFILE=", *_SHELL]) as window:
        window.wait_for(r"^outer> $")
        yield window


@pytest.fixture(params=["bare", "traced"])
def inner(request: pytest.FixtureRequest, outer: Tmux, tmp_path: Path) -> Tmux:
    """The same, with an interactive shell inside: without us first, then traced by us."""
    prefix = "" if request.param == "bare" else traced(tmp_path)
    outer.type(f"clear; {prefix} env {_INNER}; echo status=$?")
    outer.wait_for(r"^inner> $")
    return outer


def traced(directory: Path, *options: str) -> str:
    """Return what to write before a command to have it traced; records go to a file."""
    words = [*PROGRAM, "trace", "-f", "jsonl", "-o", str(directory / "records"), *options, "--"]
    return shlex.join(words)


def processes(argument: str) -> list[int]:
    """Return the PIDs of the machine's processes with this argument, ascending."""
    found = []
    for directory in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended since
            if directory.name.isdecimal() and os.fsencode(argument) in (
                (directory / "cmdline").read_bytes().split(b"\0")
            ):
                found.append(int(directory.name))
    return sorted(found)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class TestAnInteractiveShell:
    def test_what_is_typed_arrives_and_the_exit_status_comes_back(self, inner: Tmux) -> None:
        inner.type("read -p 'name? ' name; echo hello, $name, $((6 * 7))")
        inner.wait_for(r"^name\? $")
        inner.type("nobody")
        inner.wait_for(r"^hello, nobody, 42$")
        inner.type("[[ -t 0 && -t 1 && -t 2 ]] && tty | tr / :")
        inner.wait_for(r"^:dev:pts:\d+$")
        inner.type("exit 7")
        inner.wait_for(r"^status=7$")
        inner.wait_for(r"^outer> $")

    def test_ctrl_c_ends_what_runs_in_it_and_not_the_shell(self, inner: Tmux) -> None:
        for turn in range(3):
            inner.type("clear; sleep 1000")
            pid = self.started("1000")
            inner.press("C-c")
            wait_until("the sleep is gone", lambda pid=pid: not Path(f"/proc/{pid}").exists())
            inner.type(f"echo code=$?,{turn}")
            inner.wait_for(rf"^code=130,{turn}$")
        inner.type("clear")
        inner.wait_for(r"\Ainner> $")
        inner.press("C-c")  # at the prompt as well
        inner.wait_for(r"^inner> \^C\n+inner> $")
        inner.type("exit 0")
        inner.wait_for(r"^status=0$")

    def test_ctrl_z_stops_and_fg_continues(self, inner: Tmux) -> None:
        inner.type("sleep 1001")
        pid = self.started("1001")
        inner.press("C-z")
        inner.wait_for(r"^\[1\]\+  Stopped +sleep 1001$")
        assert state(pid) == "T"
        inner.type("clear; jobs; fg")
        inner.wait_for(r"^\[1\]\+  Stopped +sleep 1001$")
        wait_until("it runs again", lambda: state(pid) == "S")
        inner.press("C-c")
        wait_until("it is gone", lambda: not Path(f"/proc/{pid}").exists())
        inner.type("echo code=$?")
        inner.wait_for(r"^code=130$")
        inner.type("exit")
        inner.wait_for(r"^status=0$")

    def test_a_new_window_size_is_noticed(self, inner: Tmux) -> None:
        inner.type("stty size")
        inner.wait_for(r"^40 100$")
        for turn, (columns, rows) in enumerate([(77, 33), (99, 44)]):
            wanted = f"{rows} {columns}"
            inner.type(
                f"until [[ $(stty size) == '{wanted}' ]]; do sleep 0.05; done; echo =$?{turn}"
            )
            inner.resize(columns, rows)
            inner.wait_for(rf"^=0{turn}$")
            inner.type("tput lines; echo $LINES,$COLUMNS")
            inner.wait_for(rf"^{rows},{columns}$")

    def test_a_shell_that_suspends_itself_is_resumed_by_the_shell_around_it(
        self, inner: Tmux
    ) -> None:
        inner.type("x=kept; suspend")
        inner.wait_for(r"^\[1\]\+  Stopped ")
        inner.wait_for(r"^outer> $")
        inner.type("clear; fg; echo status=$?")
        inner.wait_for(r"\binner\b.*\n(?:.*\n)*inner> $|^inner> $")
        inner.type("echo $x; sleep 1002")
        inner.wait_for(r"^kept$")
        self.started("1002")
        inner.press("C-c")
        inner.type("exit 9")
        inner.wait_for(r"^status=9$")

    @staticmethod
    def started(word: str) -> int:
        """Wait until a process with this argument runs, and is not its parent's copy."""
        return wait_until(f"{word} runs", lambda: processes(word))[-1]


class TestJobControlAroundUs:
    def test_ctrl_z_stops_both_and_fg_continues_both(self, outer: Tmux, tmp_path: Path) -> None:
        outer.type(f"{traced(tmp_path)} sleep 1010; echo status=$?")
        program, command = self.both(tmp_path, "1010")
        for turn in range(3):
            outer.press("C-z")
            outer.wait_for(r"^\[1\]\+  Stopped ")
            outer.wait_for(r"^outer> $")
            assert (state(program), state(command)) == ("T", "T")
            outer.type("clear; jobs")
            outer.wait_for(r"^\[1\]\+  Stopped ")
            outer.type(f"clear; fg; echo status=$?,{turn}")
            wait_until("both run", lambda: "T" not in (state(program), state(command)))
        outer.press("C-c")
        outer.wait_for(r"^status=130,2$")
        assert exit_of(tmp_path, command)["exit_signal"] == signal.SIGINT

    def test_it_goes_on_in_the_background_and_leaves_the_terminal_to_others(
        self, outer: Tmux, tmp_path: Path
    ) -> None:
        outer.type(f"{traced(tmp_path)} sh -c 'read x < {tmp_path}/gate; exit 5'")
        os.mkfifo(tmp_path / "gate")
        program, command = self.both(tmp_path, f"read x < {tmp_path}/gate; exit 5")
        outer.press("C-z")
        outer.wait_for(r"^\[1\]\+  Stopped ")
        outer.type("clear; bg")
        wait_until("both run", lambda: "T" not in (state(program), state(command)))
        outer.type("clear; sleep 1011")
        wait_until("the sleep has begun", lambda: processes("1011"))
        (tmp_path / "gate").write_text("go\n")
        wait_until("the trace has ended", lambda: not Path(f"/proc/{program}").exists())
        outer.press("C-c")
        outer.type("echo slept=$?")
        outer.wait_for(r"^slept=130$")
        outer.wait_for(r"\[1\]\+  Exit 5 ")

    def test_a_command_that_does_not_stop_keeps_us_running(
        self, outer: Tmux, tmp_path: Path
    ) -> None:
        script = "trap '' TSTP; trap 'echo got it' INT; echo set up; while :; do sleep 1012; done"
        outer.type(f'{traced(tmp_path)} sh -c "{script}"; echo status=$?')
        outer.wait_for(r"^set up$")
        program, _ = self.both(tmp_path, script)
        outer.press("C-z")
        outer.press("C-c")
        outer.wait_for(r"got it$")
        assert state(program) != "T"
        outer.press("C-\\")
        outer.wait_for(r"^status=131$")

    def test_ctrl_c_is_for_the_command_to_decide(self, outer: Tmux, tmp_path: Path) -> None:
        script = "trap 'echo cleaning up; exit 3' INT; echo set up; while :; do sleep 1013; done"
        outer.type(f'{traced(tmp_path)} sh -c "{script}"; echo status=$?')
        outer.wait_for(r"^set up$")
        outer.press("C-c")
        outer.wait_for(r"cleaning up$")
        outer.wait_for(r"^status=3$")

    def test_ctrl_c_ends_the_wait_for_those_that_the_command_left(
        self, outer: Tmux, tmp_path: Path
    ) -> None:
        outer.type(f"{traced(tmp_path)} sh -c 'setsid sleep 1014 & exit 4'; echo status=$?")
        (left,) = wait_until("it was left", lambda: processes("1014"))
        wait_until("sh has ended", lambda: len(processes("setsid sleep 1014 & exit 4")) <= 1)
        try:
            wait_until(
                "the trace has seen it", lambda: '"exit"' in (tmp_path / "records").read_text()
            )
            outer.press("C-c")
            outer.wait_for(r"^status=4$")
        finally:
            os.kill(left, signal.SIGKILL)

    def test_ctrl_c_before_the_command_runs_ends_both(self, outer: Tmux, tmp_path: Path) -> None:
        outer.type(f"{traced(tmp_path, '--no-program-cache')} touch {tmp_path}/ran; echo status=$?")
        program = wait_until("it has begun", lambda: processes(f"{tmp_path}/ran"))[0]
        wait_until("bcc is loaded", lambda: is_compiling(program))
        outer.press("C-c")
        outer.wait_for(r"^status=130$")
        assert not (tmp_path / "ran").exists()
        assert processes(f"{tmp_path}/ran") == []

    def test_the_terminal_comes_back_from_a_shell_that_was_killed(
        self, outer: Tmux, tmp_path: Path
    ) -> None:
        """The shell around us has no job control here, so nobody else would take it back."""
        script = f"{traced(tmp_path)} env {_INNER}; read -p 'still here? ' x; echo \\<\\$x\\>"
        outer.type(f'clear; bash -c "{script}"')
        outer.wait_for(r"^inner> $")
        outer.type("kill -9 $$")
        outer.wait_for(r"^still here\? $")
        outer.type("yes it is")
        outer.wait_for(r"^<yes it is>$")

    def test_records_on_the_terminal_do_not_stop_us_where_background_output_would(
        self, outer: Tmux
    ) -> None:
        outer.type("stty tostop")
        outer.type(f"{shlex.join(PROGRAM)} trace -f chain -- env {_INNER}; echo status=$?")
        outer.wait_for(r"^inner> ")
        outer.type("true 1 && /bin/true 2; exit 6")
        outer.wait_for(r"^status=6$")

    def test_where_nobody_could_continue_us_a_stopped_command_is_left_alone(
        self, tmp_path: Path
    ) -> None:
        script = f"{traced(tmp_path)} sh -c 'sleep 1015; exit 3'; echo status=$?; exec cat"
        with terminal(["sh", "-c", script]) as window:
            program, command = self.both(tmp_path, "sleep 1015; exit 3")
            (sleep,) = wait_until("the sleep runs", lambda: processes("1015"))
            os.kill(command, signal.SIGSTOP)
            wait_until("it has stopped", lambda: state(command) == "T")
            time.sleep(0.3)  # what should not happen would have happened by now
            assert state(command) == "T"
            assert state(program) != "T"
            os.kill(command, signal.SIGCONT)
            os.kill(sleep, signal.SIGKILL)
            window.wait_for(r"^status=3$")

    @staticmethod
    def both(directory: Path, word: str) -> tuple[int, int]:
        """Wait for the command's exec; return the PIDs of the program and the command."""
        command = wait_until("the command runs", lambda: executed(directory))
        program = int(Path(f"/proc/{command}/stat").read_text().rpartition(")")[2].split()[1])
        assert command in processes(word)
        return program, command


def records_in(directory: Path) -> list[dict[str, dict[str, object]]]:
    try:
        text = (directory / "records").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def executed(directory: Path) -> int:
    """Return the PID in the first record of an exec, 0 if there is none yet."""
    for record in records_in(directory):
        if record["event"]["action"] == "exec":
            pid = record["process"]["pid"]
            assert isinstance(pid, int)
            return pid
    return 0


def exit_of(directory: Path, pid: int) -> dict[str, object]:
    """Return what the exit record of a process says of the exit."""
    (found,) = (
        record["proctree"]
        for record in records_in(directory)
        if record["event"]["action"] == "exit" and record["process"]["pid"] == pid
    )
    return found
