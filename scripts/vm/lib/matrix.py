"""Runs the kernel tests on each supported kernel in QEMU and prints one table."""

from __future__ import annotations

import shlex
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
from failure import ROOT, FailedError, end_in_order, preparing, status
from store import LOGS, say
from supported import KERNELS, Kernel
from supported import userland as userland_of
from table import table

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIMIT_S = 1500


class Outcome(NamedTuple):
    """What came of one kernel."""

    row: list[str]
    faults: list[str]
    unable: bool = False
    """It could not be had, so nothing was tested."""
    slow: bool = False
    """Its tests did not come to their end, and none had failed by then."""


def main() -> int:
    """Return the exit status."""
    end_in_order()
    choice = _choice()
    kernels = [kernel for kernel in KERNELS if kernel.series in choice.names]
    LOGS.mkdir(parents=True, exist_ok=True)
    outcomes = [_try(kernel, choice) for kernel in kernels]
    rows = [outcome.row for outcome in outcomes]
    sys.stdout.write(
        table(["kernel", "bcc", "python", *groups.KERNEL_GROUPS, "boot", "total"], rows) + "\n"
    )
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
        "matrix",
        "Boot each supported kernel in QEMU and run the kernel tests there. "
        "PROCTREE_ACCEL=kvm or tcg overrides the choice between KVM and emulation.",
        [kernel.series for kernel in KERNELS],
        _LIMIT_S,
    )


def _try(kernel: Kernel, choice: Choice) -> Outcome:
    again = ["scripts/vm/matrix", kernel.series]
    if choice.arguments:
        again += ["--", *choice.arguments]
    console = LOGS / f"matrix-{kernel.series}.console"
    try:
        return _test(kernel, choice, console, shlex.join(again))
    except FailedError as error:
        fault = error.told(f"Linux {kernel.series}", shlex.join(again))
        row = [
            kernel.series,
            "",
            "",
            *("" for _ in groups.KERNEL_GROUPS),
            "",
            f"FAILED: {error.step}",
        ]
        return Outcome(row, [fault], unable=error.preparing, slow=error.slow)


def _test(kernel: Kernel, choice: Choice, console: Path, again: str) -> Outcome:
    began = time.monotonic()
    with preparing():
        boot = bootable(kernel)
        image = userland.image(userland_of(kernel.userland))
    accel = qemu.accelerator(boot, console)
    say(f"Linux {kernel.series}, {kernel.userland}, {accel}: {console.relative_to(ROOT)}")
    arguments = [*groups.files(ROOT), "-o", "timeout=300", *choice.arguments]
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-vm-") as name:
        tar = Path(name, "payload.tar")
        payload.write(tar, arguments)
        try:
            result, started = qemu.boot(accel, boot, [image, tar], console, choice.limit_s)
        except FailedError as error:
            _add_failures(error, results.tests(qemu.result_of(console).read_text(errors="replace")))
            raise
    said = dict(line.split(" ", 1) for line in result.splitlines() if " " in line)
    told = results.tests(result)
    if "status" not in said:
        last = told[-1].test if told else "the first test"
        raise FailedError(
            "tests", f"the guest stopped before its tests ended, after {last}", console
        )
    if not said["release"].startswith(f"{kernel.series}."):
        say(f"{kernel.suite} has Linux {said['release']} now: update scripts/vm/lib/supported.py")
    counts = {name: groups.Count() for name in groups.KERNEL_GROUPS}
    for each in told:
        for name in groups.of(each.test):
            counts[name].add(each)
    faults = groups.faults(counts, told, whole=not choice.arguments)
    if said["status"] != "0":
        faults.append(f"pytest's exit status is {said['status']}")
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
    return Outcome(row, faults)


def _add_failures(error: FailedError, told: Sequence[groups.Told]) -> None:
    """Tell in an error what had failed before, and at which test it happened."""
    found = groups.faults({}, told, whole=False)
    if told:
        found.append(f"after {len({each.test for each in told})} tests; the last: {told[-1].test}")
    error.reason = "\n  ".join([error.reason, *found])
    error.slow = error.slow and not any(each.outcome == "failed" for each in told)


if __name__ == "__main__":
    sys.exit(main())
