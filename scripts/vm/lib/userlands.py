"""Runs the suite with the Python and BCC of other Debian suites, on the running kernel."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import groups
import payload
import results
import userland
from choice import Choice, parse
from failure import ROOT, UNABLE, FailedError, end_in_order, run, tail, unexpected
from store import build_anew, fresh_log, is_ours, only_one, say
from supported import USERLANDS, Userland
from supported import userland as userland_of
from table import table
from tools import install
from verdict import EndedError, conclude, differs, signalled, try_each

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIMIT_S = 2400
_PATIENCE_S = 10


class Outcome(NamedTuple):
    """What came of one userland."""

    suite: str
    versions: list[str]
    counts: dict[str, groups.Count]
    faults: list[str]
    unable: bool = False
    slow: bool = False
    outdated: Sequence[str] = ()
    seconds: float = 0.0


def main() -> int:
    """Return the exit status."""
    end_in_order()
    choice = _choice()
    if os.geteuid() != 0:
        say("mounting another root file system needs root; run this with sudo")
        return UNABLE
    if not is_ours():
        return UNABLE
    install("vm")
    if choice.refresh:
        build_anew(*(f"userland-{suite}" for suite in choice.names))
    outcomes, cut = try_each(choice.names, lambda suite: _try(userland_of(suite), choice))
    return conclude(f"Linux {platform.release()}\n{_shown(outcomes)}", outcomes, cut)


def _choice() -> Choice:
    return parse(
        ["sudo", "scripts/vm/userlands"],
        "Run the test suite with the Python and BCC of other Debian suites, on the running kernel. "
        "Root file systems are built once and kept in .cache.",
        [each.suite for each in USERLANDS],
        _LIMIT_S,
    )


def _try(system: Userland, choice: Choice) -> Outcome:
    began = time.monotonic()
    try:
        with unexpected(), only_one(f"userlands-{system.suite}.lock"):
            outcome = _test(system, choice)
    except FailedError as error:
        fault = _told(error, system, choice)
        outcome = Outcome(system.suite, ["", ""], {}, [fault], unable=error.unable, slow=error.slow)
    return outcome._replace(seconds=time.monotonic() - began)


def _told(error: FailedError, system: Userland, choice: Choice) -> str:
    subject = f"userland {system.suite} on Linux {platform.release()}"
    return error.told(subject, choice.again(system.suite))


def _test(system: Userland, choice: Choice) -> Outcome:
    root = userland.root(system)
    log = fresh_log(f"userlands-{system.suite}")
    say(f"the suite in {system.suite}: {log.relative_to(ROOT)}")
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-vm-") as name:
        tar, outcomes = Path(name, "payload.tar"), Path(name, "outcomes")
        payload.write(tar, choice.arguments)
        outcomes.touch()
        failed = None
        try:
            run(
                "tests",
                log,
                [
                    "unshare", "--mount", "--propagation", "private",
                    ROOT / "scripts/vm/guest/enter", root, tar, outcomes,
                ],
                limit_s=choice.limit_s,
            )  # fmt: skip
        except FailedError as error:
            failed = error
        except (KeyboardInterrupt, SystemExit) as end:
            failures = groups.faults({}, results.tests(outcomes.read_text()), whole=False)
            if not failures:
                raise
            cut = FailedError("tests", "\n  ".join(["ended by a signal", *failures]), log)
            outcome = Outcome(system.suite, ["", ""], {}, [_told(cut, system, choice)])
            raise EndedError(outcome, signalled(end)) from None
        finally:
            _end_all_with(outcomes)
        told = results.tests(outcomes.read_text())
    counts: dict[str, groups.Count] = {}
    for test in told:
        counts.setdefault(_group(test.test), groups.Count()).add(test)
    faults = groups.faults(counts, told, whole=False)
    late = failed is not None and failed.slow
    if failed is not None and (late or not faults):
        last = f"after {told[-1].test}" if told and late else ""
        faults += [failed.reason, last] if last else [failed.reason]
    if not told:
        faults.append(f"nothing ran\n{tail(log)}")
    bcc, python = _versions(root, system.python)
    outdated = [
        *differs(f"the BCC of {system.suite}", system.bcc, bcc),
        *differs(f"the Python of {system.suite}", system.python, python),
    ]
    outcome = Outcome(system.suite, [bcc, python], counts, [], outdated=outdated)
    if not faults:
        return outcome
    slow = late and not any(count.failed for count in counts.values())
    fault = _told(FailedError("tests", "\n  ".join(faults), log), system, choice)
    return outcome._replace(faults=[fault], slow=slow)


def _end_all_with(outcomes: Path) -> None:
    """End what the tests have left, in whatever session or namespace it is.

    They have a mount of the file of outcomes, and nobody else has.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while left := [pid for pid in _pids() if _has_mount(pid, outcomes)]:
        if time.monotonic() > deadline:
            say(f"these processes of the tests do not end: {' '.join(map(str, left))}")
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


def _group(test: str) -> str:
    directory = Path(test.partition("::")[0]).parent
    return "other" if directory == Path("tests") else directory.name


def _versions(root: Path, version: str) -> list[str]:
    """Return the versions of BCC and of this Python in a root file system."""
    found = []
    for package in ("python3-bpfcc", f"python{version}"):
        command = [
            "dpkg-query",
            f"--admindir={root}/var/lib/dpkg",
            "-W",
            "-f",
            "${Version}",
            package,
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found.append(told.partition("+")[0].partition("-")[0])
    return found


def _shown(outcomes: Sequence[Outcome]) -> str:
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


if __name__ == "__main__":
    sys.exit(main())
