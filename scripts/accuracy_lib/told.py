"""What the program told: its JSON lines, with names as the bytes that they were."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
# The program's own order of fields; a line of another is read as JSON.
_ABOUT = re.compile(r'.*?"action":"(\w+)"\},"process":\{"pid":(\d+),.*"parent":\{"pid":(\d+),')
_SECOND_NS = 1_000_000_000
_CORE_DUMPED = 0x80
_ASCII_END = 0x80


class Link(NamedTuple):
    """One of a chain of creators."""

    pid: int
    name: bytes | None
    is_observed: bool = False
    """Whether it was only seen as the parent, and may not be the creator."""


@dataclass(slots=True, eq=False)
class Record:
    """One line of output. What is None was not told."""

    action: str
    time_ns: int
    pid: int
    start_ns: int | None
    parent: int | None
    name: bytes | None
    executable: bytes | None
    args: tuple[bytes, ...] | None
    uid: int | None
    creator: int | None
    status: int | None
    chain: tuple[Link, ...]
    is_cut: bool
    """Whether there are more creators than the chain has."""
    is_truncated: bool
    """Whether there are more arguments than it has."""
    is_inherited: bool
    is_uncertain: bool
    is_creator_observed: bool = False
    """Whether its creator was only seen as its parent."""


class Lost(NamedTuple):
    """A gap: so many events of a kind; None if the source cannot tell."""

    kind: str | None
    events: int | None


@dataclass(slots=True)
class Told:
    """All that was told, in its order."""

    records: list[Record] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    of_load: dict[str, int] = field(default_factory=dict)
    """How many records of each action are about what a load spawned."""


def nanoseconds(stamp: str) -> int:
    """Return the time of a UTC timestamp, in ns since 1970."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return int(seconds) * _SECOND_NS + int(fraction.ljust(9, "0") or 0)


def _unescaped(match: re.Match[str]) -> str:
    byte, short, long, literal = match.groups()
    if byte is not None:
        code = int(byte, 16)
        return chr(code if code < _ASCII_END else 0xDC00 + code)
    return literal if literal is not None else chr(int(short or long, 16))


def _reader(*, escaped: bool) -> Any:
    def read(text: str | None) -> bytes | None:
        if text is None:
            return None
        if escaped:
            text = _ESCAPED.sub(_unescaped, text)
        return text.encode("utf-8", "surrogateescape")

    return read


def status_of(code: int | None, signal: int | None, *, dumped: bool) -> int | None:
    """Return the status of wait(2), or None if it was not told."""
    if signal is not None:
        return signal | (_CORE_DUMPED if dumped else 0)
    return None if code is None else code << 8


def file_of(path: bytes | None) -> bytes | None:
    """Return a path without what the kernel puts behind that of a file that is gone."""
    return None if path is None else path.removesuffix(b" (deleted)")


def _record(whole: dict[str, Any], offset_ns: int) -> Record:
    process, ours = whole["process"], whole["proctree"]
    raw = _reader(escaped=bool(ours.get("escaped")))
    args, creator = process["args"], ours.get("creator")
    parent, user = process["parent"], process["user"]["id"]
    status = None
    if whole["event"]["action"] == "exit":
        dumped = bool(ours["core_dumped"])
        status = status_of(process["exit_code"], ours["exit_signal"], dumped=dumped)
    return Record(
        action=whole["event"]["action"],
        time_ns=nanoseconds(whole["@timestamp"]) - offset_ns,
        pid=process["pid"],
        start_ns=ours["start_time_ns"],
        parent=parent["pid"] if parent else None,
        name=raw(process["name"]),
        executable=file_of(raw(process["executable"])),
        args=None if args is None else tuple(map(raw, args)),
        uid=None if user is None else int(user),
        creator=creator["pid"] if creator else None,
        status=status,
        chain=tuple(
            Link(link["pid"], raw(link["name"]), link.get("observed", False))
            for link in ours["chain"]
        ),
        is_cut="chain_truncated" in ours,
        is_truncated=ours["truncated"],
        is_inherited=ours["inherited"],
        is_uncertain="uncertain" in ours,
        is_creator_observed=bool(creator and creator.get("observed")),
    )


def _offset_of(objects: list[dict[str, Any]]) -> int:
    """Return how far UTC is ahead of CLOCK_BOOTTIME: a start is told by both."""
    for whole in objects:
        start_ns = whole.get("proctree", {}).get("start_time_ns")
        if start_ns:
            return nanoseconds(whole["process"]["start"]) - int(start_ns)
    return 0


def read_told(lines: Iterable[str], spawners: Container[str] = ()) -> Told:
    """Read JSON lines. Those about what ``spawners`` (PIDs) spawned are only counted."""
    told = Told()
    objects = []
    for line in lines:
        found = _ABOUT.match(line) if spawners else None
        if found is None or found[2] in spawners or found[3] not in spawners:
            objects.append(json.loads(line))
        else:
            told.of_load[found[1]] = told.of_load.get(found[1], 0) + 1
    offset_ns = _offset_of(objects)
    for whole in objects:
        if whole["event"]["action"] == "gap":
            gap = whole["proctree"]["gap"]
            told.lost.append(Lost(gap["kind"], gap["count"]))
        else:
            told.records.append(_record(whole, offset_ns))
    return told
