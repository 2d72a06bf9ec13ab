"""Where processes are kept: PidTree and ProcCache, and what another store must offer.

A store is bounded. A living process is never expired, and never evicted while an
exited one can be. An exited one is kept for a TTL counted from its exit. In the
tree, an exited process that created something still kept stays beyond its TTL:
otherwise a daemon's chain would break ten minutes after its launcher ended. It is
the next to be evicted when room is short.

Stores take time as an argument and never read a clock. One writer and any number
of readers may use a store from different threads.
"""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import Generic, Protocol, TypeVar, runtime_checkable

from cachetools import TLRUCache

from proctree_bpf.core.identity import ProcessKey, Sameness, compare, more_exact
from proctree_bpf.core.model import CacheParams, PidNode, ProcInfo

_SECOND_NS = 1_000_000_000


@runtime_checkable
class TreeStore(Protocol):
    """What the tracker and the queries need of a tree.

    ``who`` is a ``ProcessKey`` or a bare PID. A bare PID asks for its living
    process, else for the one that had it last. A key with start time 0 asks the
    same; a key with a start time never gets another process.
    """

    def get_node(self, who: int | ProcessKey) -> PidNode | None:
        """Return the node of a process, or None."""

    def insert_node(self, pid: int, node: PidNode) -> list[PidNode]:
        """Insert a process or replace what is known of it; return what was evicted."""

    def child_nodes(self, who: ProcessKey) -> list[PidNode]:
        """Return the nodes that this process created, in the order of their insertion."""

    def all_pids(self) -> list[int]:
        """Return each PID once, in ascending order."""

    def all_nodes(self) -> list[PidNode]:
        """Return every node, the exited ones too."""

    def expire(self, now_ns: int) -> list[PidNode]:
        """Forget exited nodes past their TTL at ``now_ns`` (CLOCK_BOOTTIME); return them."""

    def __len__(self) -> int: ...


@runtime_checkable
class CacheStore(Protocol):
    """What the tracker and the queries need of a cache of details; see ``TreeStore``."""

    def get_info(self, who: int | ProcessKey) -> ProcInfo | None:
        """Return the details of a process, or None."""

    def insert_info(self, pid: int, info: ProcInfo) -> list[ProcInfo]:
        """Insert a process or replace what is known of it; return what was evicted."""

    def expire(self, now_ns: int) -> list[ProcInfo]:
        """Forget exited entries past their TTL at ``now_ns``; return them."""

    def __len__(self) -> int: ...


def may_have_created(creator: PidNode, node: PidNode) -> bool:
    """Tell whether a process that has the right PID lived when another one was born.

    It keeps a reused PID from posing as the creator where start times are not known.
    """
    if node.creator_start_ns or not node.start_time_ns or not creator.start_time_ns:
        return True
    if creator.key.ticks > node.key.ticks:
        return False
    return creator.exited_ns is None or creator.exited_ns >= node.start_time_ns


class _HasLifetime(Protocol):
    @property
    def key(self) -> ProcessKey: ...
    @property
    def exited_ns(self) -> int | None: ...


V = TypeVar("V", bound=_HasLifetime)


