"""Questions of ancestry on trees that nobody should build."""

from __future__ import annotations

import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import Answer, ancestry, build_chain_links, is_descendant
from proctree_bpf.core.model import CacheParams, Edge, PidNode
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.subtree import descendants, display
from support.small_trees import S, end, start

if TYPE_CHECKING:
    from collections.abc import Iterator

MILLION = 1_000_000


class LongChain:
    """A tree of ``length`` processes, each created by the one before, without any index."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._nodes = [
            PidNode(pid - 1, "x", start(pid), pid, start(pid - 1), Edge.CREATED)
            for pid in range(1, length + 1)
        ]

    def get_node(self, who: int | ProcessKey) -> PidNode | None:
        pid = who.pid if isinstance(who, ProcessKey) else who
        return self._nodes[pid - 1] if 0 < pid <= self._length else None

    def insert_node(self, pid: int, node: PidNode) -> list[PidNode]:
        raise NotImplementedError

    def child_nodes(self, who: ProcessKey) -> list[PidNode]:
        node = self.get_node(who.pid + 1)
        return [] if node is None else [node]

    def all_pids(self) -> list[int]:
        return list(range(1, self._length + 1))

    def all_nodes(self) -> list[PidNode]:
        return list(self._nodes)

    def expire(self, now_ns: int) -> list[PidNode]:
        del now_ns
        return []

    def __len__(self) -> int:
        return self._length


@contextmanager
def limits(seconds: float, extra_bytes: int) -> Iterator[None]:
    """Let a block fail, rather than the machine, if it asks for too much."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        now = int(statm.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra_bytes, hard))
    begun = time.monotonic()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.monotonic() - begun < seconds


@pytest.fixture(scope="module")
def chain() -> LongChain:
    return LongChain(MILLION)


class TestAMillionGenerations:
    SECONDS = 20.0
    """Some ten times what each takes, for a slow machine with company."""

    def test_the_chain_is_built(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 2 << 30):
            links = build_chain_links(chain, ProcCache(), MILLION)
        assert len(links) == MILLION
        assert links[-1].pid == 1

    def test_ancestry_is_answered(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 2 << 30):
            assert not is_descendant(chain, MILLION, "y")
            assert ancestry(chain, MILLION, "y") is Answer.NO

    def test_descendants_are_listed(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 2 << 30):
            found = descendants(chain, 1)
        assert len(found) == MILLION - 1
        assert found[-1] == MILLION

    def test_a_drawing_grows_no_faster_than_the_tree(self) -> None:
        few, many = (len(display(LongChain(length), 1)) / length for length in (500, 5_000))
        assert many < 2 * few

    def test_it_is_drawn(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 1 << 30):
            text = display(chain, 1)
        assert text.endswith(f"x({MILLION})")

    def test_a_real_tree_holds_and_forgets_a_long_chain(self) -> None:
        length = 50_000
        tree = PidTree(CacheParams(length, ttl_secs=1))
        for pid in range(1, length + 1):
            tree.insert_node(pid, PidNode(pid - 1, "x", start(pid), pid, start(pid - 1)))
        assert len(build_chain_links(tree, ProcCache(), length)) == length
        assert len(descendants(tree, 1)) == length - 1
        for pid in range(1, length + 1):
            end(tree, pid, at=S)
        assert len(tree.expire(2 * S)) == length
        assert len(tree) == 0
