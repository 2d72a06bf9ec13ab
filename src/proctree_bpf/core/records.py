"""What is known of processes: a tree and a cache that are kept in step. Pure.

``Tracker`` adds to it what events tell, ``core.look`` what a look at ``/proc`` shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proctree_bpf.core.identity import ProcessKey, Sameness, compare
from proctree_bpf.core.model import UNKNOWN_NAME, Edge, PidNode, ProcInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.stores import CacheStore, TreeStore


@dataclass(slots=True)
class TrackerStats:
    """What a tracker has done, in events or entries."""

    applied: int = 0
    duplicates: int = 0
    unchanged: int = 0
    """What told of no change: ancestors that were announced, a name that was there before."""
    orphans: int = 0
    """Execs and exits of processes whose beginning was not seen."""
    presumed_exits: int = 0
    """Exits that were never seen but follow from a reused PID or a later look at /proc."""
    evicted: int = 0
    expired: int = 0


class Records:
    """A tree and a cache that tell of the same processes.

    ``user_name`` turns a uid into a name; None gives the uid's decimal form.
    """

    def __init__(
        self,
        tree: TreeStore,
        cache: CacheStore,
        user_name: Callable[[int], str | None] = lambda _uid: None,
    ) -> None:
        self.tree = tree
        self.cache = cache
        self.stats = TrackerStats()
        self._user_name = user_name

    def store(self, node: PidNode, info: ProcInfo) -> None:
        """Keep what is known of a process, in both stores."""
        if node.exited_ns is not None and node.user != info.user:
            node = replace(node, user=info.user)  # the tree may remember it for longer
        self.stats.evicted += len(self.tree.insert_node(node.pid, node))
        self.cache.insert_info(info.tgid, info)

    def sharpen(self, key: ProcessKey) -> None:
        """Give a process that is known by its ticks the exact start time just seen."""
        node = self.tree.get_node(key)
        if node is None or node.start_time_ns == key.start_time_ns or not key.is_exact:
            return
        info = self.cache.get_info(key) or info_of(node)
        start_ns = key.start_time_ns
        self.store(replace(node, start_time_ns=start_ns), replace(info, start_time_ns=start_ns))

    def user_of(self, uid: int | None) -> str:
        """Return a user's name, else the uid in decimal, else ``unknown``."""
        if uid is None:
            return UNKNOWN_NAME
        return self._user_name(uid) or str(uid)

    def known(self, key: ProcessKey) -> tuple[PidNode, ProcInfo] | None:
        """Return what is known of exactly this process.

        Where a start time is missing on either side, the living process of that PID
        is meant.
        """
        node = self.tree.get_node(key)
        if node is None and key.start_time_ns:
            latest = self.tree.get_node(key.pid)
            if latest is not None and compare(latest.key, key) is Sameness.UNKNOWN:
                node = latest if latest.exited_ns is None else None
        if node is None:
            return None
        info = self.cache.get_info(node.key) or info_of(node)
        return node, info

    def presume_former_exited(self, key: ProcessKey, now_ns: int) -> None:
        """Mark who had this PID before as ended, if they are not known to have."""
        former = self.tree.get_node(key.pid)
        if former is None or former.exited_ns is not None:
            return
        sameness = compare(former.key, key)
        if sameness is Sameness.DIFFERENT and former.start_time_ns < key.start_time_ns:
            self.presume_exited(former, now_ns)

    def presume_exited(self, node: PidNode, now_ns: int) -> None:
        """Mark a process as ended for a reason that nobody saw."""
        self.stats.presumed_exits += 1
        info = self.cache.get_info(node.key) or info_of(node)
        self.store(replace(node, exited_ns=now_ns), replace(info, exited_ns=now_ns))


def info_of(node: PidNode) -> ProcInfo:
    """Return the least that can be said of a node without details."""
    return ProcInfo(
        cmd=node.cmd,
        user=node.user,
        ppid=node.ppid,
        tgid=node.pid,
        start_time_ns=node.start_time_ns,
        exited_ns=node.exited_ns,
    )


def with_creator(node: PidNode, creator: ProcessKey) -> PidNode:
    """Replace a parent that was only seen, by the creator that the kernel's notes tell."""
    is_certain = node.edge is not Edge.OBSERVED
    if is_certain or not creator.pid or compare(creator, node.creator) is Sameness.SAME:
        return node
    return replace(
        node,
        ppid=creator.pid,
        creator_start_ns=creator.start_time_ns,
        edge=Edge.LEARNT,
        parent=node.parent or (node.creator if node.ppid else None),
    )


def parent_after(node: PidNode, parent: ProcessKey | None) -> ProcessKey | None:
    """Return what to keep as a node's parent once this one was seen; None: its creator."""
    if parent is None:
        return node.parent
    return None if compare(parent, node.creator) is Sameness.SAME else parent
