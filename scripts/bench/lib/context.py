"""What every row is given: the program to measure, how long to take, and where to work."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[3]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the benchmark."""

    program: str
    python: str
    directory: Path
    in_memory: Path
    """For what is much: some disks stand still for half a minute after a gigabyte."""
    is_quick: bool = False

    def pick(self, quick: T, full: T) -> T:
        """Return how much of something to do."""
        return quick if self.is_quick else full

    def place(self, name: str) -> Path:
        """Return a fresh directory below the run's own."""
        path = self.directory / f"{name}-{time.monotonic_ns()}"
        path.mkdir()
        return path


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def python_of(program: str) -> str:
    """Return the Python that runs a program: beside it, or in its checkout's environment."""
    path = Path(program).resolve()
    for directory in (path.parent, path.parent.parent / ".venv" / "bin"):
        if (directory / "python").exists():
            return str(directory / "python")
    return sys.executable