class _LifetimeStore(Generic[V]):
    """Values by process identity; the living without end, the exited for a while."""

    def __init__(self, params: CacheParams) -> None:
        self.params = params
        self._lock = RLock()
        self._now_ns = 0
        self._ttl_ns = int(params.ttl_secs * _SECOND_NS)
        self._live: dict[ProcessKey, V] = {}
        # One more than the capacity, so that only _shrink ever evicts.
        self._exited: TLRUCache[ProcessKey, V] = TLRUCache(
            params.capacity + 1,
            lambda _key, value, _now: self._expires(value),
            lambda: self._now_ns,
        )
        # By PID, oldest first: the keys of all values, wherever they are kept.
        self._generations: dict[int, list[ProcessKey]] = {}
        self._count = 0

    def _expires(self, value: V) -> int:
        return (value.exited_ns or 0) + self._ttl_ns

    def __len__(self) -> int:
        return self._count

    def __contains__(self, who: object) -> bool:
        if not isinstance(who, int | ProcessKey):
            return False
        with self._lock:
            return self._get(who) is not None

    def all_pids(self) -> list[int]:
        """Return each PID once, in ascending order."""
        with self._lock:
            return sorted(self._generations)

    def expire(self, now_ns: int) -> list[V]:
        """Forget exited entries past their TTL at ``now_ns`` (CLOCK_BOOTTIME); return them.

        Time only moves forward: an earlier ``now_ns`` than before changes nothing.
        """
        with self._lock:
            self._now_ns = max(self._now_ns, now_ns)
            removed = [value for _, value in self._exited.expire(self._now_ns)]
            for value in removed:
                self._forget_generation(value.key)
            return removed

    # The rest runs under the lock.

    def _lookup(self, key: ProcessKey) -> V | None:
        value = self._live.get(key)
        return value if value is not None else self._exited.get(key)

    def _get(self, who: int | ProcessKey) -> V | None:
        key = self._stored(who) if isinstance(who, ProcessKey) else self._latest(who)
        return None if key is None else self._lookup(key)

    def _stored(self, who: ProcessKey) -> ProcessKey | None:
        """Find the key under which this process is kept."""
        if not who.start_time_ns:
            return self._latest(who.pid)
        return who if self._lookup(who) is not None else self._resolve(who)

    def _latest(self, pid: int) -> ProcessKey | None:
        keys = self._generations.get(pid)
        if not keys:
            return None
        for key in reversed(keys):
            if key in self._live:
                return key
        return keys[-1]

    def _resolve(self, key: ProcessKey) -> ProcessKey | None:
        """Find the stored key that provably names the same process."""
        for stored in reversed(self._generations.get(key.pid, ())):
            if compare(stored, key) is Sameness.SAME:
                return stored
        return None

    def _replaces(self, key: ProcessKey) -> ProcessKey | None:
        """Find the stored key whose value an insert under ``key`` updates.

        Where start times cannot tell, an insert is taken to be about the living
        process of that PID, never about an exited one.
        """
        if key.pid not in self._generations:
            return None
        stored = self._resolve(key)
        if stored is not None:
            return stored
        latest = self._latest(key.pid)
        if latest is None or latest not in self._live:
            return None
        return latest if compare(latest, key) is Sameness.UNKNOWN else None

    def _update_live(self, value: V) -> bool:
        """Replace a living value by one that lives as well: the common case, done quickly."""
        key = value.key
        if value.exited_ns is not None or key not in self._live:
            return False
        self._live[key] = value
        return True

    def _put(self, value: V) -> bool:
        """Store a value whose key is already the most exact one.

        Returns False, and keeps nothing, if it has ended too long ago to be kept.
        """
        key = value.key
        if value.exited_ns is None:
            self._exited.pop(key, None)
            self._live[key] = value
        elif self._expires(value) > self._now_ns:
            self._live.pop(key, None)
            self._exited[key] = value
        else:
            self._take(key)
            self._forget_generation(key)
            return False
        self._note_generation(key)
        return True

    def _take(self, key: ProcessKey) -> V | None:
        """Remove a value without consequences for others."""
        value = self._live.pop(key, None)
        if value is None:
            value = self._exited.pop(key, None)
        if value is not None:
            self._forget_generation(key)
        return value

    def _note_generation(self, key: ProcessKey) -> None:
        keys = self._generations.setdefault(key.pid, [])
        if key not in keys:
            keys.append(key)
            keys.sort()
            self._count += 1

    def _forget_generation(self, key: ProcessKey) -> None:
        keys = self._generations.get(key.pid)
        if keys is not None and key in keys:
            keys.remove(key)
            self._count -= 1
            if not keys:
                del self._generations[key.pid]

    def _evict_one(self) -> V:
        if self._exited:
            return self._exited.popitem()[1]
        return self._live.pop(next(iter(self._live)))

    def _shrink(self) -> list[V]:
        evicted = []
        while self._count > self.params.capacity:
            value = self._evict_one()
            self._forget_generation(value.key)
            evicted.append(value)
        return evicted


