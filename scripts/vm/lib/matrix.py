"""Runs the kernel tests on each supported kernel in QEMU and prints one table."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import groups
import payload
import qemu
import results
import userland
from choice import Choice, parse
from cloud_kernel import bootable
from failure import ROOT, UNABLE, FailedError, end_in_order, late, unexpected
from store import LOGS, build_anew, is_ours, only_one, say
from supported import KERNELS, Kernel
from supported import userland as userland_of
from table import table
from tools import install
from verdict import EndedError, conclude, differs, signalled, try_each

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIMIT_S = 1500
_NO_TESTS = "5"


class Outcome(NamedTuple):
    """What came of one kernel."""

    row: list[str]
    faults: list[str]
    unable: bool = False
    slow: bool = False
    outdated: Sequence[str] = ()


def main() -> int:
    """Return the exit status."""
    end_in_order()
    choice = _choice()
    if not is_ours():
        return UNABLE
    install("vm")
    kernels = {f"Linux {kernel.series}": kernel for kernel in KERNELS}
    chosen = [name for name, kernel in kernels.items() if kernel.series in choice.names]
    LOGS.mkdir(parents=True, exist_ok=True)
    if choice.refresh:
        build_anew(*_names_of(*(kernels[name] for name in chosen)))
    outcomes, cut = try_each(chosen, lambda name: _try(kernels[name], choice))
    head = ["kernel", "bcc", "python", *groups.KERNEL_GROUPS, "boot", "total"]
    return conclude(table(head, [outcome.row for outcome in outcomes]), outcomes, cut)


def _choice() -> Choice:
    choice = parse(
        ["scripts/vm/matrix"],
        "Boot each supported kernel in QEMU and run the kernel tests there. "
        "PROCTREE_ACCEL=kvm or tcg overrides the choice between KVM and emulation.",
        [kernel.series for kernel in KERNELS],
        _LIMIT_S,
    )
    if not qemu.is_known(chosen := os.environ.get("PROCTREE_ACCEL", "")):
        say(f"PROCTREE_ACCEL is {chosen!r}, and must be kvm or tcg")
        sys.exit(2)
    return choice


def _names_of(*kernels: Kernel) -> list[str]:
    """Return the names under which they are in the cache."""
    suites = {kernel.userland for kernel in kernels}
    kernel_names = [f"kernel-{kernel.series}" for kernel in kernels]
    return [*kernel_names, *(f"userland-{suite}" for suite in suites)]


def _try(kernel: Kernel, choice: Choice) -> Outcome:
    again = choice.again(kernel.series)
    console = LOGS / f"matrix-{kernel.series}.console"
    try:
        with unexpected(), only_one(f"matrix-{kernel.series}.lock"):
            return _test(kernel, choice, console, again)
    except FailedError as error:
        return _failed(kernel, error, again)


def _failed(kernel: Kernel, error: FailedError, again: str) -> Outcome:
    fault = error.told(f"Linux {kernel.series}", again)
    empty = [""] * (2 + len(groups.KERNEL_GROUPS) + 1)
    row = [kernel.series, *empty, f"FAILED: {error.step}"]
    return Outcome(row, [fault], unable=error.unable, slow=error.slow)


def _test(kernel: Kernel, choice: Choice, console: Path, again: str) -> Outcome:
    began = time.monotonic()
    system = userland_of(kernel.userland)
    boot = bootable(kernel)
    image = userland.image(system)
    accel = qemu.accelerator(boot, console)
    say(f"Linux {kernel.series}, {kernel.userland}, {accel}: {console.relative_to(ROOT)}")
    limits = qemu.limits(choice.limit_s)
    timeout = ["-o", f"timeout={limits.test_s:.0f}"]
    arguments = [*groups.files(ROOT), *timeout, *choice.arguments]
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-vm-") as name:
        tar = Path(name, "payload.tar")
        payload.write(tar, arguments)
        try:
            result, started = qemu.boot(accel, boot, [image, tar], console, limits)
        except FailedError as error:
            _add_failures(error, _told(console))
            raise
        except (KeyboardInterrupt, SystemExit) as end:
            cut = late("tests", "ended by a signal", console)
            _add_failures(cut, _told(console))
            if cut.slow:
                raise
            raise EndedError(_failed(kernel, cut, again), signalled(end)) from None
    said = dict(line.split(" ", 1) for line in result.splitlines() if " " in line)
    told = results.tests(result)
    if not started:
        raise FailedError("boot", "the guest stopped before it said anything", console)
    if "status" not in said:
        last = told[-1].test if told else "the first test"
        raise FailedError(
            "tests", f"the guest stopped before its tests ended, after {last}", console
        )
    counts = {name: groups.Count() for name in groups.KERNEL_GROUPS}
    for each in told:
        for name in groups.of(each.test):
            counts[name].add(each)
    faults = groups.faults(counts, told, whole=not choice.arguments)
    if said["status"] != "0":
        why = " (no test was chosen)" if said["status"] == _NO_TESTS else ""
        faults.append(f"pytest's exit status is {said['status']}{why}")
    if faults:
        fault = FailedError("tests", "\n  ".join(faults), console)
        faults = [fault.told(f"Linux {said['release']}", again)]
    total = time.monotonic() - began
    cells = [count.cell() for count in counts.values()]
    row = [
        said["release"],
        said["bcc"],
        said["python"],
        *cells,
        f"{started:.0f} s",
        f"{total:.0f} s",
    ]
    outdated = [
        *differs(f"the kernel of {kernel.suite}", kernel.series, said["release"]),
        *differs(f"the BCC of {kernel.userland}", system.bcc, said["bcc"]),
        *differs(f"the Python of {kernel.userland}", system.python, said["python"]),
    ]
    return Outcome(row, faults, outdated=outdated)


def _told(console: Path) -> list[groups.Told]:
    """Return what the guest has written so far."""
    return results.tests(qemu.result_of(console).read_text(errors="replace"))


def _add_failures(error: FailedError, told: Sequence[groups.Told]) -> None:
    """Tell in an error what had failed before, and at which test it happened."""
    found = groups.faults({}, told, whole=False)
    if told:
        found.append(f"after {len({each.test for each in told})} tests; the last: {told[-1].test}")
    error.reason = "\n  ".join([error.reason, *found])
    error.slow = error.slow and not any(each.outcome == "failed" for each in told)


if __name__ == "__main__":
    sys.exit(main())
