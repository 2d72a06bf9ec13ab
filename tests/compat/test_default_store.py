"""The row "default_store" of the coverage table: the stores that are made from two numbers."""

from __future__ import annotations

import threading

import pytest

from proctree_bpf import (
    PID_TREE_CAP,
    PID_TREE_TTL_SECS,
    PROC_CACHE_CAP,
    PROC_CACHE_TTL_SECS,
    DefaultCache,
    DefaultTree,
    PidNode,
    ProcInfo,
    TreeStore,
    tree_len,
)
from proctree_bpf.core.stores import CacheStore
from support.values import replace

S = 1_000_000_000


def test_insert_and_get() -> None:
    tree, cache = DefaultTree(65_536, 600), DefaultCache(65_536, 600)
    tree.insert_node(42, PidNode(1, "bash"))
    cache.insert_info(42, ProcInfo("bash", "ada", 1, 42))
    node, info = tree.get_node(42), cache.get_info(42)
    assert node is not None
    assert (node.pid, node.ppid, node.cmd) == (42, 1, "bash")
    assert info is not None
    assert (info.tgid, info.ppid, info.cmd, info.user) == (42, 1, "bash", "ada")


def test_get_missing() -> None:
    assert DefaultTree().get_node(42) is None
    assert DefaultCache().get_info(42) is None


def test_ttl_expiration() -> None:
    """The TTL runs from the exit: who lives is never forgotten."""
    tree, cache = DefaultTree(100, 5), DefaultCache(100, 5)
    node, info = PidNode(1, "bash", 7, 42), ProcInfo("bash", "ada", 1, 42, 7)
    for store in (tree, cache):
        store.expire(1_000 * S)
    tree.insert_node(42, node)
    cache.insert_info(42, info)
    assert tree.expire(2_000 * S) == []
    assert cache.expire(2_000 * S) == []
    tree.insert_node(42, replace(node, exited_ns=2_000 * S))
    cache.insert_info(42, replace(info, exited_ns=2_000 * S))
    for now in (2_001, 2_004):
        tree.expire(now * S)
        cache.expire(now * S)
        assert tree.get_node(42) is not None
        assert cache.get_info(42) is not None
    tree.expire(2_005 * S)
    cache.expire(2_005 * S)
    assert tree.get_node(42) is None
    assert cache.get_info(42) is None


def test_clone_shares_data() -> None:
    """What is handed to another thread is a reference: both see one store."""
    tree = DefaultTree()

    def insert(handed_over: DefaultTree) -> None:
        handed_over.insert_node(42, PidNode(1, "bash"))

    thread = threading.Thread(target=insert, args=(tree,))
    thread.start()
    thread.join()
    assert tree.get_node(42) is not None


def test_len_and_contains() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    assert (len(tree), len(cache)) == (0, 0)
    tree.insert_node(42, PidNode(1, "bash"))
    cache.insert_info(42, ProcInfo("bash", "ada", 1, 42))
    assert (len(tree), len(cache), tree_len(tree)) == (1, 1, 1)
    for store in (tree, cache):
        assert 42 in store
        assert 43 not in store
        assert "42" not in store
    assert tree.all_pids() == [42]


@pytest.mark.parametrize(
    ("store", "capacity", "ttl_secs"),
    [
        (DefaultTree(), PID_TREE_CAP, PID_TREE_TTL_SECS),
        (DefaultCache(), PROC_CACHE_CAP, PROC_CACHE_TTL_SECS),
        (DefaultTree(10, 1), 10, 1),
    ],
)
def test_defaults(store: DefaultTree | DefaultCache, capacity: int, ttl_secs: int) -> None:
    assert (store.params.capacity, store.params.ttl_secs) == (capacity, ttl_secs)
    assert isinstance(store, TreeStore | CacheStore)
    assert (capacity, ttl_secs) in {(65_536, 600), (10, 1)}