class ProcCache(_LifetimeStore[ProcInfo]):
    """The details of processes; a ``CacheStore``."""

    def __init__(self, params: CacheParams | None = None) -> None:
        super().__init__(params or CacheParams())

    def get_info(self, who: int | ProcessKey) -> ProcInfo | None:
        """Return the details of a process, or None."""
        # One dict look-up is atomic: most reads need no lock.
        exact = isinstance(who, ProcessKey) and who.start_time_ns
        info = self._live.get(who) if exact else None  # type: ignore[arg-type]  # a key
        if info is not None:
            return info
        with self._lock:
            return self._get(who)

    def insert_info(self, pid: int, info: ProcInfo) -> list[ProcInfo]:
        """Insert a process or replace what is known of it; return what was evicted."""
        if info.tgid != pid:
            info = replace(info, tgid=pid)
        with self._lock:
            if self._update_live(info):
                return []
            key = info.key
            stored = self._replaces(key)
            if stored is not None and stored != key:
                best = more_exact(stored, key)
                if best != stored:
                    self._take(stored)
                info = replace(info, start_time_ns=best.start_time_ns)
            return self._shrink() if self._put(info) else [info]

    def all_infos(self) -> list[ProcInfo]:
        """Return every entry, the exited ones too."""
        with self._lock:
            return [*self._live.values(), *self._exited.values()]


