"""What every store of processes must do, whoever wrote it.

A store of your own is run through the same suite in a test module of yours: derive from
``TreeStoreContract`` or ``CacheStoreContract``, say how an empty store is made, and give
the class a name that pytest collects::

    from core.test_store_contract import CacheStoreContract, TreeStoreContract

    class TestMyTree(TreeStoreContract):
        def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
            return MyTree(capacity, ttl_secs)

    class TestMyCache(CacheStoreContract):
        def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
            return MyCache(capacity, ttl_secs)

(``tests`` must be on the import path: ``pythonpath = ["tests"]`` for pytest.) Every test
makes its own store; a store that keeps its data elsewhere must hand out an empty one.

Three families pass here: ``PidTree``/``ProcCache``, ``DefaultTree``/``DefaultCache``, and
a reference of a few lines that keeps a plain dict and scans it for every answer.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

import pytest

from proctree_bpf import DefaultCache, DefaultTree
from proctree_bpf.core.identity import TICK_NS, ProcessKey, Sameness, compare, more_exact
from proctree_bpf.core.model import CacheParams, PidNode, ProcInfo
from proctree_bpf.core.stores import CacheStore, PidTree, ProcCache, TreeStore
from support.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

S = 1_000_000_000
TICK = 5 * TICK_NS
EXACT = TICK + 1_234
LATER = 9 * TICK_NS + 99
NOBODY = [0, 99_999, 2**32 - 1]


def node(pid: int, start: int = 0, ppid: int = 1, cmd: str = "x", **more: object) -> PidNode:
    return PidNode(ppid, cmd, start, pid, **more)  # type: ignore[arg-type]


def info(pid: int, start: int = 0, cmd: str = "x", **more: object) -> ProcInfo:
    return ProcInfo(cmd, "ada", 1, pid, start, **more)  # type: ignore[arg-type]


V = TypeVar("V", PidNode, ProcInfo)
Store = TypeVar("Store", bound="TreeStore | CacheStore")


class LifetimeContract(ABC, Generic[Store, V]):
    """What trees and caches have in common; the tests below are written with these four."""

    @abstractmethod
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> Store:
        """Return an empty store."""

    @abstractmethod
    def put(self, store: Store, value: V) -> list[V]:
        """Insert a value under its own PID; return what the store says it has evicted."""

    @abstractmethod
    def get(self, store: Store, who: int | ProcessKey) -> V | None:
        """Look a value up."""

    @abstractmethod
    def value(self, pid: int, start: int = 0, cmd: str = "x", exited_ns: int | None = None) -> V:
        """Make a value."""

    def ended(self, pid: int, start: int = 0, at: int = S, cmd: str = "x") -> V:
        return self.value(pid, start, cmd, exited_ns=at)

    # Finding

    @pytest.mark.parametrize("pid", NOBODY)
    def test_an_unknown_process_is_nobody(self, pid: int) -> None:
        store = self.make()
        assert self.get(store, pid) is None
        assert self.get(store, ProcessKey(pid)) is None
        assert self.get(store, ProcessKey(pid, EXACT)) is None

    def test_an_empty_store_has_no_length(self) -> None:
        assert len(self.make()) == 0

    def test_expiring_an_empty_store_removes_nothing(self) -> None:
        assert self.make().expire(10**18) == []

    @pytest.mark.parametrize("pid", [0, 1, 2**32 - 1])
    def test_any_pid_can_be_kept(self, pid: int) -> None:
        store = self.make()
        self.put(store, self.value(pid, EXACT))
        assert self.get(store, pid) == self.value(pid, EXACT)

    @pytest.mark.parametrize("who", [7, ProcessKey(7), ProcessKey(7, EXACT), ProcessKey(7, TICK)])
    def test_a_process_is_found_by_every_reading_of_its_identity(
        self, who: int | ProcessKey
    ) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT))
        assert self.get(store, who) == self.value(7, EXACT)

    def test_a_process_known_by_its_ticks_is_found_by_the_exact_time(self) -> None:
        store = self.make()
        self.put(store, self.value(7, TICK))
        assert self.get(store, ProcessKey(7, EXACT)) == self.value(7, TICK)

    @pytest.mark.parametrize("start", [TICK_NS, EXACT + 1, LATER])
    def test_a_key_with_a_start_time_never_gets_another_process(self, start: int) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT))
        assert self.get(store, ProcessKey(7, start)) is None

    def test_a_key_with_a_start_time_never_gets_a_process_of_unknown_start(self) -> None:
        store = self.make()
        self.put(store, self.value(7))
        assert self.get(store, ProcessKey(7, EXACT)) is None

    def test_a_bare_pid_means_the_living_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "living"))
        self.put(store, self.ended(7, LATER, cmd="dead"))
        found = self.get(store, 7)
        assert found is not None
        assert found.cmd == "living"

    def test_a_bare_pid_means_the_last_holder_if_none_lives(self) -> None:
        store = self.make()
        self.put(store, self.ended(7, LATER, cmd="second"))
        self.put(store, self.ended(7, EXACT, cmd="first"))
        found = self.get(store, 7)
        assert found is not None
        assert found.cmd == "second"

    def test_a_key_without_a_start_time_asks_as_a_bare_pid_does(self) -> None:
        store = self.make()
        self.put(store, self.value(7, cmd="dead"))
        self.put(store, self.ended(7, cmd="dead"))
        self.put(store, self.value(7, EXACT, "living"))
        assert (
            self.get(store, ProcessKey(7)) == self.get(store, 7) == self.value(7, EXACT, "living")
        )

    # Inserting

    def test_an_insert_replaces_what_is_known(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "old"))
        self.put(store, self.value(7, EXACT, "new"))
        assert self.get(store, 7) == self.value(7, EXACT, "new")
        assert len(store) == 1

    def test_an_exact_reading_sharpens_one_of_ticks(self) -> None:
        store = self.make()
        self.put(store, self.value(7, TICK, "old"))
        self.put(store, self.value(7, EXACT, "new"))
        assert self.get(store, 7) == self.value(7, EXACT, "new")
        assert self.get(store, ProcessKey(7, TICK)) == self.value(7, EXACT, "new")
        assert len(store) == 1

    @pytest.mark.parametrize("start", [TICK, 0])
    def test_a_start_time_once_known_is_not_blunted(self, start: int) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "old"))
        self.put(store, self.value(7, start, "new"))
        assert self.get(store, 7) == self.value(7, EXACT, "new")
        assert len(store) == 1

    def test_a_start_time_may_come_after_the_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7))
        self.put(store, self.value(7, EXACT))
        assert self.get(store, 7) == self.value(7, EXACT)
        assert len(store) == 1

    def test_another_start_time_is_another_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "one"))
        self.put(store, self.value(7, LATER, "two"))
        assert self.get(store, ProcessKey(7, EXACT)) == self.value(7, EXACT, "one")
        assert self.get(store, ProcessKey(7, LATER)) == self.value(7, LATER, "two")
        assert len(store) == 2

    def test_processes_of_one_tick_are_told_apart_by_their_nanoseconds(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "one"))
        self.put(store, self.value(7, EXACT + 1, "two"))
        assert self.get(store, ProcessKey(7, EXACT)) == self.value(7, EXACT, "one")
        assert self.get(store, ProcessKey(7, EXACT + 1)) == self.value(7, EXACT + 1, "two")

    @pytest.mark.parametrize("start", [0, TICK, EXACT])
    def test_an_end_is_noted_on_the_process_itself(self, start: int) -> None:
        store = self.make()
        self.put(store, self.value(7, start))
        self.put(store, self.ended(7, start))
        assert self.get(store, 7) == self.ended(7, start)
        assert len(store) == 1

    def test_without_a_start_time_an_insert_is_not_about_an_ended_process(self) -> None:
        store = self.make()
        self.put(store, self.value(7, EXACT, "old"))
        self.put(store, self.ended(7, EXACT, cmd="old"))
        self.put(store, self.value(7, cmd="new"))
        assert self.get(store, 7) == self.value(7, cmd="new")
        assert self.get(store, ProcessKey(7, EXACT)) == self.ended(7, EXACT, cmd="old")

    def test_a_living_process_outlasts_a_former_one_that_nothing_tells_apart(self) -> None:
        store = self.make()
        self.put(store, self.value(7, cmd="old"))
        self.put(store, self.ended(7, cmd="old"))
        self.put(store, self.value(7, cmd="new"))
        store.expire(S + 601 * S)
        assert self.get(store, 7) == self.value(7, cmd="new")
        assert len(store) == 1

    def test_an_end_that_turns_out_wrong_can_be_taken_back(self) -> None:
        store = self.make()
        self.put(store, self.ended(7, EXACT))
        self.put(store, self.value(7, EXACT))
        assert len(store) == 1
        store.expire(S + 601 * S)
        assert self.get(store, 7) == self.value(7, EXACT)
        assert len(store) == 1

    # Forgetting

    def test_the_living_never_expire(self) -> None:
        store = self.make(ttl_secs=1)
        self.put(store, self.value(7, EXACT))
        assert store.expire(10**18) == []
        assert self.get(store, 7) == self.value(7, EXACT)

    def test_the_ended_are_kept_from_their_end_for_the_ttl(self) -> None:
        store = self.make(ttl_secs=10)
        self.put(store, self.value(7, EXACT))
        store.expire(100 * S)
        self.put(store, self.ended(7, EXACT, at=101 * S))
        assert store.expire(111 * S - 1) == []
        assert self.get(store, 7) is not None
        assert store.expire(111 * S) == [self.ended(7, EXACT, at=101 * S)]
        assert self.get(store, 7) is None
        assert self.get(store, ProcessKey(7, EXACT)) is None
        assert len(store) == 0

    def test_time_does_not_go_back(self) -> None:
        store: Store = self.make(ttl_secs=10)
        self.put(store, self.ended(7, EXACT, at=S))
        store.expire(9 * S)
        assert store.expire(0) == []
        assert store.expire(11 * S) == [self.ended(7, EXACT, at=S)]
        store.expire(0)
        gone: list[V] = self.put(store, self.ended(8, EXACT, at=S))
        later: list[V] = [*store.expire(0)]
        assert [*gone, *later] == [self.ended(8, EXACT, at=S)]

    @pytest.mark.parametrize("lives_first", [True, False])
    def test_an_end_that_is_told_after_its_ttl_leaves_nothing_behind(
        self, *, lives_first: bool
    ) -> None:
        store: Store = self.make(ttl_secs=10)
        store.expire(100 * S)
        if lives_first:
            self.put(store, self.value(7, EXACT))
        gone: list[V] = self.put(store, self.ended(7, EXACT, at=S))
        later: list[V] = [*store.expire(100 * S)]
        assert [*gone, *later] == [self.ended(7, EXACT, at=S)]
        assert self.get(store, 7) is None
        assert len(store) == 0

    def test_a_ttl_of_nothing_forgets_at_the_end(self) -> None:
        store = self.make(ttl_secs=0)
        self.put(store, self.ended(7, EXACT, at=S))
        assert store.expire(S) == [self.ended(7, EXACT, at=S)]
        assert len(store) == 0

    def test_a_store_stays_within_its_capacity(self) -> None:
        store = self.make(capacity=3)
        evicted = [self.put(store, self.value(pid, EXACT)) for pid in range(1, 11)]
        assert [len(gone) for gone in evicted] == [0, 0, 0] + [1] * 7
        assert len(store) == 3

    def test_what_was_evicted_is_returned_and_gone(self) -> None:
        store = self.make(capacity=1)
        self.put(store, self.value(7, EXACT))
        assert self.put(store, self.value(8, EXACT)) == [self.value(7, EXACT)]
        assert self.get(store, 7) is None
        assert self.get(store, 8) == self.value(8, EXACT)

    def test_the_living_are_not_evicted_while_an_ended_process_can_be(self) -> None:
        store = self.make(capacity=4)
        for pid in (1, 2, 3, 4):
            self.put(store, self.value(pid, EXACT))
        self.put(store, self.ended(3, EXACT))
        assert self.put(store, self.value(5, EXACT)) == [self.ended(3, EXACT)]
        assert all(self.get(store, pid) is not None for pid in (1, 2, 4, 5))

    def test_an_update_of_a_full_store_evicts_nobody(self) -> None:
        store = self.make(capacity=2)
        self.put(store, self.value(1, TICK))
        self.put(store, self.value(2, TICK))
        assert self.put(store, self.value(1, EXACT, "new")) == []
        assert self.put(store, self.ended(2, EXACT)) == []
        assert len(store) == 2

    # Threads

    def test_readers_are_not_disturbed_by_the_writer(self) -> None:
        store = self.make(capacity=50, ttl_secs=1)
        done = threading.Event()
        errors: list[BaseException] = []

        def read() -> None:
            try:
                while not done.is_set():
                    for pid in range(1, 40):
                        found = self.get(store, pid)
                        assert found is None or found.key.pid == pid
                    assert len(store) <= 50
                    self.scan(store)
            except BaseException as error:  # noqa: BLE001 - told in the test's own thread
                errors.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for turn in range(1, 600):
                pid, start = turn % 40, turn * TICK_NS + 1
                self.put(store, self.value(pid, start))
                self.put(store, self.ended(pid, start, at=turn * S // 100))
                if turn % 20 == 0:
                    store.expire(turn * S // 100)
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert errors == []

    def scan(self, store: Store) -> None:
        """Ask what no other test asks of a store that is being written to."""


class TreeStoreContract(LifetimeContract[TreeStore, PidNode]):
    """What a ``TreeStore`` must do."""

    def put(self, store: TreeStore, value: PidNode) -> list[PidNode]:
        return store.insert_node(value.pid, value)

    def get(self, store: TreeStore, who: int | ProcessKey) -> PidNode | None:
        return store.get_node(who)

    def value(
        self, pid: int, start: int = 0, cmd: str = "x", exited_ns: int | None = None
    ) -> PidNode:
        return PidNode(0, cmd, start, pid, exited_ns=exited_ns)

    def scan(self, store: TreeStore) -> None:
        for found in store.all_nodes():
            store.child_nodes(found.key)
        pids = store.all_pids()
        assert pids == sorted(set(pids))

    def test_it_is_a_tree_store(self) -> None:
        assert isinstance(self.make(), TreeStore)

    def test_the_pid_of_an_insert_is_the_pid_of_the_node(self) -> None:
        store = self.make()
        store.insert_node(7, PidNode(1, "x", EXACT))
        assert store.get_node(7) == node(7, EXACT)

    def test_pids_are_listed_once_and_in_order(self) -> None:
        store = self.make()
        for pid, start in ((9, EXACT), (2, EXACT), (9, LATER), (2**32 - 1, EXACT)):
            store.insert_node(pid, node(pid, start))
        assert store.all_pids() == [2, 9, 2**32 - 1]

    def test_an_empty_tree_lists_nothing(self) -> None:
        store = self.make()
        assert (store.all_pids(), store.all_nodes()) == ([], [])
        assert store.child_nodes(ProcessKey(1)) == []

    def test_all_nodes_are_those_that_count(self) -> None:
        store = self.make()
        nodes = [node(1, EXACT), node(2, EXACT, exited_ns=S), node(3, LATER, ppid=2)]
        nodes.append(node(2, LATER))
        for each in nodes:
            store.insert_node(each.pid, each)
        assert sorted(store.all_nodes(), key=lambda n: n.key) == sorted(nodes, key=lambda n: n.key)
        assert len(store) == 4

    def test_a_late_end_is_not_listed(self) -> None:
        store = self.make(ttl_secs=10)
        store.expire(100 * S)
        store.insert_node(7, node(7, EXACT, exited_ns=S))
        store.expire(100 * S)
        assert store.all_pids() == []
        assert store.child_nodes(ProcessKey(1)) == []

    # Children

    def test_children_are_those_that_a_process_created_in_their_order(self) -> None:
        store = self.make()
        store.insert_node(5, node(5, EXACT))
        for pid in (9, 6, 8):
            store.insert_node(pid, node(pid, LATER, ppid=5, creator_start_ns=EXACT))
        store.insert_node(6, node(6, LATER, ppid=5, cmd="again", creator_start_ns=EXACT))
        assert [child.pid for child in store.child_nodes(ProcessKey(5, EXACT))] == [9, 6, 8]

    @pytest.mark.parametrize("start", [0, TICK, EXACT])
    def test_children_are_found_by_every_reading_of_the_creator(self, start: int) -> None:
        store = self.make()
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT))
        assert [child.pid for child in store.child_nodes(ProcessKey(5, start))] == [6]

    def test_children_may_be_known_before_their_creator(self) -> None:
        store = self.make()
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT))
        store.insert_node(5, node(5, EXACT))
        assert [child.pid for child in store.child_nodes(ProcessKey(5, EXACT))] == [6]

    def test_children_of_a_former_holder_are_not_inherited(self) -> None:
        store = self.make()
        store.insert_node(6, node(6, EXACT + 1, ppid=5, creator_start_ns=EXACT))
        assert store.child_nodes(ProcessKey(5, LATER)) == []

    def test_nobody_is_created_by_a_younger_process(self) -> None:
        store = self.make()
        store.insert_node(6, node(6, EXACT, ppid=5))
        assert store.child_nodes(ProcessKey(5, LATER)) == []
        assert [child.pid for child in store.child_nodes(ProcessKey(5, TICK_NS))] == [6]

    def test_nobody_is_created_by_a_process_that_had_ended(self) -> None:
        store = self.make()
        store.insert_node(5, node(5, TICK_NS))
        store.insert_node(5, node(5, TICK_NS, exited_ns=2 * TICK_NS))
        store.insert_node(6, node(6, EXACT, ppid=5))
        assert store.child_nodes(ProcessKey(5, TICK_NS)) == []

    @pytest.mark.parametrize("pid", [0, 1, 7])
    def test_nobody_is_its_own_child(self, pid: int) -> None:
        store = self.make()
        store.insert_node(pid, node(pid, EXACT, ppid=pid, creator_start_ns=EXACT))
        assert store.child_nodes(ProcessKey(pid, EXACT)) == []

    def test_a_child_of_another_creator_moves(self) -> None:
        store = self.make()
        store.insert_node(6, node(6, LATER, ppid=5))
        store.insert_node(6, node(6, LATER, ppid=4))
        assert store.child_nodes(ProcessKey(5)) == []
        assert [child.pid for child in store.child_nodes(ProcessKey(4))] == [6]

    def test_a_child_whose_start_is_sharpened_is_still_one_child(self) -> None:
        store = self.make()
        store.insert_node(6, node(6, LATER - LATER % TICK_NS, ppid=5))
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT))
        assert store.child_nodes(ProcessKey(5, EXACT)) == [
            node(6, LATER, ppid=5, creator_start_ns=EXACT)
        ]

    def test_ended_children_are_children(self) -> None:
        store = self.make()
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT, exited_ns=S))
        assert [child.pid for child in store.child_nodes(ProcessKey(5, EXACT))] == [6]

    def test_two_processes_may_have_created_each_other(self) -> None:
        store = self.make()
        store.insert_node(5, node(5, ppid=6))
        store.insert_node(6, node(6, ppid=5))
        assert [child.pid for child in store.child_nodes(ProcessKey(5))] == [6]
        assert [child.pid for child in store.child_nodes(ProcessKey(6))] == [5]

    # Creators that have ended

    @pytest.mark.parametrize("seen_as", [0, TICK, EXACT], ids=["unknown", "tick", "exact"])
    @pytest.mark.parametrize("child_last", [True, False], ids=["child last", "end last"])
    def test_an_ended_creator_stays_while_what_it_created_is_kept(
        self, seen_as: int, *, child_last: bool
    ) -> None:
        store = self.make(ttl_secs=10)
        store.insert_node(5, node(5, EXACT))
        child = node(6, LATER, ppid=5, creator_start_ns=seen_as)
        if not child_last:
            store.insert_node(6, child)
        store.insert_node(5, node(5, EXACT, exited_ns=S))
        if child_last:
            store.insert_node(6, child)
        assert store.expire(1000 * S) == []
        assert store.get_node(ProcessKey(5, EXACT)) is not None

    def test_an_ended_creator_goes_with_the_last_it_created(self) -> None:
        store = self.make(ttl_secs=10)
        creator = node(5, EXACT, exited_ns=S)
        child = node(6, LATER, ppid=5, creator_start_ns=EXACT)
        store.insert_node(5, node(5, EXACT))
        store.insert_node(6, child)
        store.insert_node(5, creator)
        ended = replace(child, exited_ns=1000 * S)
        store.insert_node(6, ended)
        assert store.expire(1009 * S) == []
        assert store.expire(1010 * S) == [ended, creator]
        assert len(store) == 0

    def test_a_whole_family_of_the_ended_goes_at_once(self) -> None:
        store = self.make(ttl_secs=10)
        starts = {pid: pid * TICK_NS + 1 for pid in range(1, 200)}
        for pid, start in starts.items():
            creator = starts.get(pid - 1, 0)
            store.insert_node(pid, node(pid, start, pid - 1, creator_start_ns=creator))
        for pid, start in starts.items():
            creator = starts.get(pid - 1, 0)
            store.insert_node(
                pid, node(pid, start, pid - 1, creator_start_ns=creator, exited_ns=100 * S)
            )
        assert len(store.expire(200 * S)) == 199
        assert len(store) == 0

    def test_a_creator_is_not_lost_when_its_child_is_seen_more_exactly(self) -> None:
        store = self.make(ttl_secs=10)
        store.insert_node(5, node(5, EXACT))
        store.insert_node(6, node(6, LATER - LATER % TICK_NS, ppid=5, creator_start_ns=EXACT))
        store.insert_node(5, node(5, EXACT, exited_ns=S))
        store.expire(1000 * S)
        assert store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT)) == []
        assert store.get_node(ProcessKey(5, EXACT)) == node(5, EXACT, exited_ns=S)

    def test_a_creator_is_not_lost_when_it_is_itself_seen_more_exactly(self) -> None:
        store = self.make(ttl_secs=10)
        store.insert_node(5, node(5, TICK))
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=TICK))
        store.insert_node(5, node(5, EXACT, exited_ns=S))
        store.expire(1000 * S)
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT))
        assert store.get_node(ProcessKey(5, EXACT)) == node(5, EXACT, exited_ns=S)

    def test_a_creator_that_lost_its_child_to_another_keeps_its_own_ttl(self) -> None:
        store = self.make(ttl_secs=10)
        store.insert_node(5, node(5, EXACT))
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT))
        store.insert_node(5, node(5, EXACT, exited_ns=S))
        store.insert_node(6, node(6, LATER, ppid=4))
        assert store.expire(11 * S) == [node(5, EXACT, exited_ns=S)]

    def test_an_ended_creator_is_evicted_after_the_childless_and_before_the_living(self) -> None:
        store = self.make(capacity=3)
        store.insert_node(5, node(5, EXACT))
        store.insert_node(6, node(6, LATER, ppid=5, creator_start_ns=EXACT))
        creator, childless = node(5, EXACT, exited_ns=S), node(7, EXACT, exited_ns=2 * S)
        store.insert_node(5, creator)
        store.insert_node(7, childless)
        assert store.insert_node(8, node(8, EXACT)) == [childless]
        assert store.insert_node(9, node(9, EXACT)) == [creator]
        assert sorted(store.all_pids()) == [6, 8, 9]


class CacheStoreContract(LifetimeContract[CacheStore, ProcInfo]):
    """What a ``CacheStore`` must do."""

    def put(self, store: CacheStore, value: ProcInfo) -> list[ProcInfo]:
        return store.insert_info(value.tgid, value)

    def get(self, store: CacheStore, who: int | ProcessKey) -> ProcInfo | None:
        return store.get_info(who)

    def value(
        self, pid: int, start: int = 0, cmd: str = "x", exited_ns: int | None = None
    ) -> ProcInfo:
        return info(pid, start, cmd, exited_ns=exited_ns)

    def test_it_is_a_cache_store(self) -> None:
        assert isinstance(self.make(), CacheStore)

    def test_the_pid_of_an_insert_is_the_pid_of_the_entry(self) -> None:
        store = self.make()
        store.insert_info(7, info(8, EXACT))
        assert store.get_info(7) == info(7, EXACT)
        assert store.get_info(8) is None

    def test_every_detail_is_kept(self) -> None:
        store = self.make()
        full = info(
            7,
            EXACT,
            "a\nb",
            uid=2**32 - 1,
            gid=0,
            executable="/tmp/\udcff",
            args_raw=b"\0\xff\0",
            inherited=True,
            truncated=True,
            cgroup_id=2**64 - 1,
            ns_pid=1,
            exec_ns=3,
            status=0x8B,
        )
        store.insert_info(7, full)
        assert store.get_info(7) == full


class Reference(Generic[V]):
    """The rules in their simplest form: one dict, scanned for every answer, one lock."""

    def __init__(self, capacity: int, ttl_secs: float) -> None:
        self._capacity = capacity
        self._ttl_ns = int(ttl_secs * S)
        self._now_ns = 0
        self._lock = threading.RLock()
        self._next = 0
        self._kept: dict[int, V] = {}  # by order of first insertion

    def __len__(self) -> int:
        return len(self._kept)

    def _slot(self, who: int | ProcessKey) -> int | None:
        key = who if isinstance(who, ProcessKey) else ProcessKey(who)
        held = [(slot, value) for slot, value in self._kept.items() if value.key.pid == key.pid]
        if key.start_time_ns:
            same = [slot for slot, value in held if compare(value.key, key) is Sameness.SAME]
            equal = [slot for slot in same if self._kept[slot].key == key]
            return max(equal or same, default=None)
        living = [(value.key, slot) for slot, value in held if value.exited_ns is None]
        return max(living or [(value.key, slot) for slot, value in held], default=(key, None))[1]

    def _find(self, who: int | ProcessKey) -> V | None:
        with self._lock:
            slot = self._slot(who)
            return None if slot is None else self._kept[slot]

    def _insert(self, value: V, sharpened: Callable[[V, int], V]) -> list[V]:
        with self._lock:
            slot = self._slot(value.key)
            if slot is None and value.key.start_time_ns:
                slot = self._slot(value.key.pid)
                if slot is not None and self._kept[slot].key.start_time_ns:
                    slot = None
            unknown = slot is not None and (
                compare(self._kept[slot].key, value.key) is Sameness.UNKNOWN
            )
            if slot is None or (unknown and self._kept[slot].exited_ns is not None):
                slot = self._next
                self._next += 1
            else:
                best = more_exact(self._kept[slot].key, value.key)
                value = sharpened(value, best.start_time_ns)
            self._kept[slot] = value
            evicted = []
            while len(self._kept) > self._capacity:
                slot = min(self._kept, key=lambda s: (self._rank(self._kept[s]), s))
                evicted.append(self._kept.pop(slot))
            return evicted

    def _rank(self, value: V) -> int:
        """Tell who is evicted first: the ended, ended creators, the living."""
        if value.exited_ns is None:
            return 2
        return 1 if self._is_needed(value) else 0

    def _is_needed(self, value: V) -> bool:
        del value
        return False

    def expire(self, now_ns: int) -> list[V]:
        with self._lock:
            self._now_ns = max(self._now_ns, now_ns)
            removed = []
            while due := [
                slot
                for slot, value in self._kept.items()
                if value.exited_ns is not None
                and value.exited_ns + self._ttl_ns <= self._now_ns
                and not self._is_needed(value)
            ]:
                removed += [self._kept.pop(slot) for slot in due]
            return removed


class ReferenceTree(Reference[PidNode]):
    def get_node(self, who: int | ProcessKey) -> PidNode | None:
        return self._find(who)

    def insert_node(self, pid: int, node: PidNode) -> list[PidNode]:
        return self._insert(
            replace(node, pid=pid), lambda value, start: replace(value, start_time_ns=start)
        )

    def child_nodes(self, who: ProcessKey) -> list[PidNode]:
        with self._lock:
            creator = self._find(who)
            ended_ns = creator.exited_ns if creator is not None else None
            return [
                node
                for node in self._kept.values()
                if node.ppid == who.pid != node.pid and self._is_creator(who, ended_ns, node)
            ]

    @staticmethod
    def _is_creator(who: ProcessKey, ended_ns: int | None, node: PidNode) -> bool:
        sameness = compare(node.creator, who)
        if sameness is not Sameness.UNKNOWN or not (who.start_time_ns and node.start_time_ns):
            return sameness is not Sameness.DIFFERENT
        ended_before = ended_ns is not None and ended_ns < node.start_time_ns
        return who.ticks <= node.key.ticks and not ended_before

    def _is_needed(self, value: PidNode) -> bool:
        return bool(self.child_nodes(value.key))

    def all_pids(self) -> list[int]:
        with self._lock:
            return sorted({node.pid for node in self._kept.values()})

    def all_nodes(self) -> list[PidNode]:
        with self._lock:
            return list(self._kept.values())


class ReferenceCache(Reference[ProcInfo]):
    def get_info(self, who: int | ProcessKey) -> ProcInfo | None:
        return self._find(who)

    def insert_info(self, pid: int, info: ProcInfo) -> list[ProcInfo]:
        return self._insert(
            replace(info, tgid=pid), lambda value, start: replace(value, start_time_ns=start)
        )


class TestPidTree(TreeStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
        return PidTree(CacheParams(capacity, ttl_secs))


class TestDefaultTree(TreeStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
        return DefaultTree(capacity, ttl_secs)


class TestReferenceTree(TreeStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
        return ReferenceTree(capacity, ttl_secs)


class TestProcCache(CacheStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
        return ProcCache(CacheParams(capacity, ttl_secs))


class TestDefaultCache(CacheStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
        return DefaultCache(capacity, ttl_secs)


class TestReferenceCache(CacheStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
        return ReferenceCache(capacity, ttl_secs)


@pytest.mark.parametrize(("capacity", "ttl_secs"), [(0, 600), (-1, 600), (10, -1)])
def test_impossible_bounds_are_refused(capacity: int, ttl_secs: float) -> None:
    with pytest.raises(ValueError, match=r"capacity|ttl_secs"):
        CacheParams(capacity, ttl_secs)
