"""Where more live than there is room for: who is forgotten, and what is said of the others."""

from __future__ import annotations

import pytest

from proctree_bpf.core.events import Exec, Fork
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import Answer, ancestry, build_chain_string
from proctree_bpf.core.model import CacheParams
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter

S = 1_000_000_000
CAPACITY = 20


class Crowd:
    """A full tree: a line of five from init down to ``agent``, and living leaves."""

    def __init__(self, terms: str) -> None:
        params = CacheParams(CAPACITY)
        self.tracker = Tracker(PidTree(params), ProcCache(params), {0: "root"}.get)
        self.filter = BoundFilter(Filter.parse(terms), self.tracker.tree, self.tracker.cache)
        self.filter.survey()
        self.now_ns = S
        self.next_pid = 1
        self.line = [ProcessKey(0)]
        for name in ("init", "sshd", "bash", "make", "agent"):
            self.line.append(self.fork(self.line[-1], name)[0])

    def fork(self, creator: ProcessKey, name: str) -> tuple[ProcessKey, bool]:
        self.now_ns += 20_000_001
        key = ProcessKey(self.next_pid, self.now_ns)
        self.next_pid += 1
        told = self.tracker.apply(Fork(self.now_ns, key, creator, comm=name, uid=0))
        assert told is not None
        return key, self.filter.admits(told)

    def fill(self) -> None:
        for _ in range(3 * CAPACITY):
            self.fork(self.line[1], "leaf")
        self.tracker.table.check_invariants()


def test_leaves_are_forgotten_and_never_the_roots_of_chains() -> None:
    crowd = Crowd("failed")
    crowd.fill()
    assert len(crowd.tracker.tree) == CAPACITY
    key, _ = crowd.fork(crowd.line[-1], "cc")
    chain = build_chain_string(crowd.tracker.tree, crowd.tracker.cache, key)
    assert chain.endswith("5|agent|root;4|make|root;3|bash|root;2|sshd|root;1|init|root")
    assert crowd.tracker.table.evicted_living == 3 * CAPACITY + 5 + 1 - CAPACITY
    assert crowd.tracker.stats.evicted == crowd.tracker.table.evicted_living


def forgotten(crowd: Crowd) -> ProcessKey:
    """Return a living process under ``agent`` that the tree had to forget."""
    crowd.fill()
    key, _ = crowd.fork(crowd.line[-1], "worker")
    crowd.fill()
    assert crowd.tracker.tree.get_node(key) is None
    return key


@pytest.mark.parametrize("terms", ["not-ancestor=agent", "not-ancestor=nobody"])
def test_who_came_from_one_that_was_forgotten_is_not_said_to_be_under_nobody(terms: str) -> None:
    crowd = Crowd(terms)
    by = forgotten(crowd)
    key, admitted = crowd.fork(by, "child")
    assert not admitted
    assert ancestry(crowd.tracker.tree, key, "agent") is Answer.UNKNOWN
    _, admitted = crowd.fork(key, "grandchild")
    assert not admitted


def test_of_those_whose_creators_are_there_all_is_known_as_before() -> None:
    crowd = Crowd("not-ancestor=agent")
    forgotten(crowd)
    assert crowd.fork(crowd.line[3], "other")[1]
    assert not crowd.fork(crowd.line[-1], "mine")[1]


def test_a_process_of_which_an_exec_is_told_after_it_was_forgotten_is_only_observed() -> None:
    crowd = Crowd("ancestor=agent")
    by = forgotten(crowd)
    event = Exec(crowd.now_ns + 1, by, parent=crowd.line[-1], comm="cc", uid=0)
    told = crowd.tracker.apply(event)
    assert told is not None
    assert ancestry(crowd.tracker.tree, by, "nobody") is Answer.UNKNOWN


def test_what_is_remembered_of_decisions_is_bounded_too() -> None:
    crowd = Crowd("ancestor=agent")
    for _ in range(10 * CAPACITY):
        crowd.fork(crowd.line[-1], "leaf")
    assert crowd.filter.ancestry is not None
    assert len(crowd.filter.ancestry) <= 2 * CAPACITY + 1  # type: ignore[arg-type]
