"""Runs the spawner helper, and reads the truth that it writes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

    from support.actor import Helpers

NAMES = 16


@dataclass(frozen=True, slots=True)
class Spawned:
    """One process that a spawner ran: its number, and what its parent knows of it."""

    number: int
    pid: int
    parent_pid: int
    status: int

    @property
    def name(self) -> str:
        """Its name (comm)."""
        return f"name-{self.number % NAMES}"


def unique(name: str) -> str:
    """Return a token that no other run of the tests uses."""
    return f"{name}-{os.getpid()}"


class Spawner:
    """Spawns ``count`` processes that exit at once, each with a number of its own.

    The arguments of each are ``directory/name-K``, ``token`` and the number; it exits with
    the number modulo 256.
    """

    def __init__(
        self,
        helpers: Helpers,
        directory: Path,
        token: str,
        count: int,
        *,
        first: int = 0,
        cpu: int = -1,
        pause_us: int = 0,
    ) -> None:
        self.directory = directory
        self.token = token
        self._truth = directory / f"truth-{token}-{first}"
        for k in range(NAMES):
            program = directory / f"name-{k}"
            if not program.exists():
                program.symlink_to(helpers.quit)
        numbers = (first, count, cpu, pause_us)
        self.argv = [str(helpers.spawner), str(directory), token, *map(str, numbers)]
        self.argv.append(str(self._truth))
        self.popen = subprocess.Popen(self.argv)
        self.pid = self.popen.pid

    def finish(self) -> list[Spawned]:
        """Wait for the end; return what was spawned."""
        assert self.popen.wait(PATIENCE_S * 3) == 0
        rows = (line.split() for line in self._truth.read_text().splitlines())
        return [Spawned(int(n), int(pid), self.pid, int(status)) for n, pid, status in rows]

    def stop(self) -> list[Spawned]:
        """End it early."""
        self.popen.terminate()
        return self.finish()

    def args_of(self, spawned: Spawned) -> tuple[str, ...]:
        """Return the arguments that a process was given."""
        return (f"{self.directory}/{spawned.name}", self.token, str(spawned.number))


def number_of(args: list[str] | tuple[str, ...], token: str) -> int | None:
    """Return the number of a process that a spawner with this token ran, by its arguments."""
    return int(args[2]) if len(args) == 3 and args[1] == token else None


def records_of(records: list[dict[str, Any]], action: str, token: str) -> list[dict[str, Any]]:
    """Return the records of one kind about the processes of a spawner."""
    return [
        record
        for record in records
        if record["event"]["action"] == action
        and number_of(record["process"]["args"] or (), token) is not None
    ]
