"""Stores that are made with bounds of one's own, and what the walker tells in."""

from __future__ import annotations

import pytest

from proctree_bpf.compat import (
    PROCESS_SPAWNED,
    CacheParams,
    PidNode,
    ProbeEvent,
    ProcInfo,
    ProcWalker,
    new_cache_with,
    new_pid_tree_with,
)


def test_new_pid_tree_with_bounds() -> None:
    tree = new_pid_tree_with(CacheParams(capacity=2, ttl_secs=1))
    for pid in (5, 6, 7):
        tree.insert_node(pid, PidNode(0, "x"))
    assert len(tree) == 2


def test_new_cache_with_bounds() -> None:
    cache = new_cache_with(CacheParams(capacity=2, ttl_secs=1))
    for pid in (5, 6, 7):
        cache.insert_info(pid, ProcInfo("x", "ada", 1, pid))
    assert len(cache) == 2


@pytest.mark.parametrize("bounds", [(0, 600), (65_536, -1)])
def test_bounds_that_are_none(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CacheParams(*bounds)


def test_what_a_walker_tells_in() -> None:
    events = ProcWalker().poll()
    assert {(type(event), event.probe_source) for event in events} == {
        (ProbeEvent, PROCESS_SPAWNED)
    }
