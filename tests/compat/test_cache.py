"""The row "tests/cache" of the coverage table: the cache between events and /proc."""

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
    ProcessKey,
    ProcInfo,
    handle_events,
    read_proc_start_time_ns,
    resolve,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process.pid


def test_cache_hit_on_resolve() -> None:
    cache = DefaultCache()
    known = ProcInfo("known", "ada", 1, os.getpid(), read_proc_start_time_ns(os.getpid()))
    cache.insert_info(os.getpid(), known)
    assert resolve(cache, os.getpid()) == known


def test_cache_filled_on_resolve(child: int) -> None:
    cache = DefaultCache()
    info = resolve(cache, child)
    assert info is not None
    assert cache.get_info(child) == info


def test_cache_updated_on_exec(child: int) -> None:
    tree, cache = DefaultTree(), DefaultCache()
    cache.insert_info(child, ProcInfo("before", "ada", 1, child, read_proc_start_time_ns(child)))
    handle_events(tree, cache, [Exec(1, ProcessKey(child))])
    info = cache.get_info(child)
    assert info is not None
    assert (info.cmd, info.uid, info.tgid) == ("cat", os.getuid(), child)


def test_cache_preserved_on_exit(child: int) -> None:
    tree, cache = DefaultTree(), DefaultCache()
    handle_events(tree, cache, [Exec(1, ProcessKey(child)), Exit(2, ProcessKey(child))])
    info = cache.get_info(child)
    assert info is not None
    assert (info.cmd, info.exited_ns) == ("cat", 2)
