"""What may disturb a tracer: for the whole run, or for a moment; and why not, where it cannot.

A condition is put before the tracer's command. A moment happens while it runs, and is undone
by a process of its own (``held.py``), whatever becomes of us.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from held import cpu_switch, step_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracer import Tracer

_HELD = Path(__file__).with_name("held.py")
_HOUR_S = 3600
_HOLD_S = 2.0
_STOP_S = 5.0
_SHIFT_S = 100_000
LIMIT_BYTES = 200 * 1000 * 1000
# The limit, the highest use, and how often the limit was met: of version 2 and of version 1.
_MEMORY_FILES = (
    ("memory.max", "memory.peak", "memory.events"),
    ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
)


class NotHereError(Exception):
    """It cannot be done on this machine; the text says why."""


@contextmanager
def held(*words: str) -> Iterator[None]:
    """Have something done; it is undone in the end.

    Raises:
        NotHereError: it cannot be done.

    """
    holder = subprocess.Popen(
        [sys.executable, "-E", "-s", "-B", str(_HELD), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with holder:
        if holder.stdout is None or holder.stdin is None:
            raise NotHereError("there is no pipe")
        answer = holder.stdout.readline().strip()
        if answer != "done":
            raise NotHereError(answer or "it does not say why")
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait()


# For a moment


class Moment(NamedTuple):
    """Something that happens now and then."""

    what: str
    check: Callable[[], object]
    """Raises ``NotHereError`` where it cannot be done."""
    happen: Callable[[Tracer], None]
    """Do it and undo it."""


def _check_clock() -> None:
    try:
        step_clock(0)
    except OSError as error:
        raise NotHereError(f"the wall clock cannot be set ({error.strerror})") from None


def _clock(_tracer: Tracer) -> None:
    with held("clock", str(_HOUR_S)):
        time.sleep(_HOLD_S)


def _spare_cpu() -> int:
    for number in sorted(os.sched_getaffinity(0), reverse=True)[:-1]:
        if os.access(cpu_switch(number), os.W_OK):
            return number
    raise NotHereError("no CPU can be taken out of service")


def _hotplug(_tracer: Tracer) -> None:
    ours = os.sched_getaffinity(0)
    try:
        with held("cpu", str(_spare_cpu())):
            time.sleep(_HOLD_S)
    finally:
        os.sched_setaffinity(0, ours)  # the kernel took that CPU from us


def _remount(tracer: Tracer) -> None:
    entered = ["nsenter", f"--mount=/proc/{tracer.pid}/ns/mnt", "sh", "-c"]
    script = "umount -l /proc && mount -t proc proc /proc"
    done = subprocess.run([*entered, script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHereError(done.stderr.strip() or "/proc cannot be mounted again")


def _stop(tracer: Tracer) -> None:
    with held("stopped", str(tracer.pid)):
        time.sleep(_STOP_S)


def _check_mounts() -> None:
    for program in ("unshare", "nsenter"):
        if shutil.which(program) is None:
            raise NotHereError(f"{program} is not installed")


MOMENTS = {
    "clock": Moment("the wall clock an hour ahead for 2 s", _check_clock, _clock),
    "hotplug": Moment("a CPU out of service for 2 s", _spare_cpu, _hotplug),
    "remount": Moment("/proc mounted anew, in mounts of the tracer's own", _check_mounts, _remount),
    "stop": Moment("the tracer stopped for 5 s", lambda: None, _stop),
}


# For the whole run


class Condition(NamedTuple):
    """Something in which the tracer runs from its start to its end."""

    what: str
    before: list[str]
    """The words before its command."""
    report: Callable[[], str]
    """Say in the end how it went."""


@contextmanager
def memory() -> Iterator[Condition]:
    """Have a cgroup with 200 MB.

    Raises:
        NotHereError: there is no memory controller that may be used.

    """
    directory, limit, peak, events = _memory_group()
    try:
        try:
            (directory / limit).write_text(str(LIMIT_BYTES))
        except OSError as error:
            raise NotHereError(f"no limit can be set ({error.strerror})") from None
        script = f'echo $$ > {directory}/cgroup.procs && exec "$@"'
        yield Condition(
            f"at most {LIMIT_BYTES / 1e6:.0f} MB of memory, by a cgroup",
            ["sh", "-c", script, "sh"],
            lambda: _pressure(directory / peak, directory / events),
        )
    finally:
        with suppress(OSError):
            directory.rmdir()


def _memory_group() -> tuple[Path, str, str, str]:
    """Make a cgroup below our own, or below all; return it and the names of its files."""
    for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = {"": _mounted("cgroup2"), "memory": _mounted("memory")}.get(controllers)
        for place in (mount / path.lstrip("/"), mount) if mount is not None else ():
            directory = place / f"proctree-bpf-soak-{os.getpid()}"
            with suppress(OSError):
                directory.mkdir()
                for names in _MEMORY_FILES:
                    if (directory / names[0]).exists():
                        return directory, *names
                directory.rmdir()
    raise NotHereError("there is no cgroup below which memory can be limited")


def _mounted(kind: str) -> Path | None:
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, point, file_system, options = line.split()[:4]
        if file_system == kind or (file_system == "cgroup" and kind in options.split(",")):
            return Path(point)
    return None


def _pressure(peak: Path, events: Path) -> str:
    told = []
    with suppress(OSError):
        told.append(f"at its highest {int(peak.read_text()) / 1e6:.0f} MB")
    with suppress(OSError):
        told.append(f"{events.name}: {' '.join(events.read_text().split())}")
    return "; ".join(told)


@contextmanager
def suspend() -> Iterator[Condition]:
    """Have clocks that differ as they do after a suspend.

    Raises:
        NotHereError: there are no time namespaces.

    """
    before = ["unshare", "--time", "--fork", "--kill-child", "--boottime", str(_SHIFT_S)]
    tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise NotHereError(tried.stderr.strip() or "there are no time namespaces")
    yield Condition(
        f"clocks that differ as after a suspend of {_SHIFT_S} s, by a time namespace: they "
        "cannot jump while it runs, for that takes a real suspend",
        before,
        lambda: "",
    )


@contextmanager
def own_mounts() -> Iterator[Condition]:
    """Have mounts that are the tracer's own."""
    _check_mounts()
    words = ["unshare", "--mount", "--propagation", "private"]
    yield Condition("mounts of its own", words, lambda: "")


MOUNTS = "mounts"
"""Not asked for by itself, but by who mounts something."""
CONDITIONS = {"memory": memory, "suspend": suspend, MOUNTS: own_mounts}
NAMES = (*MOMENTS, "memory", "suspend")
