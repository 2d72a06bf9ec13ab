"""How runs of scripts/vm end: what is a failure, and what only says that a machine cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from support.waiting import wait_until

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
    lib: Any, capsys: pytest.CaptureFixture[str], outcomes: list[Outcome], status: int
) -> None:
    assert lib("verdict").conclude("the table", outcomes, None) == status
    told = capsys.readouterr().out
    for line in (line for outcome in outcomes for line in (*outcome.faults, *outcome.outdated)):
        assert line in told


@pytest.mark.parametrize(("first", "status"), [(PASSED, 143), (SLOW, 143), (FAILED, 1)])
def test_a_signal_does_not_take_what_was_seen_before(
    lib: Any, capsys: pytest.CaptureFixture[str], first: Outcome, status: int
) -> None:
    def attempt(name: str) -> Outcome:
        if name == "Linux 7.2":
            sys.exit(143)
        return first

    verdict = lib("verdict")
    outcomes, cut = verdict.try_each(["Linux 5.10", "Linux 7.2", "never"], attempt)
    assert outcomes == [first]
    assert verdict.conclude("the table", outcomes, cut) == status
    told = capsys.readouterr().out
    assert told.startswith("the table\n")
    assert "ended by a signal while testing Linux 7.2" in told


def test_what_had_failed_when_a_signal_came_counts(lib: Any) -> None:
    verdict = lib("verdict")

    def attempt(_name: str) -> Outcome:
        raise verdict.EndedError(FAILED, 143)

    outcomes, cut = verdict.try_each(["Linux 5.10"], attempt)
    assert (outcomes, cut.status) == ([FAILED], 143)
    assert verdict.conclude("the table", outcomes, cut) == 1


@pytest.mark.parametrize(
    ("supported", "found", "same"),
    [("7.2", "7.2.13+deb14-cloud-amd64", True), ("0.31", "0.31.0+ds-7", True),
     ("7.2", "7.20.1", False), ("3.14", "3.13.5", False), ("0.37", "", False)],
)  # fmt: skip
def test_another_version_than_the_one_that_is_listed_is_told(
    lib: Any, supported: str, found: str, *, same: bool
) -> None:
    assert (lib("verdict").differs("it", supported, found) == []) is same


def test_only_what_comes_from_others_may_be_unable(lib: Any) -> None:
    failure = lib("failure")
    with pytest.raises(failure.FailedError) as fetched, failure.fetching():
        raise failure.FailedError("packages", "no network")
    with pytest.raises(failure.FailedError) as built:
        raise failure.FailedError("image", "mke2fs failed")
    assert (fetched.value.unable, built.value.unable) == (True, False)


def test_what_nobody_thought_of_is_told_as_a_failure_too(
    lib: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = lib("failure")
    with (
        pytest.raises(failure.FailedError, match="OSError: the disk is full"),
        failure.unexpected(),
    ):
        raise OSError("the disk is full")
    assert "Traceback" in capsys.readouterr().err


def test_the_command_that_does_it_again_has_all_that_was_chosen(
    lib: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROCTREE_ACCEL", "tcg")
    monkeypatch.setattr(sys, "argv", ["matrix", "--limit", "420", "newest", "--", "-k", "a or b"])
    choice = lib("choice").parse(["scripts/vm/matrix"], "", ["5.10", "7.2"], 1500)
    assert (
        choice.again("7.2") == "PROCTREE_ACCEL=tcg scripts/vm/matrix --limit 420 7.2 -- -k 'a or b'"
    )


@pytest.mark.parametrize("limit", ["nan", "inf", "0", "-1", "soon"])
def test_a_limit_is_a_number_of_seconds(
    lib: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["matrix", f"--limit={limit}"])
    with pytest.raises(SystemExit) as ended:
        lib("choice").parse(["scripts/vm/matrix"], "", ["5.10", "7.2"], 1500)
    assert ended.value.code == 2
    assert limit in capsys.readouterr().err


def test_what_was_built_by_other_code_is_built_anew(
    lib: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = lib("store")
    monkeypatch.setattr(store, "CACHE", tmp_path)
    (tmp_path / "it-0123456789ab.part").mkdir()  # left by a run that was killed
    codes = [tmp_path / "one.py", tmp_path / "other.py"]
    for number, code in enumerate(codes):
        code.write_text(f"def build(directory):\n    (directory / 'made').write_text('{number}')\n")
    made = []
    for code in (codes[0], codes[0], codes[1]):
        scope: dict[str, Any] = {}
        exec(compile(code.read_text(), code, "exec"), scope)  # noqa: S102 - as a module is
        made.append(store.built("it", ["inputs"], scope["build"]))
    assert made[0] == made[1] != made[2]
    assert (made[2] / "made").read_text() == "1"
    assert sorted(tmp_path.glob("it-*")) == [made[2]]


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
