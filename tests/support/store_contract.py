"""What every store of processes must do, whoever wrote it.

A store of your own is run through the same suite in a test module of yours: derive from
``TreeStoreContract`` or ``CacheStoreContract``, say how an empty store is made, and give
the class a name that pytest collects::

    from support.store_contract import CacheStoreContract, TreeStoreContract

    class TestMyTree(TreeStoreContract):
        def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
            return MyTree(capacity, ttl_secs)

    class TestMyCache(CacheStoreContract):
        def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
            return MyCache(capacity, ttl_secs)

(``tests`` must be on the import path: ``pythonpath = ["tests"]`` for pytest.) Every test
makes its own store; a store that keeps its data elsewhere must hand out an empty one.
"""

from __future__ import annotations

import pytest

from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import PidNode, ProcInfo
from proctree_bpf.core.stores import CacheStore, TreeStore
from support.lifetime_contract import EXACT, LATER, TICK, LifetimeContract, S
from support.values import replace


def node(pid: int, start: int = 0, ppid: int = 1, cmd: str = "x", **more: object) -> PidNode:
    return PidNode(ppid, cmd, start, pid, **more)  # type: ignore[arg-type]


def info(pid: int, start: int = 0, cmd: str = "x", **more: object) -> ProcInfo:
    return ProcInfo(cmd, "ada", 1, pid, start, **more)  # type: ignore[arg-type]


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
