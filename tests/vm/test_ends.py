"""How runs of scripts/vm end: what is a failure, and what only says that a machine cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, cast

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
    lib: Any, tmp_path: Path, said: str, *, is_others: bool
) -> None:
    failure, log = lib("failure"), tmp_path / "log"
    failure.run("before", log, ["echo", "W: Failed to fetch, but in an earlier command"])
    with pytest.raises(failure.FailedError) as error, failure.fetching():
        failure.run("packages", log, ["sh", "-c", 'echo "$1"; exit 1', "sh", said])
    assert error.value.unable is is_others


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
    store, code = lib("store"), tmp_path / "code.py"
    monkeypatch.setattr(store, "CACHE", tmp_path)
    monkeypatch.setattr(store, "BUILDERS", [code])
    (tmp_path / "it-0123456789ab.part").mkdir()  # left by a run that was killed
    made = []
    for text in ("one", "one", "other"):
        code.write_text(text)
        made.append(
            store.built("it", [], lambda directory: (directory / code.name).write_text(text))  # noqa: B023 - called now
        )
    assert made[0] == made[1] != made[2]
    assert (made[2] / code.name).read_text() == "other"
    assert sorted(tmp_path.glob("it-*")) == [made[2]]


def test_the_code_of_what_is_built_is_known(lib: Any) -> None:
    store = lib("store")
    files = (path for path in store.BUILDERS[0].parent.glob("*.py") if path.name != "store.py")
    callers = {path for path in files if "built(" in path.read_text()}
    assert callers < set(store.BUILDERS)
    assert all(path.exists() for path in store.BUILDERS)


def test_what_is_outdated_stays_until_it_has_been_built_anew(
    lib: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = lib("store")
    monkeypatch.setattr(store, "CACHE", tmp_path)

    def build(text: str) -> Path:
        def write(directory: Path) -> None:
            (directory / "made").write_text(text)
            if not text:
                raise OSError("no network")

        return cast("Path", store.built("it", [], write) / "made")

    made = build("old")
    store.build_anew("it")
    with pytest.raises(OSError, match="no network"):
        build("")
    assert made.read_text() == "old"
    assert build("new") == made
    assert made.read_text() == "new"
    assert build("newer").read_text() == "new"
    assert sorted(tmp_path.glob("it-*")) == [made.parent]


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


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ((100, 5, 99), None),
        ((421, 5, 400), "no end after 420 s"),
        ((421, 5, 260), "nothing came for 161 s"),
        ((200, 5, 6), "nothing came for 194 s"),
        ((89, 0, 0), None),
        ((100, 0, 0), "no start after 100 s"),
    ],
)
def test_a_guest_that_hangs_is_not_taken_for_a_slow_one(
    lib: Any, tmp_path: Path, times: tuple[float, float, float], told: str | None
) -> None:
    qemu, failure = lib("qemu"), lib("failure")
    limits = qemu.limits(420)
    if told is None:
        qemu._check_progress(*times, limits, tmp_path)
        return
    with pytest.raises(failure.FailedError) as error:
        qemu._check_progress(*times, limits, tmp_path)
    assert error.value.reason == told
    assert error.value.slow is told.startswith("no end")
    assert error.value.step == ("boot" if "start" in told else "tests")


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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")
def test_whoever_tests_have_left_behind_ends_in_whatever_namespace(
    lib: Any, tmp_path: Path
) -> None:
    outcomes = tmp_path / "outcomes"
    outcomes.touch()
    mounting = 'mount -t tmpfs tmpfs /run; touch /run/outcomes; mount --bind "$1" /run/outcomes'
    leaving = "setsid unshare --mount sleep 987 >/dev/null & echo $!"
    told = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f"{mounting}; {leaving}", "sh", outcomes],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    lib("userlands")._end_all_with(outcomes)
    wait_until("it ends", lambda: has_ended(int(told)))


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
