"""Which events a filter asks for: a naive model of it, by the truth alone."""

from __future__ import annotations

import shlex
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from truth import EXIT, NEVER_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from truth import Event, Life, Truth

_COMM_BYTES = 15


class Want(Enum):
    """Whether a record of an event is asked for."""

    YES = "yes"
    NO = "no"
    EITHER = "either"
    """It depends on which of two things came first, which nobody knows."""


class _Joined(NamedTuple):
    """When a process came under an ancestor that is asked for: between two times."""

    from_ns: int
    to_ns: int


_NEVER = _Joined(NEVER_NS, NEVER_NS)
TERMS = ("ancestor", "ancestor-exe", "name", "user", "failed")


class Wanted:
    """Tells of each event whether it is asked for.

    Args:
        terms: as the product has them, of ``TERMS`` only, with or without ``not-``.
        truth: the forest.

    Raises:
        ValueError: a term that this model does not have.

    """

    def __init__(self, terms: str, truth: Truth) -> None:
        self._questions: list[Callable[[Event], Want]] = []
        self._lives = truth.lives
        for term in shlex.split(terms):
            name, _, value = term.partition("=")
            is_negated = name.startswith("not-")
            question = self._question(name.removeprefix("not-"), set(value.encode().split(b",")))
            self._questions.append(_negated(question) if is_negated else question)

    def of(self, event: Event) -> Want:
        """Tell whether an event is asked for."""
        answers = [question(event) for question in self._questions]
        if Want.NO in answers:
            return Want.NO
        return Want.EITHER if Want.EITHER in answers else Want.YES

    def _question(self, name: str, values: set[bytes]) -> Callable[[Event], Want]:
        if name == "ancestor":
            return self._under(lambda life: _names_of(life, {v[:_COMM_BYTES] for v in values}))
        if name == "ancestor-exe":
            return self._under(lambda life: _files_of(life, values))
        if name == "name":
            return lambda event: _is(event.name in {v[:_COMM_BYTES] for v in values})
        if name == "user":
            uids = {int(value) for value in values}
            return lambda event: _is(event.uid in uids)
        if name == "failed":
            return lambda event: _is(event.kind == EXIT and event.status != 0)
        raise ValueError(f"{name} is none of {', '.join(TERMS)}")

    def _under(self, own: Callable[[Life], _Joined]) -> Callable[[Event], Want]:
        joined: dict[Life, _Joined] = {}
        for life in self._lives:  # creators come first
            mine = own(life)
            above = joined[life.creator] if life.creator is not None else _NEVER
            joined[life] = _Joined(min(mine.from_ns, above.from_ns), min(mine.to_ns, above.to_ns))
        return lambda event: _has_joined(event, joined[event.life], own(event.life))


def _is(answer: bool) -> Want:  # noqa: FBT001 - what it is about
    return Want.YES if answer else Want.NO


def _negated(question: Callable[[Event], Want]) -> Callable[[Event], Want]:
    turned = {Want.YES: Want.NO, Want.NO: Want.YES, Want.EITHER: Want.EITHER}
    return lambda event: turned[question(event)]


def _has_joined(event: Event, joined: _Joined, own: _Joined) -> Want:
    # What makes a process join is of one of those that joined.
    if event.from_ns >= joined.to_ns or own == _Joined(event.from_ns, event.to_ns):
        return Want.YES
    return Want.NO if event.to_ns < joined.from_ns else Want.EITHER


def _names_of(life: Life, names: set[bytes]) -> _Joined:
    found = [
        _Joined(change.from_ns, change.to_ns) for change in life.names if change.value in names
    ]
    return found[0] if found else _NEVER


def _files_of(life: Life, paths: set[bytes]) -> _Joined:
    found = [
        _Joined(change.from_ns, change.to_ns)
        for change in life.programs
        if change.value.executable in paths
    ]
    return found[0] if found else _NEVER
