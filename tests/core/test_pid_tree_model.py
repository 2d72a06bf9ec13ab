"""PidTree does what a naive model does, whatever the order of events, and leaks nothing.

``ModelledTree`` knows every start time (by ticks or exactly) and compares each answer with
the model. ``WildTree`` also has unknown and contradictory readings, where only one answer
can be checked: that the tree's own records agree with each other.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proctree_bpf.core.identity import TICK_NS, ProcessKey, Sameness, compare
from proctree_bpf.core.model import CacheParams, PidNode
from proctree_bpf.core.stores import PidTree
from support.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

TTL_S = 10
TTL_NS = TTL_S * 1_000_000_000
PIDS = range(1, 5)
GENERATIONS = range(3)

Name = tuple[int, int]
"""A process of the model: PID, and which of its holders."""
names = st.tuples(st.sampled_from(PIDS), st.sampled_from(GENERATIONS))


def exact_start(name: Name) -> int:
    pid, generation = name
    return (generation * 10 + pid) * TICK_NS + 1 + pid


def start_as(name: Name, *, exact: bool) -> int:
    start = exact_start(name)
    return start if exact else start - start % TICK_NS


def name_of(node: PidNode) -> Name:
    ticks = node.key.ticks - node.pid
    assert ticks % 10 == 0
    return node.pid, ticks // 10


def check_books(tree: PidTree) -> None:
    """The tree's own records agree with each other."""
    tree.table.check_invariants()
    nodes = tree.all_nodes()
    assert len(tree) == len(nodes) <= tree.params.capacity
    assert tree.all_pids() == sorted({node.pid for node in nodes})


@dataclass
class Kept:
    node: PidNode
    creator: Name | None


class ModelledTree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.kept: dict[Name, Kept] = {}
        self.tree = PidTree(CacheParams(1, TTL_S))

    @initialize(capacity=st.integers(1, 8))
    def choose_a_capacity(self, capacity: int) -> None:
        self.capacity = capacity
        self.tree = PidTree(CacheParams(capacity, TTL_S))

    # What the model knows.

    def children_of(self, creator: Name) -> list[Name]:
        return [name for name, kept in self.kept.items() if kept.creator == creator]

    def is_due(self, name: Name) -> bool:
        exited_ns = self.kept[name].node.exited_ns
        return exited_ns is not None and exited_ns + TTL_NS <= self.now_ns

    def rank(self, name: Name) -> int:
        """Tell who is evicted first: the ended, ended creators, the living."""
        if self.kept[name].node.exited_ns is None:
            return 2
        return 1 if self.children_of(name) else 0

    # What can happen.

    @rule(
        name=names,
        creator=names,
        exact=st.booleans(),
        creator_exact=st.booleans(),
        cmd=st.sampled_from("abc"),
        ago_ns=st.none() | st.integers(-TTL_NS, 2 * TTL_NS),
    )
    def insert(
        self,
        name: Name,
        creator: Name,
        cmd: str,
        ago_ns: int | None,
        *,
        exact: bool,
        creator_exact: bool,
    ) -> None:
        known = self.kept.get(name)
        by: Name | None = creator
        if known is not None:
            by = known.creator  # fixed for life
        elif creator[0] == name[0] or exact_start(creator) > exact_start(name):
            by = None  # nobody is created by itself, or by a younger one
        node = PidNode(
            ppid=by[0] if by is not None else 0,
            cmd=cmd,
            start_time_ns=start_as(name, exact=exact),
            pid=name[0],
            creator_start_ns=start_as(by, exact=creator_exact) if by is not None else 0,
            exited_ns=None if ago_ns is None else max(0, self.now_ns - ago_ns),
        )
        evicted = self.tree.insert_node(name[0], node)
        if known is not None and known.node.key.is_exact:
            node = replace(node, start_time_ns=known.node.start_time_ns)
        self.kept[name] = Kept(node, by)
        self.forget(evicted)

    def forget(self, evicted: Iterable[PidNode]) -> None:
        """Take out what the tree says is gone, if it may be gone."""
        for node in evicted:
            name = name_of(node)
            assert self.kept[name].node == node
            outlived = self.is_due(name) and not self.children_of(name)
            lowest = min(map(self.rank, self.kept))
            crowded_out = len(self.kept) > self.capacity and self.rank(name) == lowest
            assert outlived or crowded_out, f"{name} is gone without need"
            del self.kept[name]

    @rule(seconds=st.integers(0, 2 * TTL_S))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * 1_000_000_000

    @rule(back_ns=st.sampled_from((0, 0, 0, TTL_NS)))
    def expire(self, back_ns: int) -> None:
        """Expire, sometimes with an earlier time than before, which changes nothing."""
        removed = self.tree.expire(self.now_ns)
        gone = []
        while due := [
            name for name in self.kept if self.is_due(name) and not self.children_of(name)
        ]:
            gone += [self.kept.pop(name).node for name in due]
        assert sorted(removed, key=hash) == sorted(gone, key=hash)
        assert self.tree.expire(self.now_ns - back_ns) == []

    @rule(name=names, exact=st.booleans())
    def look_up(self, name: Name, *, exact: bool) -> None:
        kept = self.kept.get(name)
        found = self.tree.get_node(ProcessKey(name[0], start_as(name, exact=exact)))
        assert found == (kept.node if kept is not None else None)

    # What always holds.

    @invariant()
    def the_tree_keeps_what_the_model_keeps(self) -> None:
        nodes = {name_of(node): node for node in self.tree.all_nodes()}
        assert nodes == {name: kept.node for name, kept in self.kept.items()}

    @invariant()
    def a_bare_pid_means_the_youngest_that_lives_else_the_youngest(self) -> None:
        for pid in PIDS:
            held = [kept.node for name, kept in self.kept.items() if name[0] == pid]
            living = [node for node in held if node.exited_ns is None]
            expected = max(living or held, key=lambda node: node.start_time_ns, default=None)
            assert self.tree.get_node(pid) == expected
            assert self.tree.get_node(ProcessKey(pid)) == expected
            assert (pid in self.tree) is (expected is not None)

    @invariant()
    def everybody_has_the_children_it_created(self) -> None:
        for pid in PIDS:
            for generation in GENERATIONS:
                name = (pid, generation)
                found = self.tree.child_nodes(ProcessKey(pid, exact_start(name)))
                assert sorted(map(name_of, found)) == sorted(self.children_of(name))

    @invariant()
    def the_books_agree(self) -> None:
        check_books(self.tree)

    def teardown(self) -> None:
        for name, kept in list(self.kept.items()):
            if name in self.kept:
                self.kept[name].node = replace(kept.node, exited_ns=self.now_ns)
                self.forget(self.tree.insert_node(name[0], self.kept[name].node))
        self.tree.expire(self.now_ns + TTL_NS)
        check_empty(self.tree)


