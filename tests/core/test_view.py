from __future__ import annotations

import pytest

from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import CacheParams, PidNode, ProcInfo
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.view import NoSuchProcessError, Process
from support.values import replace

S = 1_000_000_000


def start(pid: int) -> int:
    return pid * TICK_NS + 1


@pytest.fixture
def tree() -> PidTree:
    tree = PidTree(CacheParams(ttl_secs=10))
    for pid, ppid, cmd in ((1, 0, "init"), (5, 1, "bash"), (6, 5, "make"), (7, 6, "cc")):
        tree.insert_node(pid, PidNode(ppid, cmd, start(pid), pid, start(ppid) if ppid else 0))
    return tree


@pytest.fixture
def cache() -> ProcCache:
    cache = ProcCache()
    cache.insert_info(
        7, ProcInfo("cc", "ada", 6, 7, start(7), executable="/usr/bin/cc", args_raw=b"cc\0a.c\0")
    )
    return cache


def end(tree: PidTree, pid: int, at: int = S) -> None:
    node = tree.get_node(pid)
    assert node is not None
    tree.insert_node(pid, replace(node, exited_ns=at))


def test_a_process_answers_as_psutil_users_expect(tree: PidTree, cache: ProcCache) -> None:
    process = Process(tree, cache, 7)
    assert (process.pid, process.ppid(), process.name()) == (7, 6, "cc")
    assert (process.username(), process.exe()) == ("ada", "/usr/bin/cc")
    assert process.cmdline() == ["cc", "a.c"]
    assert process.is_running()


def test_what_the_cache_has_lost_is_none_and_no_error(tree: PidTree) -> None:
    process = Process(tree, ProcCache(), 7)
    assert (process.info, process.username(), process.exe()) == (None, None, None)
    assert process.cmdline() == []
    assert process.name() == "cc"


def test_parents_are_those_that_created_nearest_first(tree: PidTree, cache: ProcCache) -> None:
    process = Process(tree, cache, 7)
    parent = process.parent()
    assert parent is not None
    assert parent.pid == 6
    assert [parent.pid for parent in process.parents()] == [6, 5, 1]


def test_a_root_has_no_parent(tree: PidTree, cache: ProcCache) -> None:
    assert Process(tree, cache, 1).parent() is None
    assert Process(tree, cache, 1).parents() == []


def test_a_parent_that_has_ended_is_still_the_parent(tree: PidTree, cache: ProcCache) -> None:
    end(tree, 6)
    parent = Process(tree, cache, 7).parent()
    assert parent is not None
    assert (parent.pid, parent.is_running()) == (6, False)


def test_a_later_process_with_the_parents_pid_is_not_the_parent(
    tree: PidTree, cache: ProcCache
) -> None:
    end(tree, 6)
    tree.insert_node(6, PidNode(1, "evil", start(50), 6))
    parent = Process(tree, cache, 7).parent()
    assert parent is not None
    assert parent.name() == "make"


def test_children_are_the_living_ones(tree: PidTree, cache: ProcCache) -> None:
    process = Process(tree, cache, 5)
    assert [child.pid for child in process.children()] == [6]
    assert [child.pid for child in process.children(recursive=True)] == [6, 7]
    end(tree, 6)
    assert process.children() == []
    assert [child.pid for child in process.children(recursive=True)] == [7]


def test_a_process_that_has_ended_is_not_running_but_known(tree: PidTree, cache: ProcCache) -> None:
    process = Process(tree, cache, 7)
    end(tree, 7)
    assert not process.is_running()
    assert process.name() == "cc"


def test_a_process_is_not_the_next_one_with_its_pid(tree: PidTree, cache: ProcCache) -> None:
    process = Process(tree, cache, 7)
    end(tree, 7)
    tree.insert_node(7, PidNode(1, "other", start(50), 7))
    assert (process.name(), process.is_running()) == ("cc", False)
    assert Process(tree, cache, 7).name() == "other"
    assert Process(tree, cache, 7) != process


def test_a_forgotten_process_is_no_longer_answered_for(tree: PidTree, cache: ProcCache) -> None:
    process = Process(tree, cache, 7)
    end(tree, 7)
    tree.expire(20 * S)
    assert not process.is_running()
    for ask in (process.name, process.ppid, process.parent, lambda: process.node):
        with pytest.raises(NoSuchProcessError, match="no process 7"):
            ask()


@pytest.mark.parametrize("who", [0, 99_999, 2**32 - 1, ProcessKey(7, 1), ProcessKey(99_999)])
def test_an_unknown_process_is_refused(
    tree: PidTree, cache: ProcCache, who: int | ProcessKey
) -> None:
    with pytest.raises(NoSuchProcessError) as refusal:
        Process(tree, cache, who)
    assert refusal.value.pid == (who.pid if isinstance(who, ProcessKey) else who)
    assert isinstance(refusal.value, LookupError)


def test_views_of_one_process_are_equal_and_hash_alike(tree: PidTree, cache: ProcCache) -> None:
    one, other = Process(tree, cache, 7), Process(tree, cache, ProcessKey(7, start(7)))
    assert one == other
    assert len({one, other, Process(tree, cache, 6)}) == 2
    assert one != 7


def test_views_are_equal_before_and_after_the_start_time_was_seen_exactly(
    cache: ProcCache,
) -> None:
    tree = PidTree()
    tree.insert_node(7, PidNode(1, "x", 7 * TICK_NS, 7))
    before = Process(tree, cache, 7)
    tree.insert_node(7, PidNode(1, "x", start(7), 7))
    after = Process(tree, cache, 7)
    assert before.is_running()
    assert before == after
    assert len({before, after}) == 1


def test_a_view_shows_its_identity(tree: PidTree, cache: ProcCache) -> None:
    assert repr(Process(tree, cache, 7)) == f"Process(pid=7, start_time_ns={start(7)})"


def test_a_circle_of_creators_ends(cache: ProcCache) -> None:
    tree = PidTree()
    for pid, ppid in ((5, 6), (6, 5)):
        tree.insert_node(pid, PidNode(ppid, "x", pid=pid))
    process = Process(tree, cache, 5)
    assert [parent.pid for parent in process.parents()] == [6]
    assert [child.pid for child in process.children(recursive=True)] == [6]
