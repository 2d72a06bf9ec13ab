"""The rows "tree" and "tests/tree" of the coverage table: the types, and growing a tree."""

from __future__ import annotations

import copy
import os

import pytest

from proctree_bpf import (
    DefaultCache,
    DefaultTree,
    Exec,
    Exit,
    Fork,
    PidNode,
    ProcessKey,
    ProcessLink,
    ProcEvent,
    build_chain,
    children,
    handle_events,
    snapshot,
)

EVENTS = [Fork(1, ProcessKey(5), ProcessKey(1)), Exec(2, ProcessKey(5)), Exit(3, ProcessKey(5))]


def test_process_link_display() -> None:
    assert str(ProcessLink(102, "touch", "root")) == "102|touch|root"


def test_process_link_clone() -> None:
    link = ProcessLink(102, "touch", "root")
    assert copy.copy(link) == copy.deepcopy(link) == link
    assert hash(copy.copy(link)) == hash(link)


def test_process_link_debug() -> None:
    shown = repr(ProcessLink(102, "touch", "root"))
    assert all(part in shown for part in ("ProcessLink", "102", "touch", "root"))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_proc_event_clone(event: ProcEvent) -> None:
    assert copy.copy(event) == copy.deepcopy(event) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_proc_event_debug(event: ProcEvent) -> None:
    assert type(event).__name__ in repr(event)
    assert str(event.timestamp_ns) in repr(event)


def test_snapshot_idempotent() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    snapshot(tree, cache)
    before = {pid: tree.get_node(pid) for pid in (1, os.getpid())}
    count = len(tree)
    assert snapshot(tree, cache) == len(tree) - count
    assert {pid: tree.get_node(pid) for pid in before} == before


def test_snapshot_includes_pid1() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    snapshot(tree, cache)
    node = tree.get_node(1)
    assert node is not None
    assert node.cmd
    assert 1 in cache


def test_fork_creates_node() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    handle_events(tree, cache, [Fork(1, ProcessKey(2**30), ProcessKey(1))])
    node = tree.get_node(2**30)
    assert node is not None
    assert node.ppid == 1


def test_multiple_children() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    pids = [2**30 + number for number in range(10)]
    handle_events(tree, cache, [Fork(1, ProcessKey(pid), ProcessKey(1)) for pid in pids])
    assert children(tree, 1) == pids


def test_build_chain_with_nonexistent_pids() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    missing = 2**31 - 1
    assert build_chain(tree, cache, missing) == f"{missing}|unknown|unknown"
    tree.insert_node(2**30, PidNode(missing, "child"))
    assert build_chain(tree, cache, 2**30) == (f"{2**30}|child|unknown;{missing}|unknown|unknown")
