"""A process whose creator ends, so that a subreaper adopts it. No test of its own."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# PR_SET_CHILD_SUBREAPER is 36. Each PID is told once its process is there.
_SCRIPT = """
import ctypes, os, signal, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
told, telling = os.pipe()
ending, end = os.pipe()
middle = os.fork()
if not middle:
    leaf = os.fork()
    if not leaf:
        signal.pause()
    os.write(telling, b"%d" % leaf)
    os.close(end)
    os.read(ending, 1)
    os._exit(3)
leaf = int(os.read(told, 20))
print(middle, leaf, flush=True)
sys.stdin.readline()
os.write(end, b"x")
os.waitpid(middle, 0)
print("orphaned", flush=True)
sys.stdin.readline()
os.kill(leaf, signal.SIGKILL)
os.waitpid(leaf, 0)
print("over", flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True)
class Orphanage:
    """``leaf`` was created by ``middle``, which was created by ``reaper``."""

    reaper: int
    middle: int
    leaf: int
    _stdin: IO[str]
    _stdout: IO[str]

    def _have(self, done: str) -> None:
        self._stdin.write("\n")
        self._stdin.flush()
        assert self._stdout.readline() == f"{done}\n"

    def orphan(self) -> None:
        """Let ``middle`` end with status 3; ``reaper`` adopts ``leaf``."""
        self._have("orphaned")

    def end_leaf(self) -> None:
        """Kill ``leaf`` (SIGKILL), once ``orphan`` was called."""
        self._have("over")


@contextmanager
def orphanage() -> Iterator[Orphanage]:
    """Run the three."""
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reaper:
        assert reaper.stdin is not None
        assert reaper.stdout is not None
        middle, leaf = map(int, reaper.stdout.readline().split())
        try:
            yield Orphanage(reaper.pid, middle, leaf, reaper.stdin, reaper.stdout)
        finally:
            reaper.communicate("\n\n\n")


def kernels_parent(pid: int) -> int:
    """Return the parent as the kernel has it now."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
