"""Who ran under whom: decided once per process and inherited at fork. Pure.

A process stands under an ancestor from the moment at which it, or one that created it,
first was what is asked for, and for the rest of its life: what a program named ``deploy``
became by exec later, and what that started, all came from it. So an answer only ever
turns from no to yes, an event costs the same however deep the tree is, and a reused
PID starts afresh.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.core.identity import same_start
from proctree_bpf.core.lineage import ancestors
from proctree_bpf.core.subtree import below
from proctree_bpf.core.text import as_comm
from proctree_bpf.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.table import ProcessTable
    from proctree_bpf.filters.terms import Question


class Matcher(NamedTuple):
    """Tells whether a process is, by itself, the ancestor that is asked for."""

    matches: Callable[[TrackedProcess], bool]
    by_name: bool = False
    """Whether the name is all that it looks at."""


def is_named(names: Sequence[str]) -> Callable[[TrackedProcess], bool]:
    """Return what looks for names (comm)."""
    wanted = frozenset(map(as_comm, names))
    return lambda process: as_comm(process.cmd) in wanted


def has_line(expressions: Sequence[str]) -> Callable[[TrackedProcess], bool]:
    """Return what looks for regular expressions in the arguments, joined by spaces."""
    searches = [re.compile(expression).search for expression in expressions]

    def matches(process: TrackedProcess) -> bool:
        line = " ".join(process.args)
        return any(search(line) for search in searches)

    return matches


def _runs(patterns: Sequence[str]) -> Callable[[TrackedProcess], bool]:
    """Return what looks for program files, by path or glob."""
    exact = frozenset(patterns)
    match = re.compile("|".join(map(fnmatch.translate, patterns))).match

    def matches(process: TrackedProcess) -> bool:
        if process.executable is None:
            return False
        # As proc_pid_exe(5) marks a file that was replaced while it runs.
        path = process.executable.removesuffix(" (deleted)")
        return path in exact or match(path) is not None

    return matches


def _is_one_of(table: ProcessTable, pids: Sequence[str]) -> Callable[[TrackedProcess], bool]:
    """Return what looks for the very processes that have these PIDs now."""
    starts = {}
    for text in pids:
        process = table.find(int(text))
        if process is None or process.exited_ns is not None:
            raise FilterError(f"no process has PID {text} now, so nothing can run under it")
        starts[process.pid] = process.start_time_ns

    def matches(process: TrackedProcess) -> bool:
        start_ns = starts.get(process.pid)
        return start_ns is not None and same_start(start_ns, process.start_time_ns)

    return matches


def matcher(table: ProcessTable, question: Question) -> Matcher:
    """Make what looks for one kind of ancestor; PIDs are pinned to who has them now.

    Raises:
        FilterError: a PID that nobody has.

    """
    values = question.alternatives
    match question.term.name:
        case "ancestor":
            return Matcher(is_named(values), by_name=True)
        case "ancestor-pid":
            return Matcher(_is_one_of(table, values))
        case "ancestor-exe":
            return Matcher(_runs(values))
        case _:
            return Matcher(has_line(values))


class _Asker:
    """What both ways of asking need.

    Args:
        table: what the tracker keeps.
        matchers: the ancestors asked for, each answered apart.
        include_self: a process that is itself what is asked for counts too.

    """

    def __init__(
        self, table: ProcessTable, matchers: Sequence[Matcher], *, include_self: bool
    ) -> None:
        self._table = table
        self._matchers = tuple(enumerate(matchers))
        self._include_self = include_self
        self._of_all = (1 << len(matchers)) - 1

    def _own(
        self, process: TrackedProcess, *, names_only: bool = False, told: ProcessEvent | None = None
    ) -> int:
        """Return the bits of what a process is by itself: what ``standing`` says of those above.

        ``told``: the event that has just been applied, which may tell the name.
        """
        own = 0
        for index, (matches, by_name) in self._matchers:
            if (by_name or not names_only) and matches(process):
                is_doubted = by_name and process.named_in.is_over and not _tells_name(told)
                own |= self.perhaps(1 << index) if is_doubted else 1 << index
        return own

    def perhaps(self, bits: int) -> int:
        """Return the bits that say that nobody knows whether these should be set.

        So it is where it is by a name that may not be the process's, or who created it was lost.
        """
        return bits << len(self._matchers)


def _tells_name(told: ProcessEvent | None) -> bool:
    return told is not None and getattr(told.as_received, "comm", None) is not None


class AncestryFilter(_Asker):
    """Follows a stream of applied events and says under whom each process ran.

    Call ``survey`` once the tree has its first snapshot, and after each repair;
    ``standing`` for each event, in order.
    """

    def __init__(
        self, table: ProcessTable, matchers: Sequence[Matcher], *, include_self: bool
    ) -> None:
        super().__init__(table, matchers, include_self=include_self)
        # What is decided of each process until it ends: the bits for what it was itself, and
        # for what those were that it came from.
        self._is: dict[TrackedProcess, int] = {}
        self._under: dict[TrackedProcess, int] = {}

    def __len__(self) -> int:
        return len(self._under)

    def survey(self) -> None:
        """Decide for every living process of the tree, as it is now."""
        self._forget_the_forgotten()
        marks: dict[TrackedProcess, int] = {}
        for process in list(self._table):
            if process.exited_ns is None:
                self._survey_line(process, marks)

    def _survey_line(self, process: TrackedProcess, marks: dict[TrackedProcess, int]) -> int:
        """Decide for a process after those above it, each once: ``marks`` has them."""
        line: list[TrackedProcess] = []
        above = 0
        for ancestor in ancestors(process):
            if ancestor in marks:
                above = marks[ancestor]
                break
            line.append(ancestor)
        for member in reversed(line):
            under = above | self._under.get(member, 0) | self._doubt(member)
            own = self._is.get(member, 0) | self._own(member)
            above = marks[member] = own | under
            if member.exited_ns is None:
                self._is[member], self._under[member] = own, under
        return above

    def standing(self, told: ProcessEvent) -> int:
        """Take the next event; return a bit for each matcher that its process ran under.

        Those of ``perhaps`` are set for the matchers of which that is not known.
        """
        process, kind = told.process, told.as_received.kind
        is_born = kind == "fork"
        under = self._under.get(process)
        # What a process runs was decided at its exec, or is its creator's at the fork.
        names_only = is_born or (kind == "exit" and under is not None)
        before = self._is.get(process, 0) | (under or 0)
        if under is None or is_born:
            # Also of one that a survey met before its birth was told: only now do those
            # above it have all their marks.
            under = (under or 0) | self._above(process)
        own = self._is.get(process, 0) | self._own(process, names_only=names_only, told=told)
        if kind == "exit":
            self._forget(process)
        else:
            self._is[process], self._under[process] = own, under
            if len(self._under) > 2 * self._table.params.capacity:
                self._forget_the_forgotten()
        gained = (own | under) & ~before
        if gained and process.children:
            self._spread(process, gained)
        return own | under if self._include_self else under

    def marks(self, process: TrackedProcess) -> int:
        """Return the bits that what this process creates will inherit."""
        return self._is.get(process, 0) | self._under.get(process, 0)

    def _forget_the_forgotten(self) -> None:
        """Forget those that the table has forgotten: no end of theirs will be told."""
        for process in [known for known in self._under if not known.is_kept]:
            self._forget(process)

    def _forget(self, process: TrackedProcess) -> None:
        self._is.pop(process, None)
        self._under.pop(process, None)

    def _above(self, process: TrackedProcess) -> int:
        """Return what a process that was not met before inherits from those above it."""
        creator = process.creator
        doubt = self._doubt(process)
        if creator is None:
            is_forgotten = self._table.evicted_living and process.ppid
            return doubt or (self.perhaps(self._of_all) if is_forgotten else 0)
        under = self._under.get(creator)
        if under is None:  # it has ended, or its own beginning was not seen
            return doubt | self._survey_line(creator, {})
        return doubt | under | self._is[creator]

    def _doubt(self, process: TrackedProcess) -> int:
        """Return all bits of ``perhaps`` if its fork may be among what was lost."""
        is_lost = process.fork_missed and process.start_time_ns < self._table.lost_until_ns
        return self.perhaps(self._of_all) if is_lost else 0

    def _spread(self, process: TrackedProcess, gained: int) -> None:
        """Tell those that it created before, and theirs."""
        for child in below(process):
            under = self._under.get(child)
            if under is not None:
                self._under[child] = under | gained


class ParentFilter(_Asker):
    """Asks for the kernel's parents instead of the creators.

    A process leaves when its parent ends: whoever adopts it is its parent then. So each
    event walks up, and nothing is remembered.
    """

    def survey(self) -> None:
        """Do nothing: nothing is remembered."""

    def standing(self, told: ProcessEvent) -> int:
        """Return a bit for each matcher that the event's process ran under."""
        found = 0
        process: TrackedProcess | None = told.process
        is_self = True
        seen: set[TrackedProcess] = set()
        while process is not None and process not in seen:
            if self._include_self or not is_self:
                found |= self._own(process, told=told if is_self else None)
            seen.add(process)
            parent = self._table.get(process.kernel_parent)
            # One that has ended is nobody's parent any more; who adopted was not told.
            process = parent if parent is not None and parent.exited_ns is None else None
            is_self = False
        return found
