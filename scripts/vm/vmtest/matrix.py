"""Runs the kernel tests on each supported kernel in QEMU and prints one table."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vmtest import checkout_archive, groups, qemu, results, root_filesystem
from vmtest.cache import LOGS, is_writable, locked, rebuild_on_next_use, say
from vmtest.cloud_kernel import bootable
from vmtest.command_line import Selection, parse_selection
from vmtest.commands import end_in_order
from vmtest.failure import ROOT, UNABLE, FailedError, late, unexpected
from vmtest.run_each import (
    InterruptedRunError,
    print_report,
    run_each,
    signal_status,
    version_mismatch,
)
from vmtest.supported import KERNELS, Kernel, userland_of
from vmtest.table import table
from vmtest.tools import install_tools

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIMIT_S = 1500
_NO_TESTS = "5"


class Outcome(NamedTuple):
    """What came of one kernel."""

    row: list[str]
    faults: list[str]
    unable: bool = False
    slow: bool = False
    outdated: Sequence[str] = ()


class _Finished(NamedTuple):
    """What a guest wrote until it powered off, and how many seconds it took to start."""

    facts: Mapping[str, str]
    reports: list[results.PhaseReport]
    started_s: float


def main() -> int:
    """Return the exit status."""
    end_in_order()
    selection = _selection()
    if not is_writable():
        return UNABLE
    install_tools("vm")
    kernels = {f"Linux {kernel.series}": kernel for kernel in KERNELS}
    chosen = [name for name, kernel in kernels.items() if kernel.series in selection.names]
    LOGS.mkdir(parents=True, exist_ok=True)
    if selection.refresh:
        rebuild_on_next_use(*_cached_names(*(kernels[name] for name in chosen)))
    outcomes, interruption = run_each(chosen, lambda name: _try(kernels[name], selection))
    head = ["kernel", "bcc", "python", *groups.KERNEL_GROUPS, "boot", "total"]
    rows = table(head, [outcome.row for outcome in outcomes])
    return print_report(rows, outcomes, interruption)


def _selection() -> Selection:
    selection = parse_selection(
        ["scripts/vm/matrix"],
        "Boot each supported kernel in QEMU and run the kernel tests there. "
        "KVM is used where it works, else emulation; PROCTREE_ACCEL=kvm or tcg chooses.",
        [kernel.series for kernel in KERNELS],
        _LIMIT_S,
    )
    if not qemu.is_known(chosen := os.environ.get("PROCTREE_ACCEL", "")):
        say(f"PROCTREE_ACCEL is {chosen!r}, and must be kvm or tcg")
        sys.exit(2)
    return selection


def _cached_names(*kernels: Kernel) -> list[str]:
    """Return the names under which they are in the cache."""
    suites = {kernel.userland for kernel in kernels}
    kernel_names = [f"kernel-{kernel.series}" for kernel in kernels]
    return [*kernel_names, *(f"userland-{suite}" for suite in suites)]


def _try(kernel: Kernel, selection: Selection) -> Outcome:
    again = selection.again(kernel.series)
    console = LOGS / f"matrix-{kernel.series}.console"
    try:
        with unexpected(), locked(f"matrix-{kernel.series}.lock"):
            return _test(kernel, selection, console, again)
    except FailedError as error:
        return _failed(kernel, error, again)


def _failed(kernel: Kernel, error: FailedError, again: str) -> Outcome:
    fault = error.report(f"Linux {kernel.series}", again)
    empty = [""] * (2 + len(groups.KERNEL_GROUPS) + 1)
    row = [kernel.series, *empty, f"FAILED: {error.step}"]
    return Outcome(row, [fault], unable=error.unable, slow=error.slow)


def _test(kernel: Kernel, selection: Selection, console: Path, again: str) -> Outcome:
    began = time.monotonic()
    finished = _run_guest(kernel, selection, console, again)
    counts = {name: results.Count() for name in groups.KERNEL_GROUPS}
    for report in finished.reports:
        for name in groups.groups_of(report.test):
            counts[name].add(report)
    facts = finished.facts
    faults = _faults(finished, counts, whole=not selection.arguments)
    if faults:
        failure = FailedError("tests", "\n  ".join(faults), console)
        faults = [failure.report(f"Linux {facts['release']}", again)]
    cells = [count.cell() for count in counts.values()]
    times = [f"{finished.started_s:.0f} s", f"{time.monotonic() - began:.0f} s"]
    row = [facts["release"], facts["bcc"], facts["python"], *cells, *times]
    return Outcome(row, faults, outdated=_outdated(kernel, facts))


def _run_guest(kernel: Kernel, selection: Selection, console: Path, again: str) -> _Finished:
    """Boot a kernel and let it run the tests to their end."""
    boot = bootable(kernel)
    image = root_filesystem.image_of(userland_of(kernel.userland))
    accel = qemu.accelerator(boot, console)
    say(f"Linux {kernel.series}, {kernel.userland}, {accel}: {console.relative_to(ROOT)}")
    limits = qemu.limits(selection.limit_s)
    timeout = ["-o", f"timeout={limits.test_s:.0f}"]
    arguments = [*groups.test_files(ROOT), *timeout, *selection.arguments]
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-vm-") as name:
        archive = Path(name, "checkout.tar")
        checkout_archive.write(archive, arguments)
        try:
            written, started_s = qemu.boot(accel, boot, [image, archive], console, limits)
        except FailedError as error:
            add_failures(error, _reports_so_far(console))
            raise
        except (KeyboardInterrupt, SystemExit) as end:
            cut = late("tests", "ended by a signal", console)
            add_failures(cut, _reports_so_far(console))
            if cut.slow:
                raise
            raise InterruptedRunError(_failed(kernel, cut, again), signal_status(end)) from None
    facts = dict(line.split(" ", 1) for line in written.splitlines() if " " in line)
    reports = results.read_reports(written)
    if not started_s:
        raise FailedError("boot", "the guest stopped before it wrote anything", console)
    if "status" not in facts:
        last = reports[-1].test if reports else "the first test"
        reason = f"the guest stopped before its tests ended, after {last}"
        raise FailedError("tests", reason, console)
    return _Finished(facts, reports, started_s)


def _faults(finished: _Finished, counts: Mapping[str, results.Count], *, whole: bool) -> list[str]:
    faults = results.faults(counts, finished.reports, whole=whole)
    status = finished.facts["status"]
    if status != "0":
        why = " (no test was chosen)" if status == _NO_TESTS else ""
        faults.append(f"pytest's exit status is {status}{why}")
    return faults


def _outdated(kernel: Kernel, facts: Mapping[str, str]) -> list[str]:
    userland = userland_of(kernel.userland)
    return [
        *version_mismatch(f"the kernel of {kernel.suite}", kernel.series, facts["release"]),
        *version_mismatch(f"the BCC of {userland.suite}", userland.bcc, facts["bcc"]),
        *version_mismatch(f"the Python of {userland.suite}", userland.python, facts["python"]),
    ]


def _reports_so_far(console: Path) -> list[results.PhaseReport]:
    """Return what the guest has written so far."""
    return results.read_reports(qemu.result_of(console).read_text(errors="replace"))


def add_failures(error: FailedError, reports: Sequence[results.PhaseReport]) -> None:
    """Say in an error what had failed before, and at which test it happened."""
    found = results.faults({}, reports, whole=False)
    if reports:
        count = len({report.test for report in reports})
        found.append(f"after {count} tests; the last: {reports[-1].test}")
    error.reason = "\n  ".join([error.reason, *found])
    error.slow = error.slow and not any(report.outcome == "failed" for report in reports)
