"""What a filter asks: terms such as ``ancestor=sshd``, parsed and checked. Pure.

A term is a name, and for most a value. Values separated by commas, and a name given
again, are alternatives; different names must all hold. ``not-`` before a name turns
it round. ``TERMS`` is the one table of them: the command line's options and
``Filter.parse`` are made from it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Self

from proctree_bpf.core.text import as_comm, visible
from proctree_bpf.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterable

NOT = "not-"

_UNESCAPED_COMMA = re.compile(r"(?<!\\),")
_MAX_PID = 2**32 - 1
_MAX_SECONDS = 1_000_000_000
_MOST_DIGITS = 20


class Value(Enum):
    """What kind of value a term takes, as the help names it."""

    NAME = "NAME"
    """A process's name (comm); longer ones are cut as the kernel cuts them."""
    PATH = "PATH"
    USER = "USER"
    PID = "PID"
    REGEX = "RE"
    """Not split at commas."""
    SECONDS = "SECONDS"
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that can be asked of a record."""

    name: str
    value: Value
    help: str


ANCESTRY_TERMS = (
    Term("ancestor", Value.NAME, "Processes that are, or ran under, one named NAME (comm)."),
    Term(
        "ancestor-pid",
        Value.PID,
        "Processes that are, or ran under, the one with PID at the start.",
    ),
    Term(
        "ancestor-exe",
        Value.PATH,
        "Processes that ran under the program file PATH; *, ?, [] match.",
    ),
    Term(
        "ancestor-regex",
        Value.REGEX,
        "Processes that ran under a command line in which RE is found.",
    ),
)
RECORD_TERMS = (
    Term("user", Value.USER, "Processes of this user: a name or a uid."),
    Term("name", Value.NAME, "Processes named NAME (comm)."),
    Term("line", Value.REGEX, "Processes in whose command line RE is found."),
    Term("pid", Value.PID, "The process with this PID."),
    Term("ppid", Value.PID, "Processes whose parent has this PID."),
    Term("cgroup", Value.PATH, "Processes in this cgroup (version 2), or in one below it."),
    Term("failed", Value.NOTHING, "Only exits, with a status other than 0 or by a signal."),
    Term("min-age", Value.SECONDS, "No exits of processes that ran for less than SECONDS."),
    Term("max-age", Value.SECONDS, "No exits of processes that ran for more than SECONDS."),
)
TERMS = {term.name: term for term in (*ANCESTRY_TERMS, *RECORD_TERMS)}


def ancestral(questions: Iterable[Question]) -> list[Question]:
    """Return the questions that are about ancestors, in their order."""
    return [question for question in questions if question.term in ANCESTRY_TERMS]


@dataclass(frozen=True, slots=True)
class Question:
    """A term, its alternatives, and whether it is turned round."""

    term: Term
    alternatives: tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        values = ",".join(self.alternatives)
        name = f"{NOT if self.negated else ''}{self.term.name}"
        return f"{name}={values}" if self.alternatives else name


def split_values(text: str) -> list[str]:
    r"""Split at commas; ``\,`` is a comma that belongs to a value."""
    return [part.replace("\\,", ",") for part in _UNESCAPED_COMMA.split(text)]


def question(name: str, texts: Iterable[str]) -> Question:
    """Make a question of a term's name, with or without ``not-``, and its values.

    Raises:
        FilterError: there is no such term, or a value is not of its kind.

    """
    negated = name.startswith(NOT)
    term = TERMS.get(name.removeprefix(NOT))
    if term is None:
        known = ", ".join(TERMS)
        raise FilterError(f"there is no filter '{visible(name)}'; choose from {known}")
    split = term.value not in (Value.REGEX, Value.NOTHING)
    values = [value for text in texts for value in (split_values(text) if split else [text])]
    if term.value is Value.NOTHING:
        if any(values):
            raise FilterError(f"'{name}' takes no value")
        return Question(term, (), negated)
    if not values or not all(values):
        raise FilterError(f"'{name}' needs a value")
    return Question(term, tuple(_checked(name, term, value) for value in values), negated)


def _checked(name: str, term: Term, text: str) -> str:
    if term.value is Value.PID:
        digits = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
        if not (digits and 0 < int(text) <= _MAX_PID):
            raise FilterError(
                f"'{name}' needs a process id, not '{visible(text)}': 1 to {_MAX_PID}"
            )
        return str(int(text))
    if term.value is Value.SECONDS:
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= _MAX_SECONDS:
            raise FilterError(
                f"'{name}' needs a number of seconds, not '{visible(text)}': 0 to {_MAX_SECONDS}"
            )
    if term.value is Value.REGEX:
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise FilterError(
                f"'{name}' needs a regular expression, and '{visible(text)}' is none: {error}"
            ) from error
    if term.value is Value.NAME:
        return as_comm(text)
    return text


def parse_terms(text: str | Iterable[str]) -> tuple[Question, ...]:
    """Parse terms such as ``ancestor=sshd not-user=root failed``.

    A string is split as a shell would split it; anything else is taken term by term.

    Raises:
        FilterError: it cannot be understood.

    """
    try:
        terms = shlex.split(text) if isinstance(text, str) else list(text)
    except ValueError as error:
        raise FilterError(f"the filter cannot be split into terms: {error}") from error
    given: dict[str, list[str]] = {}
    for term in terms:
        name, separator, value = term.partition("=")
        given.setdefault(name, []).extend([value] if separator else [])
    return tuple(question(name, values) for name, values in given.items())


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted, in the language of ``proctree-bpf trace``'s options.

    Terms are separated by spaces and must all hold; the values of one, separated by commas,
    are alternatives; ``not-`` before a term turns it round. ``proctree-bpf trace --help`` and
    README list them.

    >>> str(Filter.parse("ancestor=sshd,cron not-user=root failed"))
    'ancestor=sshd,cron not-user=root failed'

    Attributes:
        questions: the terms.
        include_self: a process that is itself the ancestor asked for counts, too.
        by_parent: ask for the kernel's present parents instead of the creators.

    """

    questions: tuple[Question, ...] = ()
    include_self: bool = True
    by_parent: bool = False

    @classmethod
    def parse(
        cls,
        terms: str | Iterable[str],
        *,
        include_self: bool = True,
        by_parent: bool = False,
    ) -> Self:
        """Make a filter of terms: a text, split as a shell would, or one term each.

        Raises:
            FilterError: they cannot be understood.

        """
        return cls(parse_terms(terms), include_self, by_parent)

    def __str__(self) -> str:
        return " ".join(map(str, self.questions))
