"""The row "tests/edge_cases" of the coverage table."""

from __future__ import annotations

import pytest

from proctree_bpf import (
    DefaultCache,
    DefaultTree,
    Fork,
    PidNode,
    ProcessKey,
    build_chain,
    children,
    descendants,
    display,
    handle_events,
    is_descendant,
    resolve,
    siblings,
    tree_len,
)

MAX_PID = 2**32 - 1


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_cycle_detection(length: int) -> None:
    tree, cache = DefaultTree(), DefaultCache()
    first = 2**30
    for number in range(length):
        tree.insert_node(first + number, PidNode(first + (number + 1) % length, f"p{number}"))
    assert build_chain(tree, cache, first).count(";") == length - 1
    assert not is_descendant(tree, first, "nginx")
    assert len(descendants(tree, first)) == length - 1
    assert len(display(tree, first).splitlines()) == length


def test_pid_0() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    assert resolve(cache, 0) is None
    assert build_chain(tree, cache, 0) == "0|unknown|unknown"
    assert not is_descendant(tree, 0, "init")
    assert children(tree, 0) == descendants(tree, 0) == siblings(tree, 0) == []
    tree.insert_node(0, PidNode(0, "swapper"))
    tree.insert_node(2**30, PidNode(0, "init"))
    assert build_chain(tree, cache, 2**30) == f"{2**30}|init|unknown"
    assert children(tree, 0) == [2**30]


def test_max_pid() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    assert resolve(cache, MAX_PID) is None
    assert build_chain(tree, cache, MAX_PID) == f"{MAX_PID}|unknown|unknown"
    handle_events(tree, cache, [Fork(1, ProcessKey(MAX_PID), ProcessKey(MAX_PID - 1))])
    assert children(tree, MAX_PID - 1) == [MAX_PID]
    assert tree.all_pids() == [MAX_PID]


def test_large_fork_batch() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    first, count = 2**30, 10_000
    creator = ProcessKey(first)
    batch = [Fork(number, ProcessKey(first + number), creator) for number in range(1, count + 1)]
    assert handle_events(tree, cache, batch) == count
    assert tree_len(tree) == count
    assert len(children(tree, first)) == count


def test_large_fork_chain() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    first, count = 2**30, 10_000
    batch = [
        Fork(number, ProcessKey(first + number), ProcessKey(first + number - 1))
        for number in range(1, count + 1)
    ]
    assert handle_events(tree, cache, batch) == count
    assert len(descendants(tree, first)) == count


def test_more_forks_than_room() -> None:
    tree, cache = DefaultTree(100, 600), DefaultCache(100, 600)
    batch = [Fork(number, ProcessKey(2**30 + number), ProcessKey(1)) for number in range(1, 1_001)]
    handle_events(tree, cache, batch)
    assert (len(tree), len(cache)) == (100, 100)
