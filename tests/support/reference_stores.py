"""The rules of stores in their simplest form: a plain dict, scanned for every answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic

from proctree_bpf.core.identity import ProcessKey, Sameness, compare, more_exact
from proctree_bpf.core.model import PidNode, ProcInfo
from support.lifetime_contract import S, V
from support.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable


class Reference(Generic[V]):
    """The rules in their simplest form: one dict, scanned for every answer, one lock."""

    def __init__(self, capacity: int, ttl_secs: float) -> None:
        self._capacity = capacity
        self._ttl_ns = int(ttl_secs * S)
        self._now_ns = 0
        self._lock = threading.RLock()
        self._next = 0
        self._kept: dict[int, V] = {}  # by order of first insertion

    def __len__(self) -> int:
        return len(self._kept)

    def _slot(self, who: int | ProcessKey) -> int | None:
        key = who if isinstance(who, ProcessKey) else ProcessKey(who)
        held = [(slot, value) for slot, value in self._kept.items() if value.key.pid == key.pid]
        if key.start_time_ns:
            same = [slot for slot, value in held if compare(value.key, key) is Sameness.SAME]
            equal = [slot for slot in same if self._kept[slot].key == key]
            return max(equal or same, default=None)
        living = [(value.key, slot) for slot, value in held if value.exited_ns is None]
        return max(living or [(value.key, slot) for slot, value in held], default=(key, None))[1]

    def _find(self, who: int | ProcessKey) -> V | None:
        with self._lock:
            slot = self._slot(who)
            return None if slot is None else self._kept[slot]

    def _insert(self, value: V, sharpened: Callable[[V, int], V]) -> list[V]:
        with self._lock:
            slot = self._slot(value.key)
            if slot is None and value.key.start_time_ns:
                slot = self._slot(value.key.pid)
                if slot is not None and self._kept[slot].key.start_time_ns:
                    slot = None
            unknown = slot is not None and (
                compare(self._kept[slot].key, value.key) is Sameness.UNKNOWN
            )
            if slot is None or (unknown and self._kept[slot].exited_ns is not None):
                slot = self._next
                self._next += 1
            else:
                best = more_exact(self._kept[slot].key, value.key)
                value = sharpened(value, best.start_time_ns)
            self._kept[slot] = value
            evicted = []
            while len(self._kept) > self._capacity:
                slot = min(self._kept, key=lambda s: (self._rank(self._kept[s]), s))
                evicted.append(self._kept.pop(slot))
            return evicted

    def _rank(self, value: V) -> int:
        """Tell who is evicted first: the ended, ended creators, the living."""
        if value.exited_ns is None:
            return 2
        return 1 if self._is_needed(value) else 0

    def _is_needed(self, value: V) -> bool:
        del value
        return False

    def expire(self, now_ns: int) -> list[V]:
        with self._lock:
            self._now_ns = max(self._now_ns, now_ns)
            removed = []
            while due := [
                slot
                for slot, value in self._kept.items()
                if value.exited_ns is not None
                and value.exited_ns + self._ttl_ns <= self._now_ns
                and not self._is_needed(value)
            ]:
                removed += [self._kept.pop(slot) for slot in due]
            return removed


class ReferenceTree(Reference[PidNode]):
    def get_node(self, who: int | ProcessKey) -> PidNode | None:
        return self._find(who)

    def insert_node(self, pid: int, node: PidNode) -> list[PidNode]:
        return self._insert(
            replace(node, pid=pid), lambda value, start: replace(value, start_time_ns=start)
        )

    def child_nodes(self, who: ProcessKey) -> list[PidNode]:
        with self._lock:
            creator = self._find(who)
            ended_ns = creator.exited_ns if creator is not None else None
            return [
                node
                for node in self._kept.values()
                if node.ppid == who.pid != node.pid and self._is_creator(who, ended_ns, node)
            ]

    @staticmethod
    def _is_creator(who: ProcessKey, ended_ns: int | None, node: PidNode) -> bool:
        sameness = compare(node.creator, who)
        if sameness is not Sameness.UNKNOWN or not (who.start_time_ns and node.start_time_ns):
            return sameness is not Sameness.DIFFERENT
        ended_before = ended_ns is not None and ended_ns < node.start_time_ns
        return who.ticks <= node.key.ticks and not ended_before

    def _is_needed(self, value: PidNode) -> bool:
        return bool(self.child_nodes(value.key))

    def all_pids(self) -> list[int]:
        with self._lock:
            return sorted({node.pid for node in self._kept.values()})

    def all_nodes(self) -> list[PidNode]:
        with self._lock:
            return list(self._kept.values())


class ReferenceCache(Reference[ProcInfo]):
    def get_info(self, who: int | ProcessKey) -> ProcInfo | None:
        return self._find(who)

    def insert_info(self, pid: int, info: ProcInfo) -> list[ProcInfo]:
        return self._insert(
            replace(info, tgid=pid), lambda value, start: replace(value, start_time_ns=start)
        )
