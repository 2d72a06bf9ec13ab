"""The row "ops" of the coverage table: one test for each operation, with its name."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import (
    DefaultCache,
    DefaultTree,
    Exec,
    Exit,
    Fork,
    PidNode,
    ProcessKey,
    ProcInfo,
    build_chain_string,
    children,
    descendants,
    display,
    find_by_cmd,
    find_by_user,
    handle_event,
    handle_events,
    is_descendant,
    resolve,
    siblings,
    snapshot,
    tree_len,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf import ProcEvent

NOT_A_PID = 2**31 - 1


@pytest.fixture
def tree() -> DefaultTree:
    """init - sshd - bash - {vim, make}, and cron beside sshd."""
    tree = DefaultTree(65_536, 600)
    for pid, ppid, cmd in (
        (1, 0, "init"),
        (100, 1, "sshd"),
        (101, 1, "cron"),
        (200, 100, "bash"),
        (300, 200, "vim"),
        (301, 200, "make"),
    ):
        tree.insert_node(pid, PidNode(ppid, cmd))
    return tree


@pytest.fixture
def cache() -> DefaultCache:
    cache = DefaultCache(65_536, 600)
    for pid, cmd, user in ((1, "init", "root"), (100, "sshd", "root"), (200, "bash", "ada")):
        cache.insert_info(pid, ProcInfo(cmd, user, 1, pid))
    return cache


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process.pid


def test_snapshot() -> None:
    tree, cache = DefaultTree(), DefaultCache()
    assert snapshot(tree, cache) > 0
    assert os.getpid() in tree
    assert os.getpid() in cache


def test_resolve(child: int) -> None:
    info = resolve(DefaultCache(), child)
    assert info is not None
    assert (info.cmd, info.ppid, info.tgid) == ("cat", os.getpid(), child)


def test_handle_events_fork_exec_exit(child: int) -> None:
    tree, cache = DefaultTree(), DefaultCache()
    key, parent = ProcessKey(child), ProcessKey(os.getpid())
    handle_events(tree, cache, [Fork(1, key, parent)])
    forked = tree.get_node(child)
    assert forked is not None
    assert (forked.ppid, forked.cmd, forked.exited_ns) == (os.getpid(), "", None)
    handle_events(tree, cache, [Exec(2, key)])
    executed = tree.get_node(child)
    assert executed is not None
    assert (executed.ppid, executed.cmd) == (os.getpid(), "cat")
    handle_events(tree, cache, [Exit(3, key)])
    ended = tree.get_node(child)
    assert ended is not None
    assert (ended.cmd, ended.exited_ns) == ("cat", 3)


def test_handle_event_one_by_one(child: int) -> None:
    tree, cache = DefaultTree(), DefaultCache()
    events: list[ProcEvent] = [
        Fork(0, ProcessKey(child), ProcessKey(os.getpid())),
        Exec(0, ProcessKey(child)),
        Exit(0, ProcessKey(child)),
    ]
    assert all(handle_event(tree, cache, event) is not None for event in events)
    assert tree_len(tree) == 1


def test_children(tree: DefaultTree) -> None:
    assert children(tree, 200) == [300, 301]
    assert children(tree, 300) == []


def test_descendants(tree: DefaultTree) -> None:
    assert descendants(tree, 1) == [100, 101, 200, 300, 301]


def test_siblings(tree: DefaultTree) -> None:
    assert siblings(tree, 300) == [301]
    assert siblings(tree, 200) == []


def test_find_by_cmd(tree: DefaultTree) -> None:
    assert find_by_cmd(tree, "sshd") == [100]
    assert find_by_cmd(tree, "nginx") == []


def test_find_by_user(tree: DefaultTree, cache: DefaultCache) -> None:
    assert find_by_user(tree, cache, "root") == [1, 100]
    assert find_by_user(tree, cache, "nobody") == []


def test_is_descendant(tree: DefaultTree) -> None:
    assert is_descendant(tree, 300, "sshd")
    assert is_descendant(tree, 300, "vim")
    assert not is_descendant(tree, 101, "sshd")


def test_is_descendant_with_cycle_detection() -> None:
    tree = DefaultTree()
    for pid, ppid in ((1, 2), (2, 3), (3, 1)):
        tree.insert_node(pid, PidNode(ppid, f"p{pid}"))
    assert not is_descendant(tree, 1, "nginx")
    assert is_descendant(tree, 1, "p3")


def test_build_chain_string(tree: DefaultTree, cache: DefaultCache) -> None:
    assert build_chain_string(tree, cache, 200) == "200|bash|ada;100|sshd|root;1|init|root"


def test_display(tree: DefaultTree) -> None:
    drawn = display(tree, 100)
    assert [line.split("(")[0].strip("│├└─ ") for line in drawn.splitlines()] == [
        "sshd",
        "bash",
        "vim",
        "make",
    ]


def test_tree_len(tree: DefaultTree) -> None:
    assert tree_len(tree) == 6
    assert tree_len(DefaultTree()) == 0
