"""Ctrl-C in the first moments, while most of the program is not even loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.program import PROGRAM, environment
from support.waiting import PATIENCE_S, wait_until

_TURNS = 12


def interrupted(words: list[str], turn: int) -> tuple[int, str]:
    """Interrupt a run a little later each turn, counted from when our code begins to load."""
    with subprocess.Popen(
        [*PROGRAM, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment(),
    ) as process:  # fmt: skip
        try:
            status = Path(f"/proc/{process.pid}/status")

            def is_ready() -> bool:
                """Once Python itself is up, and its own handler has made room for ours."""
                fields = dict(
                    line.split(":\t", 1)
                    for line in status.read_text().splitlines()
                    if ":\t" in line
                )
                mask = 1 << (signal.SIGINT - 1)
                blocked = bool(int(fields.get("SigBlk", "0"), 16) & mask)
                caught = bool(int(fields.get("SigCgt", "0"), 16) & mask)
                ignores_pipe = bool(int(fields.get("SigIgn", "0"), 16) >> (signal.SIGPIPE - 1) & 1)
                return (ignores_pipe and (blocked or not caught)) or process.poll() is not None

            wait_until("the program itself has begun", is_ready)
            time.sleep(turn * 0.03)
            os.kill(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, err.decode()


@pytest.mark.parametrize("turn", range(_TURNS))
def test_a_query_ends_by_it_without_a_word(turn: int) -> None:
    code, err = interrupted(["tree"], turn)
    assert code in {-signal.SIGINT, 0}  # 0: it was done before
    assert err == ""


@pytest.mark.kernel
@pytest.mark.parametrize("turn", range(_TURNS))
def test_a_trace_ends_with_0_though_it_had_not_begun(turn: int) -> None:
    code, err = interrupted(["trace"], turn)
    assert code == 0, err
    assert "Traceback" not in err


@pytest.mark.kernel
@pytest.mark.parametrize("turn", range(0, _TURNS, 3))
def test_a_command_that_was_not_run_yet_does_not_pass_for_one_that_succeeded(turn: int) -> None:
    # Compiling takes longer than the last turn: once the command runs, Ctrl-C is its own.
    words = ["trace", "-q", "-o", "/dev/null", "--no-program-cache", "--", "sleep", "60"]
    code, err = interrupted(words, turn)
    assert code == 128 + signal.SIGINT, err
    assert "Traceback" not in err
