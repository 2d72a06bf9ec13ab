"""Brings the VM of the Vagrantfile up from nothing in namespaces of its own, and leaves nothing.

What needs a network is done here, the rest in vagrant_steps.py, as a child of guest/own-libvirt.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vmtest import box, qemu, vagrant_steps
from vmtest.cache import CACHE, fresh_log, is_writable, remove
from vmtest.cloud_kernel import bootable
from vmtest.command_line import rerun_command
from vmtest.commands import tail
from vmtest.failure import ROOT, SIGNALLED, UNABLE, FailedError, unexpected
from vmtest.supported import KERNELS
from vmtest.tools import install_tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_USAGE = "Usage: scripts/vm/vagrant-smoke [-- PYTEST-ARGUMENT...]\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# All of them end when their PID 1 does.
_NAMESPACES = ("--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")


class _StoppedError(BaseException):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    """Return the exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] not in ([], ["--"]):
        sys.stderr.write(_USAGE)
        return 2
    if not is_writable():
        return UNABLE
    install_tools("vagrant")
    for number in _SIGNALS:
        signal.signal(number, _stop)
    again = rerun_command(["sudo", "scripts/vm/vagrant-smoke"], [], arguments[1:])
    log = vagrant_steps.LOG
    began = time.monotonic()
    try:
        with unexpected(), _place() as place:
            fresh_log(log.stem)
            status = _run(place, log, arguments[1:])
    except FailedError as error:
        sys.stderr.write(error.report(vagrant_steps.SUBJECT, again) + "\n")
        return 1
    except _StoppedError as stopped:
        name = signal.Signals(stopped.number).name
        step = vagrant_steps.last_step(log)
        sys.stderr.write(f"ended by {name} at: {step}\n  log:   {log.relative_to(ROOT)}\n")
        sys.stderr.write(f"  again: {again}\n")
        return SIGNALLED + stopped.number
    if status == 0:
        print(f"vagrant-smoke: green in {time.monotonic() - began:.0f} s")  # noqa: T201
        return 0
    if status == vagrant_steps.REPORTED:
        sys.stderr.write(f"  again: {again}\n")
    else:
        reason = f"the VM's libvirt ended with status {status}\n{tail(log)}"
        failure = FailedError(vagrant_steps.last_step(log), reason, log)
        sys.stderr.write(failure.report(vagrant_steps.SUBJECT, again) + "\n")
    return 1


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _SIGNALS:  # what follows is not to be interrupted
        signal.signal(each, signal.SIG_IGN)
    raise _StoppedError(number)


@contextmanager
def _place() -> Iterator[Path]:
    """Yield an empty directory that no other run has, and remove it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "smoke.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedError("setup", "another run of this has not ended") from None
        place = CACHE / "smoke"
        remove(place)  # of a run that was killed
        place.mkdir()
        try:
            yield place
        finally:
            remove(place)


def _run(place: Path, log: Path, arguments: Sequence[str]) -> int:
    vagrant_steps.step("box", log)
    built = box.path()
    vagrant_steps.step("accelerator", log)
    driver = os.environ.get("PROCTREE_LIBVIRT_DRIVER") or _libvirt_driver()
    vagrant_steps.show(f"libvirt driver: {driver}", log)
    vagrant_steps.step("libvirt", log)
    command = [
        *("setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES),
        *(str(ROOT / "scripts/vm/guest/own-libvirt"), str(place)),
        *("/usr/bin/python3", "-s", str(ROOT / "scripts/vm/vmtest"), "vagrant_steps"),
        *(str(built), *arguments),
    ]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | vagrant_steps.environment(driver),
            start_new_session=True,
        )
    try:
        return process.wait()
    finally:
        _end(process)


def _libvirt_driver() -> str:
    """Return kvm where it works, else qemu."""
    accel = qemu.accelerator(bootable(KERNELS[0]), fresh_log("accelerator"))
    return "kvm" if accel == "kvm" else "qemu"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the namespaces' PID 1, which takes with it all that they hold, and wait for that."""
    if process.poll() is not None:
        return
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children or [str(process.pid)]:
        os.kill(int(child), signal.SIGKILL)
    process.wait()
