"""Runs the kernel tests on each supported kernel in QEMU and prints one table."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import groups
import payload
import qemu
import results
import userland
from cloud_kernel import bootable
from failure import ROOT, FailedError
from store import LOGS, only_one, say
from supported import KERNELS, Kernel
from supported import userland as userland_of
from table import table


class Outcome(NamedTuple):
    """What came of one kernel."""

    row: list[str]
    faults: list[str]


def main() -> int:
    """Return the exit status."""
    options = _parse()
    kernels = [kernel for kernel in KERNELS if kernel.series in options.kernels]
    LOGS.mkdir(parents=True, exist_ok=True)
    rows, faults = [], []
    with only_one():
        for kernel in kernels:
            outcome = _try(kernel, options)
            rows.append(outcome.row)
            faults += outcome.faults
    sys.stdout.write(
        table(["kernel", "bcc", "python", *groups.KERNEL_GROUPS, "boot", "total"], rows) + "\n"
    )
    for fault in faults:
        sys.stdout.write(f"\n{fault}\n")
    return 1 if faults else 0


def _parse() -> argparse.Namespace:
    series = [kernel.series for kernel in KERNELS]
    parser = argparse.ArgumentParser(
        prog="scripts/vm/matrix",
        usage="scripts/vm/matrix [--limit SECONDS] [KERNEL...] [-- PYTEST-ARGUMENT...]",
        description="Boot each supported kernel in QEMU and run the kernel tests there. "
        "PROCTREE_ACCEL=kvm or tcg overrides the choice between KVM and emulation.",
    )
    parser.add_argument(
        "kernels", nargs="*", default=series, metavar="KERNEL",
        help=f"which of {' '.join(series)}; all of them otherwise",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=float, default=1500, metavar="SECONDS", help="for each guest (%(default)s)"
    )
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    options.arguments = words[split + 1 :]
    for kernel in options.kernels:
        if kernel not in series:
            parser.error(f"{kernel} is not among the supported kernels: {' '.join(series)}")
    return options


def _try(kernel: Kernel, options: argparse.Namespace) -> Outcome:
    again = ["scripts/vm/matrix", kernel.series]
    if options.arguments:
        again += ["--", *options.arguments]
    console = LOGS / f"matrix-{kernel.series}.console"
    try:
        return _test(kernel, options, console, shlex.join(again))
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
        return Outcome(row, [fault])


def _test(kernel: Kernel, options: argparse.Namespace, console: Path, again: str) -> Outcome:
    began = time.monotonic()
    boot = bootable(kernel)
    image = userland.image(userland_of(kernel.userland))
    accel = qemu.accelerator(boot, console)
    say(f"Linux {kernel.series}, {kernel.userland}, {accel}: {console.relative_to(ROOT)}")
    arguments = [*groups.files(ROOT), "-o", "timeout=300", *options.arguments]
    with tempfile.TemporaryDirectory(prefix="proctree-bpf-vm-") as name:
        tar = Path(name, "payload.tar")
        payload.write(tar, arguments)
        result, started = qemu.boot(accel, boot, [image, tar], console, options.limit)
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
    faults = groups.faults(counts, told, whole=not options.arguments)
    if said["status"] != "0":
        faults.append(f"pytest's exit status is {said['status']}")
    if faults:
        error = FailedError("tests", "\n  ".join(faults), console)
        faults = [error.told(f"Linux {said['release']}", again)]
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


if __name__ == "__main__":
    sys.exit(main())
