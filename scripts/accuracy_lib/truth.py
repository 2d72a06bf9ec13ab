"""The truth of a forest, from the lines that its processes wrote (see forest/forest.c)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

FORK, EXEC, EXIT = KINDS = ("fork", "exec", "exit")
"""The kinds of events that are judged, in the order in which a process has them."""
NEVER_NS = 1 << 62
T = TypeVar("T")
# The forest's own programs end with these where something failed that must not.
_ERRORS = range(97, 122)


class Change(NamedTuple, Generic[T]):
    """A value that holds from some moment between two times on."""

    from_ns: int
    to_ns: int
    value: T


class Program(NamedTuple):
    """What a process runs."""

    executable: bytes
    args: tuple[bytes, ...]


@dataclass(slots=True, eq=False)
class Event:
    """Something that happened to a process between two times, and what was so at that moment."""

    kind: str
    life: Life
    from_ns: int
    to_ns: int
    parents: frozenset[int]
    """Who was its parent: one PID, or several if it may have changed just then."""
    name: bytes
    program: Program | None
    uid: int
    status: int | None = None
    """Of an exit: as wait(2) returns it."""


@dataclass(slots=True, eq=False)
class Life:
    """One process, from its birth to its end."""

    pid: int
    born_from_ns: int
    born_to_ns: int
    creator: Life | None
    names: list[Change[bytes]] = field(default_factory=list)
    users: list[Change[int]] = field(default_factory=list)
    programs: list[Change[Program]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def end_to_ns(self) -> int:
        """The time by which it has ended."""
        last = self.events[-1] if self.events else None
        return last.to_ns if last is not None and last.kind == EXIT else NEVER_NS

    def ancestors(self) -> list[Life]:
        """Return its creators, the nearest first."""
        found: list[Life] = []
        above = self.creator
        while above is not None:
            found.append(above)
            above = above.creator
        return found


def last_before(changes: list[Change[T]], time_ns: int) -> T | None:
    """Return the value that held at a time at which nothing changed."""
    held = None
    for change in changes:
        if change.to_ns <= time_ns:
            held = change.value
    return held


def held_between(changes: list[Change[T]], from_ns: int, to_ns: int) -> list[T]:
    """Return each value that may have held at some moment between two times."""
    found = []
    for number, change in enumerate(changes):
        until = changes[number + 1].to_ns if number + 1 < len(changes) else NEVER_NS
        if change.from_ns <= to_ns and until >= from_ns:
            found.append(change.value)
    return found


def _bytes(word: str) -> bytes:
    return bytes.fromhex(word[1:])


def _file(word: str) -> bytes:
    """Return a path without what the kernel puts behind that of a file that is gone."""
    return _bytes(word).removesuffix(b" (deleted)")


@dataclass(slots=True)
class _Ending:
    """What is known of the end of a process so far."""

    from_ns: int = 0
    parent: int | None = None


class Truth:
    """All lives of a forest, in the order in which they said so; the root is the first.

    Args:
        text: what they wrote.
        began_ns: a time (CLOCK_BOOTTIME) before the root was born.

    Raises:
        RuntimeError: the forest is not as it should be, so nothing can be judged by it.

    """

    def __init__(self, text: bytes, began_ns: int) -> None:
        self._began_ns = began_ns
        self.lives: list[Life] = []
        self._by_key: dict[tuple[int, int], Life] = {}
        self._by_ns_pid: dict[tuple[int, int], Life] = {}
        self._endings: dict[Life, _Ending] = {}
        self.root_pid = 0
        takers = {"R": self._root, "B": self._birth, "E": self._exec, "N": self._name,
                  "U": self._user, "X": self._ending, "K": self._kill, "W": self._end}  # fmt: skip
        for line in text.decode("ascii").splitlines():
            kind, *words = line.split(" ")
            takers[kind](words)
        self._check()

    def _root(self, words: list[str]) -> None:
        pid, born, ns, uid = map(int, words[:4])
        program = Program(_file(words[5]), tuple(map(_bytes, words[6:])))
        life = Life(pid, self._began_ns, born, None)
        life.users.append(Change(0, born, uid))
        life.names.append(Change(0, born, _bytes(words[4])))
        life.programs.append(Change(0, born, program))
        self.root_pid = pid
        self.lives.append(life)
        self._by_key[pid, born] = life
        self._by_ns_pid[ns, pid] = life

    def _birth(self, words: list[str]) -> None:
        (pid, born, creator_pid, creator_born, from_ns, parent, parent_now,
         ns, ns_pid, outer_ns, outer_pid, uid) = map(int, words[:12])  # fmt: skip
        creator = self._by_key[creator_pid, creator_born]
        named = words[12]
        name = last_before(creator.names, from_ns) if named == "-" else _bytes(named)
        program = last_before(creator.programs, from_ns)
        life = Life(pid, from_ns, born, creator)
        life.users.append(Change(from_ns, born, uid))
        if name is not None:
            life.names.append(Change(from_ns, born, name))
        if program is not None:
            life.programs.append(Change(from_ns, born, program))
        # Only CLONE_PARENT has another parent than the creator at the moment of the fork.
        parents = {parent} if parent == creator_pid else {parent, parent_now}
        event = Event(FORK, life, from_ns, born, frozenset(parents), name or b"", program, uid)
        life.events.append(event)
        self.lives.append(life)
        self._by_key[pid, born] = life
        self._by_ns_pid[ns, ns_pid] = life
        if outer_pid:
            self._by_ns_pid[outer_ns, outer_pid] = life

    def _exec(self, words: list[str]) -> None:
        pid, born, from_ns, parent, to_ns, parent_now, uid = map(int, words[:7])
        life = self._by_key[pid, born]
        name = _bytes(words[7])
        program = Program(_file(words[8]), tuple(map(_bytes, words[9:])))
        life.names.append(Change(from_ns, to_ns, name))
        life.programs.append(Change(from_ns, to_ns, program))
        parents = frozenset((parent, parent_now))
        life.events.append(Event(EXEC, life, from_ns, to_ns, parents, name, program, uid))

    def _name(self, words: list[str]) -> None:
        pid, born, from_ns, to_ns = map(int, words[:4])
        self._by_key[pid, born].names.append(Change(from_ns, to_ns, _bytes(words[4])))

    def _user(self, words: list[str]) -> None:
        pid, born, from_ns, to_ns, uid = map(int, words)
        self._by_key[pid, born].users.append(Change(from_ns, to_ns, uid))

    def _ending(self, words: list[str]) -> None:
        pid, born, from_ns, parent = map(int, words)
        self._endings[self._by_key[pid, born]] = _Ending(from_ns, parent)

    def _kill(self, words: list[str]) -> None:
        ns, ns_pid, from_ns = map(int, words)
        self._endings[self._by_ns_pid[ns, ns_pid]] = _Ending(from_ns)

    def _end(self, words: list[str]) -> None:
        ns, ns_pid, status, to_ns, reaper = map(int, words)
        life = self._by_ns_pid.pop((ns, ns_pid))
        if not status & 0x7F and status >> 8 in _ERRORS:
            raise RuntimeError(f"a process of the forest failed with {status >> 8}")
        ending = self._endings.get(life)
        if ending is None:
            raise RuntimeError(f"a process of the forest ended unasked, with status {status}")
        parents = frozenset((reaper, reaper if ending.parent is None else ending.parent))
        program = life.programs[-1].value if life.programs else None
        name = life.names[-1].value if life.names else b""
        life.events.append(
            Event(EXIT, life, ending.from_ns, to_ns, parents, name, program,
                  life.users[-1].value, status)
        )  # fmt: skip

    def _check(self) -> None:
        if not self.lives:
            raise RuntimeError("the forest did not begin")
        for life in self.lives[1:]:
            if life.end_to_ns == NEVER_NS:
                raise RuntimeError(f"nobody waited for {life.pid}")
