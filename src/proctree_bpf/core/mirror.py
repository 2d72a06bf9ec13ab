"""Tells stores of another make what a tracker knows. Pure.

A tracker keeps one table. ``PidTree`` and ``ProcCache`` are views of it; any other
``TreeStore`` or ``CacheStore`` is told of each change instead.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from proctree_bpf.core.process import info_of, node_of
from proctree_bpf.core.stores import PidTree, ProcCache

if TYPE_CHECKING:
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.core.table import ProcessTable

# What was learnt of a foreign tree is kept beside it, not read anew by each tracker.
_tables: WeakKeyDictionary[TreeStore, ProcessTable] = WeakKeyDictionary()


class Mirror:
    """The stores that must be told."""

    def __init__(self, tree: TreeStore | None, cache: CacheStore | None) -> None:
        self._tree = tree
        self._cache = cache

    def tell(self, process: TrackedProcess) -> int:
        """Hand over what is known of a process now; return how many nodes that evicted."""
        evicted = 0
        if self._tree is not None:
            evicted = len(self._tree.insert_node(process.pid, node_of(process)))
        if self._cache is not None:
            self._cache.insert_info(process.pid, info_of(process))
        return evicted

    def expire(self, now_ns: int) -> None:
        """Let the stores forget what they need not keep."""
        for store in (self._tree, self._cache):
            if store is not None:
                store.expire(now_ns)


def table_of(tree: TreeStore, cache: CacheStore) -> tuple[ProcessTable, Mirror | None]:
    """Return the table that these are views of, and what else must be told of changes."""
    if isinstance(tree, PidTree):
        table, told_tree = tree.table, None
    else:
        table, told_tree = _table_beside(tree), tree
    if isinstance(cache, ProcCache) and cache.join(table):
        return table, None if told_tree is None else Mirror(told_tree, None)
    for process in tuple(table):
        info = cache.get_info(process.key)
        if info is not None:
            _details(table).insert_info(process.pid, info)
    return table, Mirror(told_tree, cache)


def _details(table: ProcessTable) -> ProcCache:
    cache = ProcCache()
    cache.table = table
    return cache


def _table_beside(tree: TreeStore) -> ProcessTable:
    """Return a table that knows what a foreign tree tells."""
    try:
        known = _tables.get(tree)
    except TypeError:  # it cannot be referred to weakly
        known = None
    if known is not None:
        return known
    view = PidTree()
    for node in tree.all_nodes():
        view.insert_node(node.pid, node)
    with suppress(TypeError):
        _tables[tree] = view.table
    return view.table
