"""Compares what was told with what is true, fact by fact."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from matching import match
from tally import Tally
from truth import EXIT, FORK, KINDS, held_between
from wanted import Want, Wanted

if TYPE_CHECKING:
    from collections.abc import Collection

    from matching import Matched
    from told import Record, Told
    from truth import Event, Life, Program, Truth

    from sources import Source

T = TypeVar("T")
_MOST_SHOWN = 100
ROWS = (
    "processes", "forks", "execs", "exits", "names", "arguments", "executables", "users",
    "creators", "parents", "exit statuses", "chains", "times", "order",
)  # fmt: skip


class _About(NamedTuple):
    """A record and the event that it is about."""

    event: Event
    record: Record


class Judge:
    """Judges one run.

    Args:
        truth: what happened.
        told: what was told of it.
        source: which source told it.
        terms: the filter, as the product has it.

    """

    def __init__(self, truth: Truth, told: Told, source: Source, terms: str = "") -> None:
        self.rows = {name: Tally(name) for name in ROWS}
        self._truth, self._source = truth, source
        self._wanted = Wanted(terms, truth)
        self._matched = match(told.records, truth, source)
        self._judge()

    @property
    def missing(self) -> dict[str, int]:
        """How many events of each kind were not told."""
        return {kind: self.rows[f"{kind}s"].absent for kind in KINDS}

    def _judge(self) -> None:
        wants = {e: self._wanted.of(e) for life in self._truth.lives[1:] for e in life.events}
        self._judge_lives(wants, self._matched)
        for event, want in wants.items():
            record = self._matched.records.get(event)
            row = self.rows[f"{event.kind}s"]
            if record is None:
                if want is Want.YES:
                    row.add("absent")
                    for fact in _facts_of(event):
                        self.rows[fact].add("absent")
            elif want is Want.NO:
                row.add("wrong", example=f"not asked for: {_named(event)}")
            else:
                row.add("right")
                self._judge_record(event, record)
        for record in self._matched.spurious:
            what = f"{record.action} of {record.pid} at {record.time_ns}, which did not happen"
            self.rows[f"{record.action}s"].add("wrong", example=what)
        self._judge_order()

    def _judge_lives(self, wants: dict[Event, Want], matched: Matched) -> None:
        row = self.rows["processes"]
        for life in self._truth.lives[1:]:
            wanted = {wants[event] for event in life.events}
            if life in matched.lives:
                is_wrong = wanted == {Want.NO}
                row.add("wrong" if is_wrong else "right", example=f"not asked for: {life.pid}")
            elif Want.YES in wanted:
                row.add("absent")
        strangers = {(record.pid, record.start_ns) for record in matched.spurious}
        for pid, start_ns in strangers:
            if not any(life.pid == pid for life in matched.lives):
                row.add("wrong", example=f"{pid}, born at {start_ns}: there is no such process")

    def _judge_record(self, event: Event, record: Record) -> None:
        about = _About(event, record)
        self._judge_program(about)
        self._judge_parent(about)
        if event.kind == FORK and event.life.creator is not None:
            doubt = record.is_creator_observed
            creators = [event.life.creator.pid]
            self._fact("creators", about, record.creator, creators, doubt=doubt)
        if event.kind == EXIT and event.status is not None:
            self._fact("exit statuses", about, record.status, [event.status])
        told, true = _chains(event, record)
        doubt = record.is_creator_observed or any(link.is_observed for link in record.chain)
        self._fact("chains", about, told, [true], doubt=doubt)
        if self._source.tells_times:
            is_then = event.from_ns <= record.time_ns and (
                record.time_ns <= event.to_ns or self._may_be_late(event)
            )
            self._fact("times", about, is_then, [True])
        else:
            self.rows["times"].add("absent")

    def _may_be_late(self, event: Event) -> bool:
        return event.kind == EXIT and self._source.ends_late

    def _judge_program(self, about: _About) -> None:
        event, record = about
        names, programs, users = self._expected(event, record)
        # Some sources mark what they did not find out as inherited from the creator.
        doubt = record.is_inherited and self._source.may_inherit
        self._fact("names", about, record.name, names, doubt=doubt)
        if programs:
            args = _as_told([program.args for program in programs], record)
            self._fact("arguments", about, record.args, args, doubt=doubt)
            files = [program.executable for program in programs]
            self._fact("executables", about, record.executable, files, doubt=doubt)
        self._fact("users", about, record.uid, users, doubt=doubt)

    def _expected(
        self, event: Event, record: Record
    ) -> tuple[list[bytes], list[Program], list[int]]:
        """Return what may be told: one of each, or all that held while a source may have looked."""
        life = event.life
        if self._source.tells_times:
            return [event.name], [event.program] if event.program else [], [event.uid]
        from_ns = record.time_ns - self._source.looks_within_ns
        until_ns = record.time_ns + self._source.looks_within_ns
        return (
            held_between(life.names, from_ns, until_ns),
            held_between(life.programs, from_ns, until_ns),
            held_between(life.users, 0, until_ns),  # a change of user is among its blind spots
        )

    def _judge_parent(self, about: _About) -> None:
        event, record = about
        if event.kind != EXIT and not self._source.tells_times:
            # The parent when it was looked at; of one that has ended, that is the last one.
            had = {pid for each in event.life.events for pid in each.parents}
            had |= {above.pid for above in event.life.ancestors()}
            self._fact("parents", about, record.parent, had)
            return
        if record.parent not in event.parents and len(event.parents) > 1:
            between = {life.pid for life in event.life.ancestors()}
            if record.parent in between:
                return  # it was handed on more than once just then
        self._fact("parents", about, record.parent, event.parents | _heirs(event))

    def _fact(
        self,
        name: str,
        told: _About,
        value: T | None,
        true: Collection[T],
        *,
        doubt: bool = False,
    ) -> None:
        row = self.rows[name]
        if value is None:
            row.add("absent")
        elif value in true:
            row.add("right")
        else:
            example = f"{_named(told.event)}: {_short(value)}, not {' or '.join(map(_short, true))}"
            is_doubted = doubt or told.record.is_uncertain
            row.add("doubted" if is_doubted else "wrong", example=example)

    def _judge_order(self) -> None:
        """Nothing is told before what had ended when it began."""
        row = self.rows["order"]
        told: dict[Life, int] = {}
        latest_ns = 0
        for record, event in self._matched.in_order:
            if self._source.tells_times:
                is_late = event.to_ns < latest_ns and not self._may_be_late(event)
                latest_ns = max(latest_ns, event.from_ns)
            else:
                rank = KINDS.index(event.kind)
                is_late = told.get(event.life, 0) > rank
                told[event.life] = rank
            name = "doubted" if record.is_uncertain else "wrong"
            row.add(name if is_late else "right", example=f"too late: {_named(event)}")


def _heirs(event: Event) -> set[int]:
    """Return who may be told to be the parent already, since the present one has ended.

    A process keeps its parent for a moment after that has ended (exit_notify() comes last).
    """
    for above in event.life.ancestors():
        if above.pid in event.parents:
            last = above.events[-1] if above.events else None
            if last is not None and last.kind == EXIT and last.from_ns <= event.to_ns:
                later = [each for each in event.life.events if each.from_ns > event.from_ns]
                return {pid for each in later for pid in each.parents}
    return set()


def _facts_of(event: Event) -> list[str]:
    facts = ["names", "users", "parents", "chains", "times", "order"]
    if event.program is not None:
        facts += ["arguments", "executables"]
    if event.kind == FORK:
        facts.append("creators")
    if event.kind == EXIT:
        facts.append("exit statuses")
    return facts


def _as_told(wanted: list[tuple[bytes, ...]], record: Record) -> list[tuple[bytes, ...] | None]:
    """Return arguments as they are told, cut where the record says that it is cut."""
    if not record.is_truncated or record.args is None:
        return list(wanted)
    whole = b"\0".join(record.args)
    return [record.args if b"\0".join(args).startswith(whole) else args for args in wanted]


def _chains(event: Event, record: Record) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """Return the chain that was told, up to the root of the forest, and the true one."""
    true = tuple(life.pid for life in event.life.ancestors())
    told = tuple(link.pid for link in record.chain)
    if record.is_cut:
        return told[: len(true)], true[: len(told)]
    if record.chain and record.chain[-1].name is None and told == true[: len(told)]:
        return None, true  # it says that it does not know more
    return told[: len(true)], true


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _named(event: Event) -> str:
    return f"{event.kind} of {event.life.pid} at {event.from_ns}"
