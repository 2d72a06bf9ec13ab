"""The tests of fsmon's proc_cache, 0.2.6 and 0.3, by their names."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from proctree_bpf import (
    PidNode,
    PidTree,
    ProcCache,
    ProcConnector,
    ProcInfo,
    build_chain,
    is_descendant,
    new_cache,
    new_pid_tree,
    read_proc_start_time_ns,
    snapshot_process_tree,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sudo scripts/test")


def grow(*processes: tuple[int, int, str]) -> tuple[PidTree, ProcCache]:
    """Make a tree, and a cache in which everybody is root."""
    tree, cache = new_pid_tree(), new_cache()
    for pid, ppid, cmd in processes:
        tree.insert_node(pid, PidNode(ppid, cmd))
        cache.insert_info(pid, ProcInfo(cmd, "root", ppid, pid))
    return tree, cache


SERVICE = ((1, 0, "systemd"), (100, 1, "agent"), (101, 100, "sh"), (102, 101, "touch"))


def test_proc_cache_insert_and_get() -> None:
    cache = new_cache()
    cache.insert_info(12_345, ProcInfo("test_process", "testuser", 1, 12_345))
    info = cache.get_info(12_345)
    assert info is not None
    assert (info.cmd, info.user) == ("test_process", "testuser")
    assert (info.ppid, info.tgid, info.start_time_ns) == (1, 12_345, 0)


def test_proc_cache_missing_pid() -> None:
    assert new_cache().get_info(99_999) is None


def test_proc_cache_overwrite() -> None:
    cache = new_cache()
    cache.insert_info(1, ProcInfo("old", "a", 0, 1))
    cache.insert_info(1, ProcInfo("new", "b", 0, 1))
    info = cache.get_info(1)
    assert info is not None
    assert (info.cmd, info.user) == ("new", "b")
    assert len(cache) == 1


def test_proc_cache_concurrent_access() -> None:
    cache = new_cache()

    def insert(first: int) -> None:
        for pid in range(first, first + 100):
            cache.insert_info(pid, ProcInfo(f"proc_{pid}", "test", 1, pid))

    threads = [threading.Thread(target=insert, args=(100 * number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 1_000
    assert all(pid in cache for pid in range(1_000))


def test_is_descendant() -> None:
    tree, _ = grow(*SERVICE[:3])
    tree.insert_node(102, PidNode(101, ""))  # forked, no exec yet
    assert all(is_descendant(tree, pid, "agent") for pid in (102, 101, 100))
    assert not is_descendant(tree, 1, "agent")


def test_is_descendant_unknown_pid() -> None:
    tree, _ = grow((1, 0, "systemd"))
    assert not is_descendant(tree, 99_999, "systemd")


def test_is_descendant_cycle() -> None:
    tree, _ = grow((1, 2, "a"), (2, 3, "b"), (3, 1, "c"))
    assert not is_descendant(tree, 1, "nginx")


def test_build_chain_cycle() -> None:
    tree, cache = grow((1, 2, "a"), (2, 3, "b"), (3, 1, "c"))
    assert build_chain(tree, cache, 1) == "1|a|root;2|b|root;3|c|root"


def test_build_chain_from_tree() -> None:
    tree, cache = grow(*SERVICE)
    assert (
        build_chain(tree, cache, 102) == "102|touch|root;101|sh|root;100|agent|root;1|systemd|root"
    )


def test_build_chain_single() -> None:
    tree, cache = grow((1, 0, "systemd"))
    assert build_chain(tree, cache, 1) == "1|systemd|root"


def test_snapshot_pid1() -> None:
    tree = new_pid_tree()
    snapshot_process_tree(tree)
    node = tree.get_node(1)
    assert node is not None
    assert node.cmd
    assert (node.ppid, node.start_time_ns) == (0, read_proc_start_time_ns(1))


def test_read_proc_start_time_ns_pid1() -> None:
    assert read_proc_start_time_ns(1) > 0


def test_read_proc_start_time_ns_nonexistent() -> None:
    assert read_proc_start_time_ns(0x7FFFFFFF) == 0


@pytest.mark.kernel
@needs_root
def test_proc_connector_create() -> None:
    with ProcConnector() as connector:
        assert connector.fileno() >= 0
    assert connector.fileno() == -1


# The listener lasts as long as its program, so it gets a program of its own.
LISTENER = """
import subprocess, sys, time
from proctree_bpf import start_proc_listener

cache, ready = start_proc_listener()
if not ready.wait(30):
    sys.exit("the listener did not become ready")
child = subprocess.Popen(["echo", "a test of the listener"], stdout=subprocess.DEVNULL)
child.wait()
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    info = cache.get_info(child.pid)
    if info is not None and info.exited_ns is not None:
        print(info.cmd, *info.args, info.exit_code, sep="|")
        break
    time.sleep(0.005)
"""


@pytest.mark.kernel
@needs_root
def test_proc_listener_receives_events() -> None:
    listener = subprocess.run(
        [sys.executable, "-c", LISTENER], check=True, capture_output=True, text=True, timeout=90
    )
    assert listener.stdout == "echo|echo|a test of the listener|0\n"
