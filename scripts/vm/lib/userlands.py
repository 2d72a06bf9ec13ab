"""Runs the suite with the Python and BCC of other Debian suites, on the running kernel."""

from __future__ import annotations

import argparse
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
from failure import ROOT, FailedError, run, tail
from store import fresh_log, only_one, say
from supported import USERLANDS, Userland
from table import table

_UNABLE = 77
_LIMIT_S = 2400


def main() -> int:
    """Return the exit status."""
    options = _parse()
    if os.geteuid() != 0:
        say("mounting another root file system needs root; run this with sudo")
        return _UNABLE
    rows, faults = [], []
    names: dict[str, None] = {}
    with only_one():
        for each in (each for each in USERLANDS if each.suite in options.suites):
            again = shlex.join(
                ["sudo", "scripts/vm/userlands", each.suite, "--", *options.arguments]
            )
            began = time.monotonic()
            try:
                counts, versions, found = _test(each, options.arguments)
            except FailedError as error:
                found = [error.told(f"userland {each.suite}", again)]
                counts, versions = {}, ["", ""]
            names |= dict.fromkeys(counts)
            faults += found
            rows.append((each.suite, versions, counts, time.monotonic() - began))
    sys.stdout.write(_shown(rows, list(names)) + "\n")
    for fault in faults:
        sys.stdout.write(f"\n{fault}\n")
    return 1 if faults else 0


def _parse() -> argparse.Namespace:
    suites = [each.suite for each in USERLANDS]
    parser = argparse.ArgumentParser(
        prog="scripts/vm/userlands",
        usage="scripts/vm/userlands [SUITE...] [-- PYTEST-ARGUMENT...]",
        description="Run the test suite with the Python and BCC of other Debian suites, on the "
        "running kernel. Root file systems are built once and kept in .cache/vm.",
    )
    parser.add_argument(
        "suites", nargs="*", default=suites, metavar="SUITE",
        help=f"which of {' '.join(suites)}; all of them otherwise",
    )  # fmt: skip
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    options.arguments = words[split + 1 :]
    for suite in options.suites:
        if suite not in suites:
            parser.error(f"{suite} is not among the supported suites: {' '.join(suites)}")
    return options


def _test(
    each: Userland, arguments: list[str]
) -> tuple[dict[str, groups.Count], list[str], list[str]]:
    root = userland.root(each)
    log = fresh_log(f"userlands-{each.suite}")
    say(f"the suite in {each.suite}: {log.relative_to(ROOT)}")
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-vm-") as name:
        tar, outcomes = Path(name, "payload.tar"), Path(name, "outcomes")
        payload.write(tar, arguments)
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
                limit_s=_LIMIT_S,
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
        again = shlex.join(["sudo", "scripts/vm/userlands", each.suite, "--", *arguments])
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
