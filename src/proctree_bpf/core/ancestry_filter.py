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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proctree_bpf.core.events import Exit, Fork
from proctree_bpf.core.filter_terms import FilterError, Question
from proctree_bpf.core.identity import ProcessKey, Sameness, compare
from proctree_bpf.core.lineage import creator_of, descendant_nodes, lineage
from proctree_bpf.core.text import as_comm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf.core.model import PidNode, ProcInfo
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.core.tracker import Applied


def command_line(info: ProcInfo | None) -> str:
    """Return the arguments joined by spaces: what regular expressions are tried on."""
    return " ".join(info.args) if info is not None else ""


class Matcher:
    """Tells whether a process is, by itself, the ancestor that is asked for."""

    by_name = False
    """The name is all that it looks at."""

    def __call__(self, node: PidNode, info: ProcInfo | None) -> bool:
        """Look at one process."""
        raise NotImplementedError


class Named(Matcher):
    """Looks for names (comm)."""

    by_name = True

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(map(as_comm, names))

    def __call__(self, node: PidNode, _info: ProcInfo | None) -> bool:
        """Look at its name."""
        return as_comm(node.cmd) in self.names


class Pinned(Matcher):
    """Looks for these very processes."""

    def __init__(self, keys: Sequence[ProcessKey]) -> None:
        self.keys = {key.pid: key for key in keys}

    def __call__(self, node: PidNode, _info: ProcInfo | None) -> bool:
        """Look at its identity."""
        key = self.keys.get(node.pid)
        return key is not None and compare(key, node.key) is Sameness.SAME


