"""Which records are wanted: ancestry and what a record says of itself. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self, TypeAlias

from proctree_bpf.core.mirror import table_of
from proctree_bpf.core.text import as_comm
from proctree_bpf.filters.ancestry import (
    AncestryFilter,
    ParentFilter,
    command_line,
    matcher,
)
from proctree_bpf.filters.terms import ANCESTRY_TERMS, Question, ancestral, parse_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import CacheStore, TreeStore

_SECOND_NS = 1_000_000_000


InCgroup: TypeAlias = "Callable[[str, int], bool]"
"""Tells whether a cgroup, by its id, is the one of a path or below it."""


def _in_no_cgroup(_path: str, _cgroup_id: int) -> bool:
    return False


class BoundFilter:
    """A filter over the stream of events that a tree is kept with.

    >>> wanted = BoundFilter.parse("ancestor=sshd not-user=root", tree, cache)  # doctest: +SKIP
    >>> wanted.survey()  # doctest: +SKIP
    >>> told = tracker.apply(event)  # doctest: +SKIP
    >>> wanted.admits(told)  # doctest: +SKIP

    Args:
        questions: all must hold; see ``filters.terms``.
        tree, cache: what the tracker keeps.
        include_self: a process that is itself the ancestor asked for counts too.
        by_parent: ask for the kernel's present parents instead of the creators.
        in_cgroup: knows cgroups; needed for the term ``cgroup`` only.

    """

    def __init__(
        self,
        questions: Sequence[Question],
        tree: TreeStore,
        cache: CacheStore,
        *,
        include_self: bool = True,
        by_parent: bool = False,
        in_cgroup: InCgroup = _in_no_cgroup,
    ) -> None:
        self.questions = tuple(questions)
        self.include_self = include_self
        self.by_parent = by_parent
        self.ancestry: AncestryFilter | ParentFilter | None = None
        self._table, _ = table_of(tree, cache)
        self._ancestral = ancestral(questions)
        self._wanted = 0
        self._unwanted = 0
        self._predicates = [
            _predicate(q, in_cgroup) for q in questions if q.term not in ANCESTRY_TERMS
        ]

    @classmethod
    def parse(
        cls,
        terms: str | Iterable[str],
        tree: TreeStore,
        cache: CacheStore,
        *,
        include_self: bool = True,
        by_parent: bool = False,
        in_cgroup: InCgroup = _in_no_cgroup,
    ) -> Self:
        """Make a filter of terms such as ``ancestor=sshd,cron not-user=root failed``.

        Raises:
            FilterError: they cannot be understood.

        """
        return cls(
            parse_terms(terms), tree, cache,
            include_self=include_self, by_parent=by_parent, in_cgroup=in_cgroup,
        )  # fmt: skip

    def survey(self) -> None:
        """Decide for all that the tree knows now: after a snapshot and after each repair.

        Raises:
            FilterError: nobody has a PID that is asked for; the first time only.

        """
        if not self._ancestral:
            return
        if self.ancestry is None:
            matchers = [matcher(self._table, q) for q in self._ancestral]
            for index, q in enumerate(self._ancestral):
                if q.negated:
                    self._unwanted |= 1 << index
                else:
                    self._wanted |= 1 << index
            if self._unwanted:  # nobody can say that it is not under one of these
                self._unwanted |= 1 << len(matchers)
            kind = ParentFilter if self.by_parent else AncestryFilter
            self.ancestry = kind(self._table, matchers, include_self=self.include_self)
        self.ancestry.survey()

    def admits(self, told: ProcessEvent) -> bool:
        """Tell whether a record is wanted; must be asked for each event, in order."""
        if self._ancestral:
            if self.ancestry is None:
                self.survey()
            assert self.ancestry is not None  # noqa: S101 - survey() made it
            bits = self.ancestry.standing(told)
            if bits & self._wanted != self._wanted or bits & self._unwanted:
                return False
        return all(predicate(told) for predicate in self._predicates)


def _predicate(question: Question, in_cgroup: InCgroup) -> Callable[[ProcessEvent], bool]:
    """Make the test that one question asks of a record."""
    holds = _TESTS[question.term.name](question.alternatives, in_cgroup)
    if not question.negated:
        return holds
    if question.term.name in ("min-age", "max-age"):  # of the ends only, turned round too
        return lambda told: told.as_received.kind != "exit" or not holds(told)
    return lambda told: not holds(told)


def _user(users: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    wanted = frozenset(users)
    return lambda a: a.process.user in wanted or str(a.process.uid) in wanted


def _name(names: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    wanted = frozenset(map(as_comm, names))
    return lambda a: as_comm(a.process.cmd) in wanted


def _line(expressions: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    searches = [re.compile(expression).search for expression in expressions]
    return lambda a: any(search(command_line(a.process)) for search in searches)


def _pid(pids: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    wanted = frozenset(map(int, pids))
    return lambda a: a.process.pid in wanted


def _ppid(pids: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    wanted = frozenset(map(int, pids))
    return lambda a: a.process.kernel_parent.pid in wanted


def _cgroup(paths: Sequence[str], in_cgroup: InCgroup) -> Callable[[ProcessEvent], bool]:
    def holds(told: ProcessEvent) -> bool:
        cgroup_id = told.process.cgroup_id
        return cgroup_id is not None and any(in_cgroup(path, cgroup_id) for path in paths)

    return holds


def _failed(_values: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    return lambda a: a.as_received.kind == "exit" and bool(a.as_received.status)


def _min_age(seconds: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    least_ns = min(float(text) for text in seconds) * _SECOND_NS

    def holds(told: ProcessEvent) -> bool:
        if told.as_received.kind != "exit":
            return True
        age_ns = told.age_ns
        return age_ns is not None and age_ns >= least_ns

    return holds


def _max_age(seconds: Sequence[str], _: InCgroup) -> Callable[[ProcessEvent], bool]:
    most_ns = max(float(text) for text in seconds) * _SECOND_NS

    def holds(told: ProcessEvent) -> bool:
        if told.as_received.kind != "exit":
            return True
        age_ns = told.age_ns
        return age_ns is not None and age_ns <= most_ns

    return holds


_TESTS: dict[str, Callable[[Sequence[str], InCgroup], Callable[[ProcessEvent], bool]]] = {
    "user": _user,
    "name": _name,
    "line": _line,
    "pid": _pid,
    "ppid": _ppid,
    "cgroup": _cgroup,
    "failed": _failed,
    "min-age": _min_age,
    "max-age": _max_age,
}