class PidTree(_LifetimeStore[PidNode]):
    """The process tree; a ``TreeStore``."""

    def __init__(self, params: CacheParams | None = None) -> None:
        super().__init__(params or CacheParams())
        # Exited, but the creator of something still kept; in the order of pinning.
        self._pinned: dict[ProcessKey, PidNode] = {}
        # By the creator's PID: dicts as ordered sets.
        self._created: dict[int, dict[ProcessKey, None]] = {}

    def get_node(self, who: int | ProcessKey) -> PidNode | None:
        """Return the node of a process, or None."""
        # One dict look-up is atomic: most reads need no lock.
        exact = isinstance(who, ProcessKey) and who.start_time_ns
        node = self._live.get(who) if exact else None  # type: ignore[arg-type]  # a key
        if node is not None:
            return node
        with self._lock:
            return self._get(who)

    def insert_node(self, pid: int, node: PidNode) -> list[PidNode]:
        """Insert a process or replace what is known of it; return what was evicted."""
        if node.pid != pid:
            node = replace(node, pid=pid)
        with self._lock:
            key = node.key
            old = self._live.get(key)
            gone: list[PidNode] = []
            if old is not None and old.creator == node.creator:
                if not self._update_live(node):
                    self._keep(node, gone)
                    if len(self._generations.get(pid, ())) > 1:
                        self._reconsider(pid, gone)
                return gone
            # Without start times, the next to have a PID may have the key of the last.
            stored = self._replaces(key) or key
            if stored != key:
                best = more_exact(stored, key)
                node = replace(node, start_time_ns=best.start_time_ns)
            old = self._lookup(stored)
            if stored != node.key:
                self._take(stored)
            self._link(node)
            self._keep(node, gone)
            # After the new one is in: its creator must not be taken for childless.
            if old is not None and (old.ppid, old.key) != (node.ppid, node.key):
                self._unlink(old, gone)
            elif old is not None:
                self._release_creator(old, gone)
            self._reconsider(pid, gone)
            return gone + self._shrink()

    def child_nodes(self, who: ProcessKey) -> list[PidNode]:
        """Return the nodes that this process created, in the order of their insertion."""
        with self._lock:
            key = self._stored(who) or who
            nodes = map(self._lookup, self._created.get(key.pid, ()))
            return [node for node in nodes if node is not None and self._is_creator(key, node)]

    def all_nodes(self) -> list[PidNode]:
        """Return every node, the exited ones too."""
        with self._lock:
            return [*self._live.values(), *self._pinned.values(), *self._exited.values()]

    def expire(self, now_ns: int) -> list[PidNode]:
        """Forget exited nodes past their TTL at ``now_ns`` (CLOCK_BOOTTIME); return them."""
        with self._lock:
            removed = super().expire(now_ns)
            for node in tuple(removed):
                self._unlink(node, removed)
                self._reconsider(node.pid, removed)
            return removed

    def _is_creator(self, who: ProcessKey, node: PidNode) -> bool:
        """Tell whether ``who``, a stored key if it is kept at all, created a node."""
        if node.creator_start_ns and who.start_time_ns:
            return node.creator == who or compare(node.creator, who) is Sameness.SAME
        # Only a PID is known: its present holder, if that one lived when the node was born.
        latest = self._latest(node.ppid)
        if latest is None:
            return not (who.start_time_ns and node.start_time_ns) or who.ticks <= node.key.ticks
        holder = self._lookup(latest)
        return (
            latest == who
            and holder is not None
            and not node.creator_start_ns
            and may_have_created(holder, node)
        )

    def _lookup(self, key: ProcessKey) -> PidNode | None:
        node = super()._lookup(key)
        return node if node is not None else self._pinned.get(key)

    def _has_children(self, key: ProcessKey) -> bool:
        nodes = map(self._lookup, self._created.get(key.pid, ()))
        return any(node is not None and self._is_creator(key, node) for node in nodes)

    def _keep(self, node: PidNode, gone: list[PidNode]) -> None:
        if not self._put(node):
            gone.append(node)
            self._unlink(node, gone)

    def _put(self, node: PidNode) -> bool:
        key = node.key
        if node.exited_ns is None:
            self._pinned.pop(key, None)
            return super()._put(node)
        # Pinned first: whether it has children can only be told of one that is kept.
        self._live.pop(key, None)
        self._exited.pop(key, None)
        self._pinned[key] = node
        self._note_generation(key)
        if self._has_children(key):
            return True
        del self._pinned[key]
        return super()._put(node)

    def _take(self, key: ProcessKey) -> PidNode | None:
        node = super()._take(key)
        if node is None:
            node = self._pinned.pop(key, None)
            if node is not None:
                self._forget_generation(key)
        return node

    def _link(self, node: PidNode) -> None:
        if node.ppid == node.pid:
            return
        self._created.setdefault(node.ppid, {})[node.key] = None
        if node.creator in self._live:
            return
        # More than one, if ticks or a bare PID are all that is known of the creator.
        for key in self._generations.get(node.ppid, ()):
            creator = self._exited.get(key)
            if creator is not None and self._is_creator(key, node):
                del self._exited[key]
                self._pinned[key] = creator

    def _unlink(self, node: PidNode, gone: list[PidNode]) -> None:
        """Take a node out of its creator's children; append creators that this frees."""
        self._disown(node)
        self._release_creator(node, gone)

    def _disown(self, node: PidNode) -> None:
        created = self._created.get(node.ppid)
        if created is not None:
            created.pop(node.key, None)
            if not created:
                del self._created[node.ppid]

    def _release_creator(self, node: PidNode, gone: list[PidNode]) -> None:
        """Unpin the creators of a node that have no children left, and so on upwards."""
        orphaned = [node]
        while orphaned:
            for creator in self._childless_creators(orphaned.pop()):
                del self._pinned[creator.key]
                if self._expires(creator) > self._now_ns:
                    super()._put(creator)
                    continue
                self._forget_generation(creator.key)
                gone.append(creator)
                self._disown(creator)
                orphaned.append(creator)

    def _childless_creators(self, node: PidNode) -> list[PidNode]:
        held = map(self._pinned.get, self._generations.get(node.ppid, ()))
        return [pinned for pinned in held if pinned and not self._has_children(pinned.key)]

    def _reconsider(self, pid: int, gone: list[PidNode]) -> None:
        """Pin and unpin the holders of a PID after one came or went.

        A child of which only its creator's PID is known belongs to another holder then.
        """
        for key in tuple(self._generations.get(pid, ())):
            node = self._pinned.get(key)
            if node is not None and not self._has_children(key):
                del self._pinned[key]
                if not super()._put(node):
                    gone.append(node)
                    self._unlink(node, gone)
                continue
            node = self._exited.get(key)
            if node is not None and self._has_children(key):
                del self._exited[key]
                self._pinned[key] = node

    def _evict_one(self) -> PidNode:
        if not self._exited and self._pinned:
            return self._pinned.pop(next(iter(self._pinned)))
        return super()._evict_one()

    def _shrink(self) -> list[PidNode]:
        evicted: list[PidNode] = []
        while self._count > self.params.capacity:
            node = self._evict_one()
            self._forget_generation(node.key)
            evicted.append(node)
            self._unlink(node, evicted)
            self._reconsider(node.pid, evicted)
        return evicted


def new_pid_tree() -> PidTree:
    """Return a tree with the default bounds."""
    return PidTree()


def new_pid_tree_with(params: CacheParams) -> PidTree:
    """Return a tree with these bounds."""
    return PidTree(params)


def new_cache() -> ProcCache:
    """Return a cache with the default bounds."""
    return ProcCache()


def new_cache_with(params: CacheParams) -> ProcCache:
    """Return a cache with these bounds."""
    return ProcCache(params)
