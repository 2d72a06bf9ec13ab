"""Which record is about which event of which life."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from truth import EXEC

if TYPE_CHECKING:
    from collections.abc import Iterable

    from told import Record
    from truth import Event, Life, Truth

    from sources import Source


@dataclass(slots=True)
class Matched:
    """Records beside the events that they are about."""

    records: dict[Event, Record] = field(default_factory=dict)
    in_order: list[tuple[Record, Event]] = field(default_factory=list)
    """As they were told."""
    lives: dict[Life, int] = field(default_factory=dict)
    """How many records each life has."""
    spurious: list[Record] = field(default_factory=list)
    """Told of the forest's processes, but nothing of the kind has happened."""


class _Lives:
    """Finds a life by PID and start."""

    def __init__(self, truth: Truth, source: Source) -> None:
        self._source = source
        self._by_pid: dict[int, list[Life]] = defaultdict(list)
        for life in truth.lives:
            self._by_pid[life.pid].append(life)

    def find(self, record: Record) -> Life | None:
        lives = self._by_pid.get(record.pid, [])
        allowed, start_ns = self._source.start_ns, record.start_ns
        if start_ns is not None:
            lives = [
                life
                for life in lives
                if life.born_from_ns - allowed <= start_ns <= life.born_to_ns + allowed
            ]
        if len(lives) > 1:  # that were born within one tick
            lives = [life for life in lives if life.born_from_ns <= record.time_ns] or lives[:1]
            lives = [life for life in lives if record.time_ns <= life.end_to_ns] or lives[-1:]
        return lives[0] if lives else None


def match(records: Iterable[Record], truth: Truth, source: Source) -> Matched:
    """Find the event that each record is about; what is not about the forest is left out."""
    lives, matched = _Lives(truth, source), Matched()
    root = truth.lives[0]
    execs: dict[Life, list[Record]] = defaultdict(list)
    for record in records:
        life = lives.find(record)
        if life is None:
            if any(link.pid == root.pid for link in record.chain):
                matched.spurious.append(record)
            continue
        if life is root:
            continue
        matched.lives[life] = matched.lives.get(life, 0) + 1
        if record.action == EXEC:
            execs[life].append(record)
        else:
            _take(matched, record, [event for event in life.events if event.kind == record.action])
    for life, told in execs.items():
        _match_execs(matched, told, [e for e in life.events if e.kind == EXEC], source)
    return _ordered(matched, records)


def _take(matched: Matched, record: Record, events: list[Event]) -> None:
    """Give a record to the first of these events that has none."""
    for event in events:
        if event not in matched.records:
            matched.records[event] = record
            return
    matched.spurious.append(record)


def _match_execs(matched: Matched, told: list[Record], events: list[Event], source: Source) -> None:
    """By their times, which no two execs of a process share; else the latest one before it."""
    if source.tells_times:
        for record in told:
            at = record.time_ns
            _take(matched, record, [e for e in events if e.from_ns <= at <= e.to_ns])
        return
    left = list(events)
    for record in reversed(told):
        while left and left[-1].from_ns > record.time_ns + source.looks_within_ns:
            left.pop()
        _take(matched, record, [left.pop()] if left else [])


def _ordered(matched: Matched, records: Iterable[Record]) -> Matched:
    of = {id(record): event for event, record in matched.records.items()}
    matched.in_order = [(record, of[id(record)]) for record in records if id(record) in of]
    return matched
