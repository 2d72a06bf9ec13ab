"""The functions that programs ported from elsewhere know: a tree, a cache and what is done to them.

Each of them works on stores that are handed in; ``ProcessTree`` is the new way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from msgspec.structs import replace as changed

from proctree_bpf.codecs.inputs import Received
from proctree_bpf.collector import Collector
from proctree_bpf.core import lineage
from proctree_bpf.core.chain import format_chain
from proctree_bpf.core.events import Exec, ProcEvent
from proctree_bpf.core.identity import ProcessKey, Sameness, compare, more_exact
from proctree_bpf.core.model import (
    OMITTED,
    PID_TREE_CAP,
    PID_TREE_TTL_SECS,
    PROC_CACHE_CAP,
    PROC_CACHE_TTL_SECS,
    CacheParams,
    PidNode,
    ProcessLink,
    ProcInfo,
)
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.sources.system import procfs
from proctree_bpf.sources.system.clock import boottime_ns, both_clocks_ns
from proctree_bpf.streams.connector import ConnectorStream

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import CacheStore, TreeStore


class DefaultTree(PidTree):
    """A ``PidTree`` made from a capacity and a TTL in seconds."""

    def __init__(self, capacity: int = PID_TREE_CAP, ttl_secs: float = PID_TREE_TTL_SECS) -> None:
        super().__init__(CacheParams(capacity, ttl_secs))


class DefaultCache(ProcCache):
    """A ``ProcCache`` made from a capacity and a TTL in seconds."""

    def __init__(
        self, capacity: int = PROC_CACHE_CAP, ttl_secs: float = PROC_CACHE_TTL_SECS
    ) -> None:
        super().__init__(CacheParams(capacity, ttl_secs))


def snapshot(tree: TreeStore, cache: CacheStore, proc: str = procfs.PROC) -> int:
    """Add every process that ``/proc`` shows; return how many were new.

    What the stores already know of a process stays.

    Raises:
        OSError: ``/proc`` cannot be listed.

    """
    return Tracker(tree, cache, procfs.uid_to_username).merge_snapshot(procfs.read_snapshot(proc))


def snapshot_process_tree(tree: TreeStore, proc: str = procfs.PROC) -> int:
    """Add every process that ``/proc`` shows to a tree alone; return how many were new.

    Raises:
        OSError: ``/proc`` cannot be listed.

    """
    return snapshot(tree, ProcCache(), proc)


def resolve(cache: CacheStore, pid: int | ProcessKey, proc: str = procfs.PROC) -> ProcInfo | None:
    """Return the details of a process: from the cache, else from ``/proc``.

    A cached living process is checked against ``/proc``, so a reused PID gives the
    process that has it now. What is read is added to the cache.
    """
    key = pid if isinstance(pid, ProcessKey) else ProcessKey(pid)
    cached = cache.get_info(key)
    if cached is not None and key.start_time_ns:
        return cached
    present = procfs.read_key(key.pid, proc)
    if cached is not None:
        if not present.start_time_ns or compare(cached.key, present) is not Sameness.DIFFERENT:
            return cached
        if cached.exited_ns is None:
            cache.insert_info(key.pid, replace(cached, exited_ns=present.start_time_ns))
    entry = procfs.parse_proc_entry(key.pid, proc)
    if entry is None or compare(entry[1].key, key) is Sameness.DIFFERENT:
        return None
    cache.insert_info(key.pid, entry[1])
    return entry[1]


def handle_event(
    tree: TreeStore, cache: CacheStore, event: ProcEvent, proc: str = procfs.PROC
) -> ProcessEvent | None:
    """Apply one event from any source; return what came of it, or None if nothing did.

    What an exec event leaves open (name, user, arguments) is read from ``/proc`` at
    once, if the process is still there. An event without a time gets the present one.
    """
    return Tracker(tree, cache, procfs.uid_to_username).apply(_completed(event, proc))


def handle_events(
    tree: TreeStore, cache: CacheStore, events: Iterable[ProcEvent], proc: str = procfs.PROC
) -> int:
    """Apply events in their order; return how many changed something."""
    tracker = Tracker(tree, cache, procfs.uid_to_username)
    return sum(tracker.apply(_completed(event, proc)) is not None for event in events)


# The connector speaks of threads; folding them needs a memory beside each tree.
_streams: WeakKeyDictionary[TreeStore, ConnectorStream] = WeakKeyDictionary()


def handle_proc_events(
    tree: TreeStore,
    cache: CacheStore,
    data: bytes | bytearray | memoryview,
    n: int | None = None,
    on_gap: Callable[[Gap], object] | None = None,
) -> bool:
    """Apply one datagram of the proc connector (its first ``n`` bytes).

    Names and arguments are read from ``/proc`` at once. Returns whether anything changed.
    Malformed or foreign messages are passed over. Where the numbers of the messages show
    that some were lost, ``on_gap`` is called, and ``ancestry`` says UNKNOWN of the names
    that may have changed. Of a tree that cannot be referred to weakly, threads are not
    folded and losses not noticed from one call to the next.
    """
    try:
        stream = _streams.setdefault(tree, ConnectorStream(procfs.LiveProcReader()))
    except TypeError:
        stream = ConnectorStream(procfs.LiveProcReader())
    datagram = bytes(memoryview(data)[: n if n is None else max(n, 0)])
    events, gaps, _ = stream.feed(Received([datagram], False, *both_clocks_ns()))  # noqa: FBT003
    tracker = Tracker(tree, cache, procfs.uid_to_username)
    for gap in gaps:
        tracker.note_gap(gap)
        if on_gap is not None:
            on_gap(gap)
    changes = [
        process_event for event in events if (process_event := tracker.apply(event)) is not None
    ]
    return bool(changes)


def _completed(event: ProcEvent, proc: str) -> ProcEvent:
    if not event.timestamp_ns:
        event = changed(event, timestamp_ns=boottime_ns())
    if not isinstance(event, Exec) or event.comm is not None:
        return event
    entry = procfs.parse_proc_entry(event.key.pid, proc)
    if entry is None or compare(entry[1].key, event.key) is Sameness.DIFFERENT:
        return event
    node, info = entry
    return changed(
        event,
        key=more_exact(event.key, info.key),
        parent=node.creator,
        uid=info.uid,
        gid=info.gid,
        comm=info.cmd,
        executable=info.executable,
        args_raw=info.args_raw,
        truncated=info.truncated,
    )


def build_chain_links(
    tree: TreeStore,
    cache: CacheStore,
    pid: int | ProcessKey,
    proc: str = procfs.PROC,
    *,
    max_ancestors: int | None = None,
) -> list[ProcessLink]:
    """Return the chain of a process: itself first, then its creators.

    Where the tree knows nothing more, ``/proc`` is asked, but only for a process that
    can be the one meant. A link whose ``known`` is False ends a chain that could not be
    completed; its ``omitted`` tells that there are more than ``max_ancestors``.
    """
    links = lineage.build_chain_links(tree, cache, pid, max_ancestors=max_ancestors)
    seen = {link.pid for link in links if link.known}
    while not links[-1].known and not links[-1].omitted:
        missing = ProcessKey(links[-1].pid, links[-1].start_time_ns)
        newest_start = links[-2].start_time_ns if len(links) > 1 else 0
        entry = None if missing.pid in seen else procfs.parse_proc_entry(missing.pid, proc)
        if entry is None or not _is_meant(entry[0], missing, newest_start):
            break
        seen.add(missing.pid)
        node, info = entry
        links[-1] = ProcessLink(node.pid, node.cmd, info.user, node.start_time_ns)
        if node.ppid:
            left = None if max_ancestors is None else max_ancestors - len(links)
            if left is not None and left < 0:
                return [*links, OMITTED]
            above = lineage.build_chain_links(tree, cache, node.creator, max_ancestors=left)
            links += above
            seen.update(link.pid for link in above if link.known)
    return links


def _is_meant(found: PidNode, missing: ProcessKey, child_start_ns: int) -> bool:
    if compare(found.key, missing) is Sameness.DIFFERENT:
        return False
    return not child_start_ns or found.key.ticks <= ProcessKey(0, child_start_ns).ticks


def build_chain_string(
    tree: TreeStore,
    cache: CacheStore,
    pid: int | ProcessKey,
    proc: str = procfs.PROC,
    *,
    max_ancestors: int | None = None,
) -> str:
    """Return the chain as ``pid|cmd|user;pid|cmd|user``; see ``build_chain_links``."""
    links = build_chain_links(tree, cache, pid, proc, max_ancestors=max_ancestors)
    return format_chain(links)


build_chain = build_chain_string
"""Another name of it."""


def start_proc_listener(
    params: CacheParams | None = None,
) -> tuple[CacheStore, threading.Event]:
    """Start a collector for the rest of the program; return its cache and readiness flag.

    The flag is set once events arrive. It never is if no source can be used: wait with
    a timeout, or use ``Collector``, which tells the reason.
    """
    bounds = params or CacheParams()
    collector = Collector(capacity=bounds.capacity, ttl_s=bounds.ttl_secs)
    collector.start_background()
    return collector.tree.proc_cache, collector.ready
