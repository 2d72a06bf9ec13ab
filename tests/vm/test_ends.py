"""How runs of scripts/vm end: what is a failure, and what only says that a machine cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("faults", "unable", "slow", "status"),
    [
        (False, True, True, 0),
        (True, True, True, 77),
        (True, False, True, 75),
        (True, False, False, 1),
    ],
)
def test_the_exit_status_tells_a_failure_from_what_a_machine_cannot(
    lib: Any, *, faults: bool, unable: bool, slow: bool, status: int
) -> None:
    assert lib("failure").status(faults=faults, unable=unable, slow=slow) == status


def test_a_failure_names_what_where_how_to_do_it_again_and_the_log(lib: Any) -> None:
    failure = lib("failure")
    error = failure.FailedError("boot", "no start", failure.ROOT / ".cache/vm/logs/x.console")
    assert error.told("Linux 7.2", "scripts/vm/matrix 7.2").splitlines() == [
        "FAILED Linux 7.2 at: boot",
        "  no start",
        "  again: scripts/vm/matrix 7.2",
        "  log:   .cache/vm/logs/x.console",
    ]


@pytest.mark.parametrize(("outcome", "slow"), [("passed", True), ("failed", False)])
def test_a_run_that_is_cut_short_is_only_slow_if_nothing_had_failed(
    lib: Any, tmp_path: Path, outcome: str, *, slow: bool
) -> None:
    error = lib("failure").late("tests", "no end after 9 s", tmp_path)
    told = [lib("groups").Told("a::b", outcome, 1.0, "why")]
    lib("matrix")._add_failures(error, told)
    assert error.slow is slow
    assert "after 1 tests; the last: a::b" in error.reason


@pytest.mark.parametrize(("said", "wrong"), [("uptime 7.50\n", False), ("uptime 480.00\n", True)])
def test_a_guest_whose_clock_runs_away_is_found_at_its_start(
    lib: Any, tmp_path: Path, said: str, *, wrong: bool
) -> None:
    qemu, result = lib("qemu"), tmp_path / "result"
    result.write_text(said)
    if not wrong:
        qemu._check_clock(result, 5.0)
        return
    with pytest.raises(qemu._WrongClockError, match="it has run for 480 s"):
        qemu._check_clock(result, 5.0)


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_is_late_ends_with_all_that_it_has_started(lib: Any, tmp_path: Path) -> None:
    failure, log = lib("failure"), tmp_path / "log"
    command = ["sh", "-c", "sleep 987 & echo $!; wait"]
    with pytest.raises(failure.FailedError, match="no end after 1 s") as late:
        failure.run("tests", log, command, limit_s=1)
    assert late.value.slow
    pid = int(log.read_text().splitlines()[-1])
    wait_until(f"{pid} ends", lambda: has_ended(pid))


_WAITS = """
import failure, pathlib, sys
failure.end_in_order()
failure.run("tests", pathlib.Path(sys.argv[1]), ["sh", "-c", "sleep 987 & echo $!; wait"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_it_has_started(lib: Any, tmp_path: Path, number: int) -> None:
    log = tmp_path / "log"
    directory = os.path.dirname(lib("failure").__file__)  # noqa: PTH120 - for the environment
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS, log], env=os.environ | {"PYTHONPATH": directory}
    ) as popen:
        wait_until("it runs", lambda: log.exists() and log.read_text().count("\n") > 1)
        pid = int(log.read_text().splitlines()[-1])
        popen.send_signal(number)
    assert popen.returncode == 128 + number
    wait_until(f"{pid} ends", lambda: has_ended(pid))
