"""Spawners that go as fast as they can, and tools that run meanwhile: for all benchmarks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
_HELPERS = ROOT / "tests" / "kernel" / "helpers"
NAMES = 16
_PATIENCE_S = 60.0
_BARE = ("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-no-pie")


def build(directory: Path) -> None:
    """Compile the spawner, and the program that it spawns under all its names."""
    compiler = shutil.which("cc") or shutil.which("gcc") or sys.exit("a C compiler is needed")
    for name, flags in (("spawner", ()), ("quit", _BARE)):
        command = [compiler, "-O2", *flags, "-o", directory / name, _HELPERS / f"{name}.c"]
        subprocess.run(command, check=True)  # noqa: S603 - our own words
    for number in range(NAMES):
        (directory / f"name-{number}").symlink_to("quit")


def spawn(directory: Path, count: int) -> tuple[float, dict[int, str]]:
    """Run the spawners; return processes a second, and the name of each PID."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    half = count // 2
    truths = [directory / f"truth-{n}" for n in range(2)]
    begun = time.monotonic()
    spawners = [
        subprocess.Popen(  # noqa: S603 - our own words
            [directory / "spawner", directory, "bench", str(n * half), str(half),
             str(cpus[n % len(cpus)]), "0", truths[n]]
        )
        for n in range(2)
    ]  # fmt: skip
    if any(spawner.wait() for spawner in spawners):
        sys.exit("a spawner failed")
    seconds = time.monotonic() - begun
    rows = [line.split() for truth in truths for line in truth.read_text().splitlines()]
    names = {int(pid): f"name-{int(number) % NAMES}" for number, pid, _ in rows}
    if len(names) != count:
        sys.stderr.write(f"note: only {len(names)} different PIDs: raise kernel.pid_max\n")
    return count / seconds, names


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {_PATIENCE_S:.0f} s: {what}")
        time.sleep(0.01)


@contextmanager
def running(command: list[str], out: Path, err: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """Run a tool, from when it is ready, and stop it as a user would."""
    with out.open("wb") as stdout, err.open("wb") as stderr:
        tool = subprocess.Popen(  # noqa: S603 - our own words
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        try:
            wait_for(f"{command[0]} starts", lambda: ready() or tool.poll() is not None)
            yield
        finally:
            tool.send_signal(signal.SIGINT)
            tool.wait(_PATIENCE_S)
