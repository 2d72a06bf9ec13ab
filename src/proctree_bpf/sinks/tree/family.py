"""Who is shown in a tree, and under whom. Pure.

A process is a member from the first record of it that is written. It belongs under its
creator if that was written before, else it is a root.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proctree_bpf.core.identity import ProcessKey, Sameness, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.core.compact import AnyExit
    from proctree_bpf.core.model import ProcInfo
    from proctree_bpf.core.process_event import ProcessEvent

# Members that are kept for the tree at the end: more than anybody reads. Later ones are
# forgotten when they end, and counted. With arguments of 4 KiB each it is 40 MB.
MAX_REMEMBERED = 10_000


@dataclass(slots=True, eq=False)
class Member:
    """A process in the tree.

    Attributes:
        key: its identity.
        info: what is known of it, as of its last record.
        began_ns: when it was first written.
        started_ns: when it started; 0 if unknown.
        parent: its creator, if that is a member.
        observed: whether its creator was only seen as its parent, and may be another.
        depth: how many creators it has in the tree.
        remembered: whether it will be in the tree at the end.
        owner: the nearest of its creators that is remembered.
        ended: whether it is over.
        exit: how it ended, if that was written.
        children: those of its children that are remembered.
        more: how many others there were below it.
        shown: whether a line of it was written.
        open: whether that line can still be rewritten.

    """

    key: ProcessKey
    info: ProcInfo
    began_ns: int
    started_ns: int
    parent: Member | None = None
    observed: bool = False
    depth: int = 0
    remembered: bool = True
    owner: Member | None = None
    ended: bool = False
    exit: AnyExit | None = None
    children: list[Member] = field(default_factory=list)
    more: int = 0
    shown: bool = False
    open: bool = False

    def line_of_descent(self) -> list[Member]:
        """Return its creators as far as they are kept, the root first, and itself."""
        line = [self]
        while line[-1].parent is not None:
            line.append(line[-1].parent)
        return line[::-1]

    def let_go(self) -> None:
        """Drop what is above one that has been shown for the last time.

        Otherwise a process that forks itself for ever would fill the memory.
        """
        if self.ended and not self.remembered:
            self.parent = None


class Family:
    """All members of a tree. The unremembered living are bounded by the kernel's PIDs."""

    def __init__(self, capacity: int = MAX_REMEMBERED) -> None:
        self.roots: list[Member] = []
        self.more = 0
        """How many there were that are in no tree."""
        self._capacity = capacity
        self._remembered = 0
        self._by_pid: dict[int, Member] = {}

    def __len__(self) -> int:
        """Return how many PIDs have a member: one that is remembered, or lives."""
        return len(self._by_pid)

    def take(self, process_event: ProcessEvent) -> tuple[Member, bool]:
        """Take a record; return whom it is about, and whether that one is new."""
        event, key = process_event.as_received, process_event.process.key
        member = self._find(key)
        is_new = member is None or (member.ended and event.kind == "fork")
        if member is None or is_new:
            member = self._begin(process_event)
        member.key, member.info = key, process_event.info
        member.observed = process_event.process.fork_missed
        if event.kind == "exit":
            member.ended, member.exit = True, event
            if not member.remembered:
                del self._by_pid[key.pid]
        return member, is_new

    def members(self) -> Iterator[Member]:
        """Yield all that are remembered, in no particular order."""
        stack = list(self.roots)
        while stack:
            member = stack.pop()
            yield member
            stack.extend(member.children)

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` unless what is kept is bounded and agrees; for tests."""
        assert sum(1 for _ in self.members()) == self._remembered <= self._capacity  # noqa: S101
        for pid, member in self._by_pid.items():
            assert member.key.pid == pid  # noqa: S101
            assert member.remembered or not member.ended  # noqa: S101

    def _find(self, key: ProcessKey) -> Member | None:
        member = self._by_pid.get(key.pid)
        if member is None or compare(member.key, key) is Sameness.DIFFERENT:
            return None
        return member

    def _begin(self, process_event: ProcessEvent) -> Member:
        process = process_event.process
        former = self._by_pid.get(process.pid)
        if former is not None:
            former.ended = True  # its PID has another owner, so its end was missed
        parent = self._find(process.creator_key) if process.ppid != process.pid else None
        member = Member(
            key=process.key,
            info=process_event.info,
            began_ns=process_event.as_received.timestamp_ns,
            started_ns=process.began_ns,
            parent=parent,
            depth=0 if parent is None else parent.depth + 1,
            remembered=self._remembered < self._capacity,
            owner=None if parent is None else parent if parent.remembered else parent.owner,
        )
        self._by_pid[process.pid] = member
        self._enter(member)
        return member

    def _enter(self, member: Member) -> None:
        """Put a member into the tree, or count it below the nearest that is there."""
        if member.remembered:
            self._remembered += 1
            (self.roots if member.parent is None else member.parent.children).append(member)
        elif member.owner is None:
            self.more += 1
        else:
            member.owner.more += 1
