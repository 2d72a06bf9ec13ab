"""A process as psutil users expect one: an object bound to a tree and a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core import lineage, subtree
from proctree_bpf.core.identity import ProcessKey, Sameness, compare

if TYPE_CHECKING:
    from proctree_bpf.core.lineage import Placed
    from proctree_bpf.core.model import PidNode, ProcInfo
    from proctree_bpf.core.stores import CacheStore, TreeStore


class NoSuchProcessError(LookupError):
    """The tree knows no such process."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"no process {pid} is known")
        self.pid = pid


class Process:
    """One process, pinned to its identity: a later one with the same PID is another.

    Args:
        tree: where its place is looked up, afresh at each call.
        cache: where its details are looked up.
        pid: a PID (its living process, else the last to have it) or a ``ProcessKey``.

    Raises:
        NoSuchProcessError: here, or from any method once the process is forgotten.

    """

    def __init__(self, tree: TreeStore, cache: CacheStore, pid: int | ProcessKey) -> None:
        node = tree.get_node(pid)
        if node is None:
            raise NoSuchProcessError(pid.pid if isinstance(pid, ProcessKey) else pid)
        self._tree = tree
        self._cache = cache
        self.key = node.key

    def __repr__(self) -> str:
        return f"Process(pid={self.key.pid}, start_time_ns={self.key.start_time_ns})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Process):
            return False
        return self.key == other.key or compare(self.key, other.key) is Sameness.SAME

    def __hash__(self) -> int:
        return hash((self.key.pid, self.key.ticks))

    @property
    def pid(self) -> int:
        """The PID."""
        return self.key.pid

    @property
    def node(self) -> PidNode:
        """Its place in the tree, now."""
        node = self._tree.get_node(self.key)
        if node is None:
            raise NoSuchProcessError(self.pid)
        return node

    @property
    def info(self) -> ProcInfo | None:
        """Its details, now; None if the cache has lost them."""
        return self._cache.get_info(self.key)

    def name(self) -> str:
        """Return the name (comm)."""
        return self.node.cmd

    def ppid(self) -> int:
        """Return the creator's PID; 0 for a root."""
        return self.node.ppid

    def username(self) -> str | None:
        """Return the user's name, or None if the details are lost."""
        info = self.info
        return info.user if info is not None else None

    def exe(self) -> str | None:
        """Return the path of the running file, or None if it is not known."""
        info = self.info
        return info.executable if info is not None else None

    def cmdline(self) -> list[str]:
        """Return the arguments; empty if there are none or they are not known."""
        info = self.info
        return list(info.args) if info is not None else []

    def is_running(self) -> bool:
        """Tell whether this very process still lives, as far as the tree knows."""
        node = self._tree.get_node(self.key)
        return node is not None and node.exited_ns is None

    def parent(self) -> Process | None:
        """Return the creator, which may have ended; None for a root or an unknown one."""
        creator = lineage.creator_of(self._tree, self.node)
        return None if creator is None else self._at(creator)

    def parents(self) -> list[Process]:
        """Return the creators, nearest first."""
        return [self._at(node) for node in lineage.lineage(self._tree, self.key)][1:]

    def children(self, *, recursive: bool = False) -> list[Process]:
        """Return the living processes that this one created, or all below it."""
        find = subtree.descendant_nodes if recursive else subtree.child_nodes
        return [self._at(node) for node in find(self._tree, self.key, live_only=True)]

    def _at(self, node: Placed) -> Process:
        return Process(self._tree, self._cache, node.key)
