"""How runs of scripts/vm end: what is a failure, and what only says that a machine cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest

from support.waiting import wait_until
from vmtest import cache, commands, failure, matrix, qemu, results, run_each, userlands
from vmtest.command_line import parse_selection

if TYPE_CHECKING:
    from pathlib import Path


class Outcome(NamedTuple):
    """What came of one of those that were tried."""

    faults: tuple[str, ...] = ()
    unable: bool = False
    slow: bool = False
    outdated: tuple[str, ...] = ()


PASSED, FAILED = Outcome(), Outcome(("a test failed",))
UNABLE, SLOW = Outcome(("no archive",), unable=True), Outcome(("no end",), slow=True)
NEWER = Outcome(outdated=("the BCC of sid is 0.99, and not 0.37",))


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([PASSED], 0),
        ([PASSED, UNABLE], 77),
        ([UNABLE, SLOW], 75),
        ([UNABLE, SLOW, FAILED], 1),
        ([FAILED, NEWER], 1),
        ([PASSED, NEWER], 76),
    ],
)
def test_the_exit_status_tells_a_failure_from_what_a_machine_cannot(
    capsys: pytest.CaptureFixture[str], outcomes: list[Outcome], status: int
) -> None:
    assert run_each.print_report("the table", outcomes, None) == status
    told = capsys.readouterr().out
    for line in (line for outcome in outcomes for line in (*outcome.faults, *outcome.outdated)):
        assert line in told


@pytest.mark.parametrize(("first", "status"), [(PASSED, 143), (SLOW, 143), (FAILED, 1)])
def test_a_signal_does_not_take_what_was_seen_before(
    capsys: pytest.CaptureFixture[str], first: Outcome, status: int
) -> None:
    def attempt(name: str) -> Outcome:
        if name == "Linux 7.2":
            sys.exit(143)
        return first

    outcomes, interruption = run_each.run_each(["Linux 5.10", "Linux 7.2", "never"], attempt)
    assert outcomes == [first]
    assert run_each.print_report("the table", outcomes, interruption) == status
    told = capsys.readouterr().out
    assert told.startswith("the table\n")
    assert "ended by a signal while testing Linux 7.2" in told


def test_what_had_failed_when_a_signal_came_counts() -> None:
    def attempt(_name: str) -> Outcome:
        raise run_each.InterruptedRunError(FAILED, 143)

    outcomes, interruption = run_each.run_each(["Linux 5.10"], attempt)
    assert (outcomes, interruption.status) == ([FAILED], 143)
    assert run_each.print_report("the table", outcomes, interruption) == 1


@pytest.mark.parametrize(
    ("supported", "found", "same"),
    [("7.2", "7.2.13+deb14-cloud-amd64", True), ("0.31", "0.31.0+ds-7", True),
     ("7.2", "7.20.1", False), ("3.14", "3.13.5", False), ("0.37", "", False)],
)  # fmt: skip
def test_another_version_than_the_one_that_is_listed_is_told(
    supported: str, found: str, *, same: bool
) -> None:
    assert (run_each.version_mismatch("it", supported, found) == []) is same


@pytest.mark.parametrize(
    ("said", "is_others"),
    [
        ("E: Failed to fetch http://a/b  Could not resolve 'a'", True),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(",
            True,
        ),
        ("E: The repository 'http://a x Release' does not have a Release file.", True),
        (
            "ConnectTimeoutError(<connection>, 'Connection to a timed out.')",
            True,
        ),
        ("E: Unable to locate package python3-bpfc", False),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", False),
        ("ERROR: Could not find a version that satisfies the requirement pytset", False),
    ],
)
def test_only_an_archive_that_cannot_be_reached_makes_it_unable(
    tmp_path: Path, said: str, *, is_others: bool
) -> None:
    log = tmp_path / "log"
    commands.run("before", log, ["echo", "W: Failed to fetch, but in an earlier command"])
    with pytest.raises(failure.FailedError) as error, commands.fetching():
        commands.run("packages", log, ["sh", "-c", 'echo "$1"; exit 1', "sh", said])
    assert error.value.unable is is_others


def test_what_nobody_thought_of_is_told_as_a_failure_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        pytest.raises(failure.FailedError, match="OSError: the disk is full"),
        failure.unexpected(),
    ):
        raise OSError("the disk is full")
    assert "Traceback" in capsys.readouterr().err


def test_the_command_that_does_it_again_has_all_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROCTREE_ACCEL", "tcg")
    monkeypatch.setattr(sys, "argv", ["matrix", "--limit", "420", "newest", "--", "-k", "a or b"])
    choice = parse_selection(["scripts/vm/matrix"], "", ["5.10", "7.2"], 1500)
    assert (
        choice.again("7.2") == "PROCTREE_ACCEL=tcg scripts/vm/matrix --limit 420 7.2 -- -k 'a or b'"
    )


@pytest.mark.parametrize("limit", ["nan", "inf", "0", "-1", "soon"])
def test_a_limit_is_a_number_of_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["matrix", f"--limit={limit}"])
    with pytest.raises(SystemExit) as ended:
        parse_selection(["scripts/vm/matrix"], "", ["5.10", "7.2"], 1500)
    assert ended.value.code == 2
    assert limit in capsys.readouterr().err


def _write(name: str, text: str, directory: Path) -> None:
    (directory / name).write_text(text)


def test_what_was_built_by_other_code_is_built_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = tmp_path / "code.py"
    monkeypatch.setattr(cache, "CACHE", tmp_path)
    monkeypatch.setattr(cache, "BUILDERS", [code])
    (tmp_path / "it-0123456789ab.part").mkdir()  # left by a run that was killed
    made = []
    for text in ("one", "one", "other"):
        code.write_text(text)
        build = partial(_write, code.name, text)
        made.append(cache.built("it", [], build))
    assert made[0] == made[1] != made[2]
    assert (made[2] / code.name).read_text() == "other"
    assert sorted(tmp_path.glob("it-*")) == [made[2]]


def test_the_code_of_what_is_built_is_known() -> None:
    files = (path for path in cache.BUILDERS[0].parent.glob("*.py") if path.name != "cache.py")
    callers = {path for path in files if "built(" in path.read_text()}
    assert callers < set(cache.BUILDERS)
    assert all(path.exists() for path in cache.BUILDERS)


def test_what_is_outdated_stays_until_it_has_been_built_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cache, "CACHE", tmp_path)

    def build(text: str) -> Path:
        def write(directory: Path) -> None:
            (directory / "made").write_text(text)
            if not text:
                raise OSError("no network")

        return cast("Path", cache.built("it", [], write) / "made")

    made = build("old")
    cache.rebuild_on_next_use("it")
    with pytest.raises(OSError, match="no network"):
        build("")
    assert made.read_text() == "old"
    assert build("new") == made
    assert made.read_text() == "new"
    assert build("newer").read_text() == "new"
    assert sorted(tmp_path.glob("it-*")) == [made.parent]


def test_a_failure_names_what_where_how_to_do_it_again_and_the_log() -> None:
    error = failure.FailedError("boot", "no start", failure.ROOT / ".cache/vm/logs/x.console")
    assert error.report("Linux 7.2", "scripts/vm/matrix 7.2").splitlines() == [
        "FAILED Linux 7.2 at: boot",
        "  no start",
        "  again: scripts/vm/matrix 7.2",
        "  log:   .cache/vm/logs/x.console",
    ]


@pytest.mark.parametrize(("outcome", "slow"), [("passed", True), ("failed", False)])
def test_a_run_that_is_cut_short_is_only_slow_if_nothing_had_failed(
    tmp_path: Path, outcome: str, *, slow: bool
) -> None:
    error = failure.late("tests", "not finished after 9 s", tmp_path)
    told = [results.PhaseReport("a::b", outcome, 1.0, "why")]
    matrix.add_failures(error, told)
    assert error.slow is slow
    assert "after 1 tests; the last: a::b" in error.reason


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ((100, 5, 99), None),
        ((421, 5, 400), "not finished after 420 s"),
        ((421, 5, 260), "no output for 161 s"),
        ((200, 5, 6), "no output for 194 s"),
        ((89, 0, 0), None),
        ((100, 0, 0), "the guest has not started after 100 s"),
    ],
)
def test_a_guest_that_hangs_is_not_taken_for_a_slow_one(
    tmp_path: Path, times: tuple[float, float, float], told: str | None
) -> None:
    limits = qemu.limits(420)
    if told is None:
        qemu.check_progress(*times, limits, tmp_path)
        return
    with pytest.raises(failure.FailedError) as error:
        qemu.check_progress(*times, limits, tmp_path)
    assert error.value.reason == told
    assert error.value.slow is told.startswith("not finished")
    assert error.value.step == ("boot" if "has not started" in told else "tests")


@pytest.mark.parametrize(("said", "wrong"), [("uptime 7.50\n", False), ("uptime 480.00\n", True)])
def test_a_guest_whose_clock_runs_away_is_found_at_its_start(
    tmp_path: Path, said: str, *, wrong: bool
) -> None:
    result = tmp_path / "result"
    result.write_text(said)
    if not wrong:
        qemu.check_clock(result, 5.0)
        return
    with pytest.raises(qemu.WrongClockError, match="it has run for 480 s"):
        qemu.check_clock(result, 5.0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")
def test_whoever_tests_have_left_behind_ends_in_whatever_namespace(tmp_path: Path) -> None:
    outcomes = tmp_path / "outcomes"
    outcomes.touch()
    mounting = 'mount -t tmpfs tmpfs /run; touch /run/outcomes; mount --bind "$1" /run/outcomes'
    leaving = "setsid unshare --mount sleep 987 >/dev/null & echo $!"
    told = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f"{mounting}; {leaving}", "sh", outcomes],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    userlands.end_all_with(outcomes)
    wait_until("it ends", lambda: has_ended(int(told)))


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_is_late_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["sh", "-c", "sleep 987 & echo $!; wait"]
    with pytest.raises(failure.FailedError, match="not finished after 1 s") as late:
        commands.run("tests", log, command, limit_s=1)
    assert late.value.slow
    pid = int(log.read_text().splitlines()[-1])
    wait_until(f"{pid} ends", lambda: has_ended(pid))


_WAITS = """
import pathlib, sys
from vmtest import commands
commands.end_in_order()
commands.run("tests", pathlib.Path(sys.argv[1]), ["sh", "-c", "sleep 987 & echo $!; wait"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_it_has_started(tmp_path: Path, number: int) -> None:
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS, log],
        env=os.environ | {"PYTHONPATH": str(failure.ROOT / "scripts" / "vm")},
    ) as popen:
        wait_until("it runs", lambda: log.exists() and log.read_text().count("\n") > 1)
        pid = int(log.read_text().splitlines()[-1])
        popen.send_signal(number)
    assert popen.returncode == 128 + number
    wait_until(f"{pid} ends", lambda: has_ended(pid))
