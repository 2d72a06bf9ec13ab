"""Runs the clan helper, a random family of processes, and reads the truth that it writes."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from support.actor import Helpers

_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Events:
    """What happened to the members: (PID, creator), (PID, id), and (PID, id, exit code)."""

    forks: Counter[tuple[int, int]]
    execs: Counter[tuple[int, str]]
    exits: Counter[tuple[int, str, int]]

    def __or__(self, other: Events) -> Events:
        return Events(self.forks + other.forks, self.execs + other.execs, self.exits + other.exits)


class RandomFamily:
    """A running family whose first member is named ``name``."""

    def __init__(
        self,
        helpers: Helpers,
        directory: Path,
        name: str,
        size: int,
        seed: int,
        *,
        calm: bool = False,
    ) -> None:
        program = directory / name
        if not program.exists():
            program.symlink_to(helpers.clan)
        self.token = f"clan-{os.getpid()}-{next(_NUMBERS)}"
        reading, writing = os.pipe()
        self._truth = open(reading, encoding="ascii")  # noqa: PTH123, SIM115 - a descriptor
        numbers = (writing, size, seed, int(calm))
        argv = [str(program), *map(str, numbers), self.token]
        self.popen = subprocess.Popen(argv, pass_fds=[writing], process_group=0)
        os.close(writing)

    def finish(self) -> Events:
        """Wait until all members have ended; return what happened to them."""
        with self._truth:
            lines = [line.split() for line in self._truth]
        self.popen.wait()
        forks = Counter((int(pid), int(by)) for kind, pid, by, *_ in lines if kind == "F")
        execs = Counter((int(pid), name) for kind, pid, name, *_ in lines if kind == "E")
        exits = Counter((int(line[1]), line[2], int(line[3])) for line in lines if line[0] == "X")
        assert len(lines) == forks.total() + execs.total() + exits.total()
        assert exits.total() == forks.total() + 1, "a member did not end as it should"
        return Events(forks, execs, exits)


def events_of(records: Iterable[dict[str, Any]]) -> Events:
    """Return what JSON records say, in the shape of the truth."""
    told = Events(Counter(), Counter(), Counter())
    for record in records:
        process, proctree = record["process"], record["proctree"]
        pid, args = process["pid"], process["args"] or [""]
        match record["event"]["action"]:
            case "fork":
                told.forks[pid, proctree["creator"]["pid"]] += 1
            case "exec":
                told.execs[pid, args[-1]] += 1
            case "exit":
                told.exits[pid, args[-1], process["exit_code"]] += 1
    return told
