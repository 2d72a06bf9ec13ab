"""Boots a kernel in QEMU and returns what the guest wrote on its second serial line."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from vmtest.cache import say
from vmtest.failure import FailedError, late

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vmtest.cloud_kernel import Bootable

_PROBE_LIMIT_S = 10
_TRIES = 3
_CLOCK_LIMIT_S = 60
_BOOT_LIMIT_S = 90
# pytest has to find the first test, and to tell that one has reached its limit.
_GRACE_S = 30
_TEST_LIMIT_S = 300
_HANGING_TESTS = 3.5
_SMP = 2
_MEMORY_MB = 1024
# thread=single: with a thread for each CPU, Linux 7.2 crashes in some boots.
_ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=single", "-cpu", "max"),
}
# An emulator that waits for its turn is no lockup.
_APPEND = (
    "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check nokaslr mitigations=off "
    "random.trust_cpu=on nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
)


class Limits(NamedTuple):
    """How long a guest may take, and any one of its tests; both in seconds."""

    total_s: float
    test_s: float


def limits(total_s: float) -> Limits:
    """Return the limits where all may take so long: even if three tests hang, they are told."""
    return Limits(total_s, min(_TEST_LIMIT_S, total_s / _HANGING_TESTS))


def is_known(name: str) -> bool:
    """Tell whether there is such an accelerator, or none was chosen."""
    return not name or name in _ACCELERATORS


def accelerator(bootable: Bootable, log: Path) -> str:
    """Return kvm where it works, else tcg. PROCTREE_ACCEL chooses."""
    chosen = os.environ.get("PROCTREE_ACCEL", "")
    if chosen in _ACCELERATORS:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    # The device may be there and never answer.
    command = _command("kvm", bootable, log, append="proctree.probe")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "tcg"
    return "tcg" if done.returncode else "kvm"


def result_of(console: Path) -> Path:
    """Return the file of what a guest writes on its second serial line."""
    return console.with_suffix(".result")


class WrongClockError(Exception):
    """The guest's clock does not run as ours does, so no time limit of its own means anything."""


def boot(
    accel: str,
    bootable: Bootable,
    drives: Sequence[Path],
    console: Path,
    limits: Limits,
) -> tuple[str, float]:
    """Run a guest to its end; return its result, and how many seconds it took to start.

    Where an emulated kernel measures its TSC wrongly (once in some dozens of boots its clock ran
    a hundred times too fast), it is booted again.
    """
    for _ in range(_TRIES):
        try:
            return _boot(accel, bootable, drives, console, limits)
        except WrongClockError as error:
            say(f"booting the guest again: {error}")
    raise FailedError("boot", f"the guest's clock was wrong {_TRIES} times", console)


def _boot(
    accel: str,
    bootable: Bootable,
    drives: Sequence[Path],
    console: Path,
    limits: Limits,
) -> tuple[str, float]:
    result = result_of(console)
    result.write_bytes(b"")
    command = [
        *("setpriv", "--pdeathsig", "KILL"),
        *_command(accel, bootable, console, "proctree.emulated" if accel == "tcg" else ""),
        *("-serial", f"file:{result}"),
        *(word for drive in drives for word in _drive(drive)),
    ]
    began = time.monotonic()
    started = heard = 0.0
    size = 0
    with console.with_suffix(".qemu").open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        while process.poll() is None:
            time.sleep(0.2)
            passed = time.monotonic() - began
            if result.stat().st_size != size:
                size, heard = result.stat().st_size, passed
            if not started and b"\n" in result.read_bytes():
                started = passed
                check_clock(result, passed)
            check_progress(passed, started, heard, limits, console)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        errors_text = console.with_suffix(".qemu").read_text(errors="replace").strip()
        raise FailedError("qemu", f"exit status {process.returncode}: {errors_text}", console)
    return result.read_text(errors="replace"), started


def check_progress(
    passed_s: float, started_s: float, heard_s: float, limits: Limits, console: Path
) -> None:
    """Tell a guest that hangs, at whatever step, from one that is only slow.

    Each test is told when it begins and when it ends, and none may take longer than its limit.
    """
    silence_s = passed_s - heard_s
    if not started_s and passed_s > _BOOT_LIMIT_S:
        raise FailedError("boot", f"the guest has not started after {passed_s:.0f} s", console)
    if started_s and silence_s > limits.test_s + _GRACE_S:
        raise FailedError("tests", f"no output for {silence_s:.0f} s", console)
    if passed_s > limits.total_s:
        step = "tests" if started_s else "boot"
        raise late(step, f"not finished after {limits.total_s:.0f} s", console)


def check_clock(result: Path, passed_s: float) -> None:
    """Raise WrongClockError where a guest says that it has run for much longer than it has."""
    said = re.match(r"uptime ([0-9.]+)\n", result.read_text(errors="replace"))
    uptime_s = float(said[1]) if said else 0.0
    if uptime_s > passed_s + _CLOCK_LIMIT_S:
        raise WrongClockError(
            f"{passed_s:.0f} s after its start, its clock says it has run for {uptime_s:.0f} s"
        )


def _command(accel: str, bootable: Bootable, console: Path, append: str = "") -> list[str]:
    return [
        *("qemu-system-x86_64", "-machine", "pc", *_ACCELERATORS[accel]),
        *("-smp", str(_SMP), "-m", str(_MEMORY_MB), "-nodefaults", "-no-user-config"),
        *("-display", "none", "-no-reboot", "-nic", "none", "-snapshot"),
        *("-kernel", str(bootable.vmlinuz), "-initrd", str(bootable.initrd)),
        *("-append", f"{_APPEND} {append}".strip(), "-serial", f"file:{console}"),
    ]


def _drive(path: Path) -> tuple[str, str]:
    return "-drive", f"file={path},format=raw,if=virtio"
