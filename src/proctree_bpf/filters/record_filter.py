"""Which records are wanted: ancestry and what a record says of itself. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from proctree_bpf.core.mirror import table_of
from proctree_bpf.filters.ancestry import AncestryFilter, ParentFilter, has_line, is_named, matcher
from proctree_bpf.filters.terms import ANCESTRY_TERMS, ancestral

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.filters.terms import Filter, Question

_SECOND_NS = 1_000_000_000


InCgroup: TypeAlias = "Callable[[str, int], bool]"
"""Tells whether a cgroup, by its id, is the one of a path or below it."""


def _in_no_cgroup(_path: str, _cgroup_id: int) -> bool:
    return False


class BoundFilter:
    """A filter over the stream of events that a tree is kept with.

    >>> wanted = BoundFilter(Filter.parse("ancestor=sshd failed"), tree, cache)  # doctest: +SKIP
    >>> wanted.survey()  # doctest: +SKIP
    >>> told = tracker.apply(event)  # doctest: +SKIP
    >>> wanted.admits(told)  # doctest: +SKIP

    Args:
        wanted: the filter.
        tree, cache: what the tracker keeps.
        in_cgroup: knows cgroups; needed for the term ``cgroup`` only.

    """

    def __init__(
        self,
        wanted: Filter,
        tree: TreeStore,
        cache: CacheStore,
        in_cgroup: InCgroup = _in_no_cgroup,
    ) -> None:
        self._filter = wanted
        self.ancestry: AncestryFilter | ParentFilter | None = None
        self._table, _ = table_of(tree, cache)
        self._ancestral = ancestral(wanted.questions)
        self._wanted = 0
        self._unwanted = 0
        self._predicates = [
            _predicate(q, in_cgroup) for q in wanted.questions if q.term not in ANCESTRY_TERMS
        ]

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
            kind = ParentFilter if self._filter.by_parent else AncestryFilter
            self.ancestry = kind(self._table, matchers, include_self=self._filter.include_self)
            self._unwanted |= self.ancestry.perhaps(self._unwanted)
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
    holds = _test(question.term.name, question.alternatives, in_cgroup)
    if not question.negated:
        return holds
    if question.term.name in ("min-age", "max-age"):  # of the ends only, turned round too
        return lambda told: told.as_received.kind != "exit" or not holds(told)
    return lambda told: not holds(told)


def _test(term: str, values: Sequence[str], in_cgroup: InCgroup) -> Callable[[ProcessEvent], bool]:
    match term:
        case "failed":
            return lambda told: told.as_received.kind == "exit" and bool(told.as_received.status)
        case "min-age":
            least_ns = min(map(float, values)) * _SECOND_NS
            return _age_test(lambda age_ns: age_ns >= least_ns)
        case "max-age":
            most_ns = max(map(float, values)) * _SECOND_NS
            return _age_test(lambda age_ns: age_ns <= most_ns)
    of_process = _process_test(term, values, in_cgroup)
    return lambda told: of_process(told.process)


def _age_test(is_right: Callable[[int], bool]) -> Callable[[ProcessEvent], bool]:
    def holds(told: ProcessEvent) -> bool:
        if told.as_received.kind != "exit":
            return True
        age_ns = told.age_ns
        return age_ns is not None and is_right(age_ns)

    return holds


def _process_test(
    term: str, values: Sequence[str], in_cgroup: InCgroup
) -> Callable[[TrackedProcess], bool]:
    match term:
        case "user":
            wanted = frozenset(values)
            return lambda process: process.user in wanted or str(process.uid) in wanted
        case "name":
            return is_named(values)
        case "line":
            return has_line(values)
        case "pid":
            pids = frozenset(map(int, values))
            return lambda process: process.pid in pids
        case "ppid":
            pids = frozenset(map(int, values))
            return lambda process: process.kernel_parent.pid in pids
        case "cgroup":
            return lambda process: (
                process.cgroup_id is not None
                and any(in_cgroup(path, process.cgroup_id) for path in values)
            )
    raise ValueError(term)