class Running(Matcher):
    """Looks for program files, by path or glob."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._exact = frozenset(patterns)
        self._match = re.compile("|".join(map(fnmatch.translate, patterns))).match

    def __call__(self, _node: PidNode, info: ProcInfo | None) -> bool:
        """Look at its executable."""
        if info is None or info.executable is None:
            return False
        # As proc_pid_exe(5) marks a file that was replaced while it runs.
        path = info.executable.removesuffix(" (deleted)")
        return path in self._exact or self._match(path) is not None


class Lined(Matcher):
    """Looks for command lines."""

    def __init__(self, expressions: Sequence[str]) -> None:
        self._searches = [re.compile(expression).search for expression in expressions]

    def __call__(self, _node: PidNode, info: ProcInfo | None) -> bool:
        """Look at its arguments."""
        line = command_line(info)
        return any(search(line) for search in self._searches)


def _pins(tree: TreeStore, pids: Sequence[str]) -> Pinned:
    keys = []
    for text in pids:
        node = tree.get_node(int(text))
        if node is None or node.exited_ns is not None:
            raise FilterError(f"no process has PID {text} now, so nothing can run under it")
        keys.append(node.key)
    return Pinned(keys)


def matcher(tree: TreeStore, question: Question) -> Matcher:
    """Make what looks for one kind of ancestor; PIDs are pinned to who has them now.

    Raises:
        FilterError: a PID that nobody has.

    """
    values = question.alternatives
    match question.term.name:
        case "ancestor":
            return Named(values)
        case "ancestor-pid":
            return _pins(tree, values)
        case "ancestor-exe":
            return Running(values)
        case _:
            return Lined(values)


@dataclass(slots=True, eq=False)
class _Standing:
    """What is decided of one living process: a bit per matcher."""

    key: ProcessKey
    own: int = 0  # it was, itself, what is asked for
    above: int = 0  # it came from one that was

    @property
    def marks(self) -> int:
        """What those that it creates inherit."""
        return self.own | self.above


class _Asker:
    """What both ways of asking need: whom to look at, and what for."""

    def __init__(
        self,
        tree: TreeStore,
        cache: CacheStore,
        matchers: Sequence[Matcher],
        *,
        include_self: bool = True,
    ) -> None:
        self._tree = tree
        self._cache = cache
        self._matchers = tuple(enumerate(matchers))
        self._include_self = include_self

    def _own(self, node: PidNode, info: ProcInfo | None, *, names_only: bool) -> int:
        """Return a bit for each matcher that a process is, by itself, what it looks for."""
        own = 0
        for index, matches in self._matchers:
            if (matches.by_name or not names_only) and matches(node, info):
                own |= 1 << index
        return own


class AncestryFilter(_Asker):
    """Follows a stream of applied events and says under whom each process ran.

    Call ``survey`` once the tree has its first snapshot, and after each repair;
    ``standing`` for each event, in order.

    Args:
        tree, cache: what the tracker keeps.
        matchers: the ancestors asked for, each answered apart.
        include_self: a process that is itself what is asked for counts too.

    """

    def __init__(
        self,
        tree: TreeStore,
        cache: CacheStore,
        matchers: Sequence[Matcher],
        *,
        include_self: bool = True,
    ) -> None:
        super().__init__(tree, cache, matchers, include_self=include_self)
        # By PID, so hardly more than pid_max; a process is forgotten when it ends. A PID has
        # two where a survey met its next holder before the last one's end was told.
        self._standings: dict[int, tuple[_Standing, ...]] = {}

    def __len__(self) -> int:
        return len(self._standings)

    def survey(self) -> None:
        """Decide for every living process of the tree, as it is now."""
        marks: dict[ProcessKey, int] = {}
        for node in self._tree.all_nodes():
            if node.exited_ns is None:
                self._survey_line(node, marks)

    def _survey_line(self, node: PidNode, marks: dict[ProcessKey, int]) -> None:
        """Decide for a process after those above it, each once: ``marks`` has them."""
        line: list[PidNode] = []
        above = 0
        for ancestor in lineage(self._tree, node.key):
            if ancestor.key in marks:
                above = marks[ancestor.key]
                break
            line.append(ancestor)
        for member in reversed(line):
            standing = self._known(member) or _Standing(member.key)
            standing.key = member.key
            standing.above |= above
            info = self._cache.get_info(member.key)
            standing.own |= self._own(member, info, names_only=False)
            above = marks[member.key] = standing.marks
            if member.exited_ns is None:
                self._keep(standing)

    def standing(self, applied: Applied) -> int:
        """Take the next event; return a bit for each matcher that its process ran under."""
        event = applied.event
        # What a process runs was decided at its exec, or is its creator's at the fork.
        names_only = isinstance(event, Fork) or (
            isinstance(event, Exit) and self._known(applied.node) is not None
        )
        standing = self._meet(
            applied.node,
            applied.info,
            names_only=names_only,
            is_born=isinstance(event, Fork),
        )
        if isinstance(event, Exit):
            self._forget(standing)
        elif isinstance(event, Fork):
            self._forget_former(standing)
        return standing.marks if self._include_self else standing.above

    def marks(self, node: PidNode) -> int:
        """Return the bits that what this process creates will inherit."""
        standing = self._known(node)
        return standing.marks if standing is not None else 0

    def _known(self, node: PidNode) -> _Standing | None:
        found = None
        for standing in self._standings.get(node.pid, ()):
            if standing.key == node.key:
                return standing
            if compare(standing.key, node.key) is not Sameness.DIFFERENT:
                found = standing
        return found

    def _keep(self, standing: _Standing) -> None:
        held = self._standings.get(standing.key.pid, ())
        if standing not in held:
            self._standings[standing.key.pid] = (*held, standing)

    def _forget(self, standing: _Standing) -> None:
        held = self._standings.pop(standing.key.pid, ())
        if len(held) > 1:
            self._standings[standing.key.pid] = tuple(s for s in held if s is not standing)

    def _forget_former(self, standing: _Standing) -> None:
        """Forget those who had a PID before one that was born with it just now."""
        held = self._standings[standing.key.pid]
        if len(held) > 1:
            start_ns = standing.key.start_time_ns
            kept = tuple(s for s in held if s is standing or s.key.start_time_ns > start_ns)
            self._standings[standing.key.pid] = kept

    def _meet(self, node: PidNode, info: ProcInfo, *, names_only: bool, is_born: bool) -> _Standing:
        standing = self._known(node)
        is_new = standing is None
        if standing is None:
            standing = _Standing(node.key)
            self._keep(standing)
        before = standing.marks
        if is_new or is_born:
            # Also of one that a survey met before its birth was told: only now do those
            # above it have all their marks.
            standing.above |= self._above(node)
        standing.key = node.key
        standing.own |= self._own(node, info, names_only=names_only)
        gained = standing.marks & ~before
        if gained and not (is_new and is_born):
            self._spread(node, gained)
        return standing

    def _above(self, node: PidNode) -> int:
        """Return what a process that was not met before inherits from those above it."""
        creator = creator_of(self._tree, node)
        if creator is None:
            return 0
        known = self._known(creator)
        if known is None:  # it has ended, or its own beginning was not seen
            marks: dict[ProcessKey, int] = {}
            self._survey_line(creator, marks)
            return marks[creator.key]
        return known.marks

    def _spread(self, node: PidNode, gained: int) -> None:
        """Tell those that it created before, and theirs."""
        for child in descendant_nodes(self._tree, node.key):
            standing = self._known(child)
            if standing is not None:
                standing.above |= gained


class ParentFilter(_Asker):
    """Asks for the kernel's parents, as last reported, instead of the creators.

    A process leaves when its parent ends: whoever adopts it is its parent then. So each
    event walks up, and nothing is remembered.
    """

    def survey(self) -> None:
        """Do nothing: nothing is remembered."""

    def standing(self, applied: Applied) -> int:
        """Return a bit for each matcher that the event's process ran under."""
        found = 0
        node: PidNode | None = applied.node
        info: ProcInfo | None = applied.info
        is_self = True
        seen: set[ProcessKey] = set()
        while node is not None and node.key not in seen:
            if self._include_self or not is_self:
                found |= self._own(node, info, names_only=False)
            seen.add(node.key)
            parent = self._tree.get_node(node.kernel_parent)
            # One that has ended is nobody's parent any more, and who adopted is not told.
            node = parent if parent is not None and parent.exited_ns is None else None
            info = self._cache.get_info(node.key) if node is not None else None
            is_self = False
        return found
