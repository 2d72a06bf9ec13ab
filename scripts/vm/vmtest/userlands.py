"""Runs the suite with the Python and BCC of other Debian suites, on the running kernel."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vmtest import checkout_archive, results, root_filesystem
from vmtest.cache import fresh_log, is_writable, locked, rebuild_on_next_use, say
from vmtest.command_line import Selection, parse_selection
from vmtest.commands import end_in_order, run, tail
from vmtest.failure import ROOT, UNABLE, FailedError, unexpected
from vmtest.run_each import (
    InterruptedRunError,
    print_report,
    run_each,
    signal_status,
    version_mismatch,
)
from vmtest.supported import USERLANDS, Userland, userland_of
from vmtest.table import table
from vmtest.tools import install_tools

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIMIT_S = 2400
_PATIENCE_S = 10


class Outcome(NamedTuple):
    """What came of one userland."""

    suite: str
    versions: list[str]
    counts: dict[str, results.Count]
    faults: list[str]
    unable: bool = False
    slow: bool = False
    outdated: Sequence[str] = ()
    seconds: float = 0.0


def main() -> int:
    """Return the exit status."""
    end_in_order()
    selection = _selection()
    if os.geteuid() != 0:
        say("mounting another root file system needs root; run this with sudo")
        return UNABLE
    if not is_writable():
        return UNABLE
    install_tools("vm")
    if selection.refresh:
        rebuild_on_next_use(*(f"userland-{suite}" for suite in selection.names))
    outcomes, interruption = run_each(
        selection.names, lambda suite: _try(userland_of(suite), selection)
    )
    report = f"Linux {platform.release()}\n{_table(outcomes)}"
    return print_report(report, outcomes, interruption)


def _selection() -> Selection:
    return parse_selection(
        ["sudo", "scripts/vm/userlands"],
        "Run the test suite with the Python and BCC of other Debian suites, on the running kernel. "
        "Root file systems are built once and kept in .cache.",
        [each.suite for each in USERLANDS],
        _LIMIT_S,
    )


def _try(userland: Userland, selection: Selection) -> Outcome:
    began = time.monotonic()
    try:
        with unexpected(), locked(f"userlands-{userland.suite}.lock"):
            outcome = _test(userland, selection)
    except FailedError as error:
        outcome = _failed(userland, error, selection)
    return outcome._replace(seconds=time.monotonic() - began)


def _failed(userland: Userland, error: FailedError, selection: Selection) -> Outcome:
    fault = _report(userland, error, selection)
    return Outcome(userland.suite, ["", ""], {}, [fault], unable=error.unable, slow=error.slow)


def _report(userland: Userland, error: FailedError, selection: Selection) -> str:
    subject = f"userland {userland.suite} on Linux {platform.release()}"
    return error.report(subject, selection.again(userland.suite))


def _test(userland: Userland, selection: Selection) -> Outcome:
    root = root_filesystem.root_of(userland)
    log = fresh_log(f"userlands-{userland.suite}")
    say(f"the suite in {userland.suite}: {log.relative_to(ROOT)}")
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-vm-") as name:
        archive, outcomes = Path(name, "checkout.tar"), Path(name, "outcomes")
        checkout_archive.write(archive, selection.arguments)
        outcomes.touch()
        try:
            error = _run_suite(root, archive, outcomes, log, selection.limit_s)
        except (KeyboardInterrupt, SystemExit) as end:
            reports = results.read_reports(outcomes.read_text())
            failures = results.faults({}, reports, whole=False)
            if not failures:
                raise
            cut = FailedError("tests", "\n  ".join(["ended by a signal", *failures]), log)
            raise InterruptedRunError(
                _failed(userland, cut, selection), signal_status(end)
            ) from None
        finally:
            end_all_with(outcomes)
        reports = results.read_reports(outcomes.read_text())
    counts: dict[str, results.Count] = {}
    for report in reports:
        counts.setdefault(_directory_of(report.test), results.Count()).add(report)
    bcc, python = _versions(root, userland.python)
    outdated = [
        *version_mismatch(f"the BCC of {userland.suite}", userland.bcc, bcc),
        *version_mismatch(f"the Python of {userland.suite}", userland.python, python),
    ]
    outcome = Outcome(userland.suite, [bcc, python], counts, [], outdated=outdated)
    faults = _faults(counts, reports, error, log)
    if not faults:
        return outcome
    slow = _is_late(error) and not any(count.failed for count in counts.values())
    fault = _report(userland, FailedError("tests", "\n  ".join(faults), log), selection)
    return outcome._replace(faults=[fault], slow=slow)


def _run_suite(
    root: Path, archive: Path, outcomes: Path, log: Path, limit_s: float
) -> FailedError | None:
    """Run the suite in a root file system; return how pytest failed, if it did."""
    enter = ROOT / "scripts/vm/guest/enter"
    namespace = ["unshare", "--mount", "--propagation", "private"]
    try:
        run("tests", log, [*namespace, enter, root, archive, outcomes], limit_s=limit_s)
    except FailedError as error:
        return error
    return None


def _is_late(error: FailedError | None) -> bool:
    return error is not None and error.slow


def _faults(
    counts: Mapping[str, results.Count],
    reports: Sequence[results.PhaseReport],
    error: FailedError | None,
    log: Path,
) -> list[str]:
    """Return what is wrong: failed tests, or else why pytest failed without one."""
    faults = results.faults(counts, reports, whole=False)
    if error is not None and (error.slow or not faults):
        faults.append(error.reason)
        if reports and error.slow:
            faults.append(f"after {reports[-1].test}")
    if not reports:
        faults.append(f"no test was run\n{tail(log)}")
    return faults


def end_all_with(outcomes: Path) -> None:
    """End what the tests have left, in whatever session or namespace it is.

    They have a mount of the file of outcomes, and nobody else has.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while left := [pid for pid in _pids() if _has_mount(pid, outcomes)]:
        if time.monotonic() > deadline:
            say(f"these processes, which the tests left, do not end: {' '.join(map(str, left))}")
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _has_mount(pid: int, outcomes: Path) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/root/run/outcomes").samefile(outcomes)
    return False


def _directory_of(test: str) -> str:
    directory = Path(test.partition("::")[0]).parent
    return "other" if directory == Path("tests") else directory.name


def _versions(root: Path, version: str) -> list[str]:
    """Return the versions of BCC and of this Python in a root file system."""
    found = []
    for package in ("python3-bpfcc", f"python{version}"):
        admin = f"--admindir={root}/var/lib/dpkg"
        command = ["dpkg-query", admin, "-W", "-f", "${Version}", package]
        version = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found.append(version.partition("+")[0].partition("-")[0])
    return found


def _table(outcomes: Sequence[Outcome]) -> str:
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.counts))
    cells = [
        [
            outcome.suite, *outcome.versions,
            *(outcome.counts[name].cell() if name in outcome.counts else "" for name in names),
            f"{outcome.seconds:.0f} s",
        ]
        for outcome in outcomes
    ]  # fmt: skip
    return table(["userland", "bcc", "python", *names, "total"], cells)
