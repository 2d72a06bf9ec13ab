"""Runs the suite with the Python and BCC of other Debian suites, on the running kernel."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import groups
import payload
import results
import userland
from choice import Choice, parse
from failure import ROOT, UNABLE, FailedError, preparing, run, tail
from store import fresh_log, say
from supported import USERLANDS, Userland
from table import table

_LIMIT_S = 2400


def main() -> int:
    """Return the exit status."""
    choice = _choice()
    if os.geteuid() != 0:
        say("mounting another root file system needs root; run this with sudo")
        return UNABLE
    rows, faults, unable = [], [], True
    names: dict[str, None] = {}
    for each in (each for each in USERLANDS if each.suite in choice.names):
        again = shlex.join(["sudo", "scripts/vm/userlands", each.suite, "--", *choice.arguments])
        began = time.monotonic()
        try:
            counts, versions, found = _test(each, choice)
        except FailedError as error:
            found = [error.told(f"userland {each.suite}", again)]
            counts, versions = {}, ["", ""]
            unable = unable and error.preparing
        else:
            unable = unable and not found
        names |= dict.fromkeys(counts)
        faults += found
        rows.append((each.suite, versions, counts, time.monotonic() - began))
    sys.stdout.write(_shown(rows, list(names)) + "\n")
    for fault in faults:
        sys.stdout.write(f"\n{fault}\n")
    if faults and unable:
        return UNABLE
    return 1 if faults else 0


def _choice() -> Choice:
    return parse(
        "userlands",
        "Run the test suite with the Python and BCC of other Debian suites, on the running kernel. "
        "Root file systems are built once and kept in .cache/vm.",
        [each.suite for each in USERLANDS],
        _LIMIT_S,
    )


def _test(each: Userland, choice: Choice) -> tuple[dict[str, groups.Count], list[str], list[str]]:
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
    if failed is not None or not told:
        reason = faults or [failed.reason if failed else f"nothing ran\n{tail(log)}"]
        raise_at = FailedError("tests", "\n  ".join(reason), log)
        again = shlex.join(["sudo", "scripts/vm/userlands", each.suite, "--", *choice.arguments])
        faults = [raise_at.told(f"userland {each.suite}", again)]
    return counts, _versions(root), faults


def _group(test: str) -> str:
    directory = Path(test.partition("::")[0]).parent
    return "other" if directory == Path("tests") else directory.name


def _versions(root: Path) -> list[str]:
    """Return the versions of BCC and Python in a root file system."""
    found = []
    for package in ("python3-bpfcc", "python3"):
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
