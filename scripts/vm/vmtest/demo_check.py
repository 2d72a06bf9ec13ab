"""Checks what `trace --ancestor demo` showed of scripts/demo: text in, faults out. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_BEGINS: Mapping[str, tuple[str, ...]] = {
    "brief": ("demo",),
    "middle": ("demo",),
    "daemon": ("middle", "demo"),
    "former": ("demo",),
    "orphan": ("former", "demo"),
    "latter": ("demo",),
}
"""How the ancestry of each process of scripts/demo begins, in each of its lines."""

_IN_A_ROUND: Mapping[str, int] = {"brief": 3, "middle": 1, "daemon": 1, "former": 1, "orphan": 1}
"""How many there are of each. Of latter there may be several, until one has the PID."""

_TIMED = re.compile(r"^\d\d:\d\d:\d\d\.\d+ ")
_RECORD = re.compile(
    r"^\S+ (?P<event>exec|exit) +(?P<pid>\d+) +\d+ \S+ +(?P<name>\S+) .*? "
    r"(?P<chain>(?:\S+ < )*\S+)$"
)
_ANCESTOR = "demo"


class _Record(NamedTuple):
    """A line of the table."""

    event: str
    pid: int
    name: str
    chain: tuple[str, ...]


def faults(shown: str, demo: str, rounds: int) -> list[str]:
    """Return what is wrong with what the trace showed, and with what the demo itself wrote."""
    found = []
    if demo.count("latter: has PID ") != rounds or "demo: done" not in demo:
        found.append("the demo did not come to its end, with a PID used again in each round")
    if "tracing with bpf," not in shown:
        found.append("BPF was not the source")
    if "; nothing lost" not in shown:
        found.append("the trace did not end with a summary, or events were lost")
    lines = [line.rstrip() for line in shown.splitlines() if _TIMED.match(line)]
    records = []
    for line in lines:
        match = _RECORD.match(line)
        if match is None:
            found.append(f"neither exec nor exit: {line}")
            continue
        event, pid, name, chain = match.group("event", "pid", "name", "chain")
        records.append(_Record(event, int(pid), name, tuple(chain.split(" < "))))
        if _ANCESTOR not in (name, *records[-1].chain):
            found.append(f"not below {_ANCESTOR}: {line}")
    return found + _counted(records, rounds) + _related(records) + _reused(records, rounds)


def _counted(records: list[_Record], rounds: int) -> list[str]:
    expected = {name: number * rounds for name, number in _IN_A_ROUND.items()}
    found = []
    for event in ("exec", "exit"):
        for name, number in expected.items():
            seen = sum((record.event, record.name) == (event, name) for record in records)
            if seen != number:
                found.append(f"{seen} {event} of {name} shown, expected {number}")
    return found


def _related(records: list[_Record]) -> list[str]:
    return [
        f"{record.event} of {record.name} shown below {' < '.join(record.chain)}"
        for record in records
        if record.chain[: len(begin := _BEGINS.get(record.name, ()))] != begin
        or (record.name == "latter" and "former" in record.chain)
    ]


def _reused(records: list[_Record], rounds: int) -> list[str]:
    """Want a PID used again in each round, and once an orphan that outlived that."""
    formers = {record.pid for record in records if record.name == "former"}
    reused = [
        index
        for index, record in enumerate(records)
        if record.name == "latter" and record.event == "exec" and record.pid in formers
    ]
    ends = [
        index
        for index, record in enumerate(records)
        if record.name == "orphan" and record.event == "exit"
    ]
    found = []
    if len(reused) != rounds:
        found.append(f"a PID was shown as used again {len(reused)} times, expected {rounds}")
    if reused and not any(end > reused[0] for end in ends):
        found.append("no orphan was shown to end after its creator's PID was used again")
    return found
