"""Where processes are kept: PidTree and ProcCache, and what another store must offer.

A store is bounded; ``core.table`` has the rules. ``PidTree`` and ``ProcCache`` are two views
of such a table: one of the places of processes in the tree, one of their details. A tracker
joins the views that it is given, so that both tell of the same processes.

Stores take time as an argument and never read a clock. One writer and any number
of readers may use a store from different threads.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.model import UNKNOWN_NAME, CacheParams, PidNode, ProcInfo
from proctree_bpf.core.process import UNCERTAIN, Era, TrackedProcess, info_of, node_of
from proctree_bpf.core.table import ProcessTable


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


class _View:
    """What the two views of a table have in common."""

    def __init__(self, params: CacheParams | None = None) -> None:
        self.table = ProcessTable(params)

    @property
    def params(self) -> CacheParams:
        """The bounds."""
        return self.table.params

    def __contains__(self, who: object) -> bool:
        if not isinstance(who, int | ProcessKey):
            return False
        with self.table.lock:
            process = self.table.get(who)
            return process is not None and self._shows(process)

    def __len__(self) -> int:
        table = self.table
        if table.partial:
            with table.lock:
                return sum(map(self._shows, table))
        return len(table)

    def all_pids(self) -> list[int]:
        """Return each PID once, in ascending order."""
        return sorted({process.pid for process in self.processes()})

    def processes(self) -> list[TrackedProcess]:
        """Return what is kept of each process, the exited ones too; only to be looked at."""
        with self.table.lock:
            return [process for process in self.table if self._shows(process)]

    def _shows(self, process: TrackedProcess) -> bool:
        raise NotImplementedError

    def _expire(self, now_ns: int) -> list[TrackedProcess]:
        with self.table.lock:
            return self.table.expire(now_ns)

    def _subject(self, pid: int, start_time_ns: int) -> TrackedProcess:
        """Return the process that an insert is about; one that is new is not kept yet."""
        process = self.table.replaced_by(pid, start_time_ns)
        if process is None:
            process = TrackedProcess(pid, start_time_ns, has_place=False, has_details=False)
            self.table.partial = True
        else:
            self.table.sharpen(process, start_time_ns)
        return process


class ProcCache(_View):
    """The details of processes; a ``CacheStore``."""

    def get_info(self, who: int | ProcessKey) -> ProcInfo | None:
        """Return the details of a process, or None."""
        with self.table.lock:
            process = self.table.get(who)
            return info_of(process) if process is not None and process.has_details else None

    def insert_info(self, pid: int, info: ProcInfo) -> list[ProcInfo]:
        """Insert a process or replace what is known of it; return what was evicted."""
        with self.table.lock:
            table = self.table
            process = self._subject(pid, info.start_time_ns)
            take_details(process, info)
            if not process.has_place:
                process.ppid = info.ppid
            if process.is_kept:
                table.end(process, info.exited_ns)
                table.touch(process)
            else:
                process.exited_ns = info.exited_ns
                table.add(process)
            return [info_of(gone) for gone in table.shrink(process)]

    def expire(self, now_ns: int) -> list[ProcInfo]:
        """Forget exited entries past their TTL at ``now_ns`` (CLOCK_BOOTTIME); return them.

        Time only moves forward: an earlier ``now_ns`` than before changes nothing.
        """
        return [info_of(process) for process in self._expire(now_ns)]

    def all_infos(self) -> list[ProcInfo]:
        """Return every entry, the exited ones too."""
        return [info_of(process) for process in self.processes()]

    def join(self, table: ProcessTable) -> bool:
        """Become a view of another table, which takes over what is here.

        Return False, and change nothing, if this is the view of a tree already.
        """
        own = self.table
        if own is table:
            return True
        with own.lock, table.lock:
            if any(process.has_place for process in own):
                return False
            infos = self.all_infos()
            self.table = table
            for info in infos:
                self.insert_info(info.tgid, info)
        return True

    def _shows(self, process: TrackedProcess) -> bool:
        return process.has_details


class PidTree(_View):
    """The process tree; a ``TreeStore``."""

    def get_node(self, who: int | ProcessKey) -> PidNode | None:
        """Return the node of a process, or None."""
        with self.table.lock:
            process = self.table.get(who)
            return node_of(process) if process is not None and process.has_place else None

    def insert_node(self, pid: int, node: PidNode) -> list[PidNode]:
        """Insert a process or replace what is known of it; return what was evicted."""
        with self.table.lock:
            table = self.table
            process = self._subject(pid, node.start_time_ns)
            take_place(process, node, table.era)
            table.wards.set_parent(process, node.parent)
            if process.is_kept:
                table.end(process, node.exited_ns)
                self._place(process, node)
                table.touch(process)
            else:
                process.exited_ns = node.exited_ns
                process.has_place = True
                process.ppid, process.creator_start_ns = node.ppid, node.creator_start_ns
                table.add(process)
            return [node_of(gone) for gone in table.shrink(process)]

    def _place(self, process: TrackedProcess, node: PidNode) -> None:
        if process.has_place:
            self.table.move(process, node.ppid, node.creator_start_ns)
            return
        process.has_place = True
        process.ppid, process.creator_start_ns = node.ppid, node.creator_start_ns
        self.table.link(process)

    def child_nodes(self, who: ProcessKey) -> list[PidNode]:
        """Return the nodes that this process created, in the order of their insertion."""
        with self.table.lock:
            return [node_of(process) for process in self.table.children(who)]

    def all_nodes(self) -> list[PidNode]:
        """Return every node, the exited ones too."""
        return [node_of(process) for process in self.processes()]

    def expire(self, now_ns: int) -> list[PidNode]:
        """Forget exited nodes past their TTL at ``now_ns`` (CLOCK_BOOTTIME); return them.

        Time only moves forward: an earlier ``now_ns`` than before changes nothing.
        """
        return [node_of(process) for process in self._expire(now_ns)]

    def _shows(self, process: TrackedProcess) -> bool:
        return process.has_place


def take_place(process: TrackedProcess, node: PidNode, era: Era) -> None:
    """Take over from a node what does not concern other processes."""
    process.cmd = node.cmd
    process.edge = node.edge
    process.approximate = node.approximate
    process.fork_missed = node.fork_missed
    process.named_in = UNCERTAIN if node.name_uncertain else era
    process.held_until_ns = node.held_until_ns
    if not process.has_details or node.user != UNKNOWN_NAME:
        process.user = node.user


def take_details(process: TrackedProcess, info: ProcInfo) -> None:
    """Take over all details but those that concern other processes."""
    process.has_details = True
    process.cmd = info.cmd
    process.user = info.user
    process.uid, process.gid = info.uid, info.gid
    process.executable, process.args_raw = info.executable, info.args_raw
    process.inherited, process.truncated = info.inherited, info.truncated
    process.cgroup_id, process.ns_pid = info.cgroup_id, info.ns_pid
    process.exec_ns, process.status, process.cpu_ns = info.exec_ns, info.status, info.cpu_ns


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
