"""Every store of processes of ours does what all stores must.

Three families pass here: ``PidTree``/``ProcCache``, ``DefaultTree``/``DefaultCache``, and
a reference of a few lines that keeps a plain dict and scans it for every answer.
"""

from __future__ import annotations

import pytest

from proctree_bpf import DefaultCache, DefaultTree
from proctree_bpf.core.model import CacheParams
from proctree_bpf.core.stores import CacheStore, PidTree, ProcCache, TreeStore
from support.reference_stores import ReferenceCache, ReferenceTree
from support.store_contract import CacheStoreContract, TreeStoreContract


class TestPidTree(TreeStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
        return PidTree(CacheParams(capacity, ttl_secs))


class TestDefaultTree(TreeStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
        return DefaultTree(capacity, ttl_secs)


class TestReferenceTree(TreeStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> TreeStore:
        return ReferenceTree(capacity, ttl_secs)


class TestProcCache(CacheStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
        return ProcCache(CacheParams(capacity, ttl_secs))


class TestDefaultCache(CacheStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
        return DefaultCache(capacity, ttl_secs)


class TestReferenceCache(CacheStoreContract):
    def make(self, capacity: int = 1000, ttl_secs: float = 600) -> CacheStore:
        return ReferenceCache(capacity, ttl_secs)


@pytest.mark.parametrize(("capacity", "ttl_secs"), [(0, 600), (-1, 600), (10, -1)])
def test_impossible_bounds_are_refused(capacity: int, ttl_secs: float) -> None:
    with pytest.raises(ValueError, match=r"capacity|ttl_secs"):
        CacheParams(capacity, ttl_secs)
