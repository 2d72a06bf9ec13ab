"""Every way to end a trace, and what it owes its user then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.program import (
    PROGRAM,
    actions,
    environment,
    is_compiling,
    json_lines,
    of_command,
    of_process,
    run,
    tracing,
)
from support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.kernel

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", _STOP_SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_it_with_everything_written(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "events"
    # So slow that everything is still in the kernel's buffers when the signal comes.
    options = ("-f", "jsonl", "-e", "fork,exec,exit", "-o", str(out), "--interval", "1000")
    roomy = ("--perf-pages", "4096")
    with tracing(*options, *roomy) as trace:
        commands = [["true", f"{tmp_path}/{turn}"] for turn in range(30)]
        for command in commands:
            os.waitpid(os.posix_spawnp("true", command, os.environ), 0)
        result = trace.stop(number)
    assert (result.code, result.out) == (0, "")
    assert "records written; nothing lost" in result.err.splitlines()[1]
    assert "Traceback" not in result.err
    records = json_lines(out.read_text())
    for command in commands:
        assert actions(of_command(records, command)) == ["fork", "exec", "exit"]


# The main thread waits in every way it can while another sends it signals.
_SHOOTING = """
import random, signal, sys, threading
from proctree_bpf.cli.trace import _Stopper, _stopped_by_signals
def shoot():
    for _ in range(ROUNDS):
        ready.acquire()
        for _ in range(random.randrange(3000)):
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
ROUNDS, ready = 5_000, threading.Semaphore(0)
sys.setswitchinterval(1e-5)
threading.Thread(target=shoot, daemon=True).start()
for _ in range(ROUNDS):
    stop = _Stopper(lambda: False)
    with _stopped_by_signals(stop):
        ready.release()
        while not stop.is_set():
            stop.wait(0)
"""


def test_a_signal_at_any_moment_of_the_wait_is_taken() -> None:
    """A lock that the interrupted wait holds must not be wanted by the signal's handler."""
    subprocess.run([sys.executable, "-P", "-c", _SHOOTING], check=True, timeout=30)


def test_a_signal_while_it_starts_ends_it_too(tmp_path: Path) -> None:
    with (
        (tmp_path / "err").open("wb") as err,
        subprocess.Popen(
            [*PROGRAM, "trace", "--no-program-cache"],
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=environment(),
        ) as process,
    ):
        try:
            # Once the compiler is loaded, hundreds of milliseconds of work lie ahead.
            wait_until("bcc is loaded", lambda: is_compiling(process.pid))
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_nohup_keeps_it_running() -> None:
    with tracing("-f", "jsonl", before=["nohup"]) as trace:
        trace.process.send_signal(signal.SIGHUP)
        pid = os.posix_spawnp("true", ["true"], os.environ)
        os.waitpid(pid, 0)
        wait_until(
            "the trace still writes", lambda: trace.process.poll() is not None or trace.out()
        )
        assert trace.process.poll() is None
        result = trace.stop(signal.SIGTERM)
    assert actions(of_process(result.records(), pid)) == ["exec", "exit"]


def test_a_second_signal_ends_even_one_that_cannot_write() -> None:
    read, write = os.pipe()
    with tracing("-f", "jsonl", "-e", "fork,exec,exit", stdout=write) as trace:
        os.close(write)
        stat = Path(f"/proc/{trace.pid}/wchan")
        # Nobody reads: once the pipe is full, the trace waits in write(2).
        wait_until(
            "the pipe is full",
            lambda: subprocess.run(["true"], check=True) and "pipe" in stat.read_text(),
        )
        trace.process.send_signal(signal.SIGINT)
        status = Path(f"/proc/{trace.pid}/status")

        def interrupt_is_default_again() -> bool:
            caught = next(
                line for line in status.read_text().splitlines() if line.startswith("SigCgt")
            )
            return not int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1

        wait_until("the first signal is taken", interrupt_is_default_again)
        assert trace.process.poll() is None
        trace.process.send_signal(signal.SIGINT)
        assert trace.wait().code == -signal.SIGINT
        os.close(read)


def test_a_duration_is_kept(tmp_path: Path) -> None:
    stats = tmp_path / "stats"
    begun = time.monotonic()
    result = run("trace", "-d", "0.5", "--interval", "1000", "--stats-file", str(stats))
    assert result.code == 0
    traced = json.loads(stats.read_text())["traced_seconds"]
    assert 0.5 <= traced < 3
    assert traced <= time.monotonic() - begun
    assert f"{traced:.1f} s: " in result.err


def test_a_duration_of_0_starts_and_ends() -> None:
    result = run("trace", "-d", "0")
    assert result.code == 0
    assert " records written; " in result.err.splitlines()[1]


def test_a_duration_may_be_without_end() -> None:
    with tracing("-d", "inf") as trace:
        assert trace.stop().code == 0
