"""Runs the suite with the Python and BCC of other Debian suites, on the running kernel."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import groups
import payload
import results
import userland
from choice import Choice, parse
from failure import ROOT, UNABLE, FailedError, end_in_order, preparing, run, status, tail
from store import fresh_log, say
from supported import USERLANDS, Userland
from table import table

_LIMIT_S = 2400


class Outcome(NamedTuple):
    """What came of one userland."""

    versions: list[str]
    counts: dict[str, groups.Count]
    faults: list[str]
    unable: bool = False
    """It could not be had, so nothing was tested."""
    slow: bool = False
    """Its tests did not come to their end, and none had failed by then."""


def main() -> int:
    """Return the exit status."""
    end_in_order()
    choice = _choice()
    if os.geteuid() != 0:
        say("mounting another root file system needs root; run this with sudo")
        return UNABLE
    rows, outcomes = [], []
    for each in (each for each in USERLANDS if each.suite in choice.names):
        began = time.monotonic()
        outcome = _try(each, choice)
        rows.append((each.suite, outcome.versions, outcome.counts, time.monotonic() - began))
        outcomes.append(outcome)
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.counts)
    sys.stdout.write(_shown(rows, list(names)) + "\n")
    failed = [outcome for outcome in outcomes if outcome.faults]
    for fault in (fault for outcome in failed for fault in outcome.faults):
        sys.stdout.write(f"\n{fault}\n")
    return status(
        faults=bool(failed),
        unable=all(outcome.unable for outcome in failed),
        slow=all(outcome.unable or outcome.slow for outcome in failed),
    )


def _choice() -> Choice:
    return parse(
        "userlands",
        "Run the test suite with the Python and BCC of other Debian suites, on the running kernel. "
        "Root file systems are built once and kept in .cache/vm.",
        [each.suite for each in USERLANDS],
        _LIMIT_S,
    )


def _try(each: Userland, choice: Choice) -> Outcome:
    again = ["sudo", "scripts/vm/userlands", each.suite]
    if choice.arguments:
        again += ["--", *choice.arguments]
    try:
        return _test(each, choice, shlex.join(again))
    except FailedError as error:
        fault = error.told(f"userland {each.suite}", shlex.join(again))
        return Outcome(["", ""], {}, [fault], unable=error.preparing)


def _test(each: Userland, choice: Choice, again: str) -> Outcome:
    with preparing():
        root = userland.root(each)
    log = fresh_log(f"userlands-{each.suite}")
    say(f"the suite in {each.suite}: {log.relative_to(ROOT)}")
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
        told = results.tests(outcomes.read_text())
    counts: dict[str, groups.Count] = {}
    for test in told:
        counts.setdefault(_group(test.test), groups.Count()).add(test)
    faults = groups.faults(counts, told, whole=False)
    if not faults and failed is not None:
        faults = [failed.reason]
    if not told:
        faults.append(f"nothing ran\n{tail(log)}")
    if not faults:
        return Outcome(_versions(root, each.python), counts, [])
    slow = failed is not None and failed.slow and not any(count.failed for count in counts.values())
    fault = FailedError("tests", "\n  ".join(faults), log).told(f"userland {each.suite}", again)
    return Outcome(_versions(root, each.python), counts, [fault], slow=slow)


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


def _shown(
    rows: list[tuple[str, list[str], dict[str, groups.Count], float]], names: list[str]
) -> str:
    cells = [
        [
            suite, *versions,
            *(counts[name].cell() if name in counts else "" for name in names), f"{seconds:.0f} s",
        ]
        for suite, versions, counts, seconds in rows
    ]  # fmt: skip
    return table(["userland", "bcc", "python", *names, "total"], cells)


if __name__ == "__main__":
    sys.exit(main())
