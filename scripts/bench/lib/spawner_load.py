"""Spawners that go as fast as they can: the load of all rows that need one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from figures import NotRunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HELPERS = Path(__file__).resolve().parents[3] / "tests" / "kernel" / "helpers"
NAMES = 16
MARK = "bench"
_PATIENCE_S = 120.0
_BARE = ("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-no-pie")


class Spawned(NamedTuple):
    """A process that was spawned, as its spawner and wait(2) have it."""

    number: int
    pid: int
    status: int
    creator: int
    """Its spawner; 0 if that is below something else that was started."""

    @property
    def name(self) -> str:
        """What it runs."""
        return f"name-{self.number % NAMES}"

    def args(self, directory: Path) -> list[str]:
        """Return its arguments."""
        return [f"{directory}/{self.name}", MARK, str(self.number)]


class Burst(NamedTuple):
    """What came of a load."""

    per_second: float
    spawned: list[Spawned]


def _spawned(line: str, creator: int) -> Spawned:
    number, pid, status = map(int, line.split())
    return Spawned(number, pid, status, creator)


def compiler() -> str:
    """Return the C compiler.

    Raises:
        NotRunError: there is none.

    """
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        raise NotRunError("a C compiler is needed")
    return found


def build(directory: Path) -> None:
    """Compile the spawner, and the program that it spawns under all its names."""
    for name, flags in (("spawner", ()), ("quit", _BARE)):
        command = [compiler(), "-O2", *flags, "-o", str(directory / name)]
        subprocess.run([*command, str(_HELPERS / f"{name}.c")], check=True)
    for number in range(NAMES):
        (directory / f"name-{number}").symlink_to("quit")


class Load:
    """So many spawners at work, each on one of two CPUs; ``prefixes`` are put before them.

    Each rests for ``pause_us`` after each process; -N: it begins one every N microseconds. In a
    process group of their own, Ctrl-C does not reach them.
    """

    def __init__(
        self,
        directory: Path,
        count: int,
        spawners: int = 2,
        prefixes: Sequence[list[str]] = (),
        *,
        pause_us: int = 0,
        process_group: int | None = None,
    ) -> None:
        cpus = sorted(os.sched_getaffinity(0))[:2]
        each = count // spawners
        self._truths = [directory / f"truth-{n}" for n in range(spawners)]
        self._is_prefixed = bool(prefixes)
        self._begun = time.monotonic()
        self._spawners: list[subprocess.Popen[bytes]] = []
        for n, truth in enumerate(self._truths):
            truth.write_bytes(b"")
            words = [str(directory / "spawner"), str(directory), MARK, str(n * each), str(each)]
            words += [str(cpus[n % len(cpus)]), str(pause_us), str(truth)]
            before = prefixes[n] if prefixes else []
            spawner = subprocess.Popen([*before, *words], process_group=process_group)
            self._spawners.append(spawner)

    def wait(self) -> Burst:
        """Wait until all are done; return what they did."""
        if any([spawner.wait(_PATIENCE_S) for spawner in self._spawners]):  # noqa: C419 - all
            raise RuntimeError("a spawner failed")
        seconds = time.monotonic() - self._begun
        spawned = [
            _spawned(line, 0 if self._is_prefixed else spawner.pid)
            for spawner, truth in zip(self._spawners, self._truths, strict=True)
            for line in truth.read_text("ascii").splitlines()
        ]
        return Burst(len(spawned) / seconds, spawned)

    def stop(self) -> Burst:
        """End them early; return what they did."""
        for spawner in self._spawners:
            spawner.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End those that are left, whatever they did."""
        for spawner in self._spawners:
            if spawner.poll() is None:
                spawner.kill()
                spawner.wait()


@contextmanager
def loading(
    directory: Path, count: int, spawners: int = 2, prefixes: Sequence[list[str]] = ()
) -> Iterator[Load]:
    """Have spawners at work."""
    load = Load(directory, count, spawners, prefixes)
    try:
        yield load
    finally:
        load.kill()


def spawn(directory: Path, count: int, prefixes: Sequence[list[str]] = ()) -> Burst:
    """Spawn so many processes from two spawners."""
    with loading(directory, count, prefixes=prefixes) as load:
        return load.wait()