def check_empty(tree: PidTree) -> None:
    """A tree whose processes have all been forgotten holds nothing of them."""
    assert len(tree) == 0
    assert tree.all_pids() == []
    tree.table.check_invariants()


TestModelledTree = ModelledTree.TestCase
TestModelledTree.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, report_multiple_bugs=False
)


class WildTree(RuleBasedStateMachine):
    """Any reading may be unknown, or contradict an earlier one."""

    starts = st.sampled_from(
        (0, 0, TICK_NS, TICK_NS + 1, TICK_NS + 2, 3 * TICK_NS, 3 * TICK_NS + 5)
    )

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.tree = PidTree(CacheParams(1, TTL_S))

    @initialize(capacity=st.integers(1, 6))
    def choose_a_capacity(self, capacity: int) -> None:
        self.tree = PidTree(CacheParams(capacity, TTL_S))

    @rule(
        pid=st.integers(0, 3),
        ppid=st.integers(0, 3),
        start=starts,
        creator_start=starts,
        exited_ns=st.sampled_from((None, None, 0, 2 * TICK_NS, TTL_NS)),
    )
    def insert(
        self, pid: int, ppid: int, start: int, creator_start: int, exited_ns: int | None
    ) -> None:
        node = PidNode(ppid, "x", start, pid, creator_start, exited_ns=exited_ns)
        evicted = self.tree.insert_node(pid, node)
        assert pid in {gone.pid for gone in evicted} or self.tree.get_node(pid) is not None

    @rule(seconds=st.integers(0, TTL_S))
    def expire(self, seconds: int) -> None:
        self.now_ns += seconds * 1_000_000_000
        self.tree.expire(self.now_ns)

    @invariant()
    def the_books_agree(self) -> None:
        check_books(self.tree)

    @invariant()
    def every_reading_gets_only_whom_it_may_mean(self) -> None:
        for node in self.tree.all_nodes():
            found = self.tree.get_node(node.key)
            assert found is not None
            assert compare(found.key, node.key) is not Sameness.DIFFERENT


TestWildTree = WildTree.TestCase
TestWildTree.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, report_multiple_bugs=False
)


def test_many_short_lives_leave_a_small_tree() -> None:
    """Short lives under one long one, as a busy shell makes them; PIDs are reused."""
    tree = PidTree(CacheParams(64, TTL_S))
    tree.insert_node(1, PidNode(0, "init", 1, 1))
    for turn in range(1, 20_000):
        start = turn * TICK_NS + 1
        pid = 2 + turn % 500
        node = PidNode(1, "x", start, pid, 1)
        tree.insert_node(pid, node)
        tree.insert_node(pid, replace(node, exited_ns=start + 1))
        if turn % 1_000 == 0:
            tree.expire(start)
    check_books(tree)
    assert len(tree) == 64
    assert tree.get_node(1) is not None


def test_one_writer_and_several_readers_see_a_tree_that_holds_together() -> None:
    tree = PidTree(CacheParams(200, TTL_S))
    done = threading.Event()
    errors: list[BaseException] = []

    def look_around() -> None:
        for pid in tree.all_pids():
            node = tree.get_node(pid)
            if node is not None:
                assert node.pid == pid
                assert all(child.ppid == pid for child in tree.child_nodes(node.key))
        assert len(tree.all_nodes()) <= 200
        assert len(tree) <= 201  # read between an insert and its eviction

    def read() -> None:
        try:
            while not done.is_set():
                look_around()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        live_and_die(tree)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert errors == []
    check_books(tree)


def live_and_die(tree: PidTree) -> None:
    for turn in range(1, 3_000):
        start, pid, ppid = turn * TICK_NS, turn % 300, (turn - 1) % 300
        node = PidNode(ppid, "x", start, pid, (turn - 1) * TICK_NS)
        tree.insert_node(pid, node)
        tree.insert_node(pid, replace(node, start_time_ns=start + 1))
        if turn % 3:
            tree.insert_node(pid, replace(node, exited_ns=start + 2))
        if turn % 50 == 0:
            tree.expire(start)
