"""A made-up machine that knows its own truth, and a source that tells of it, or fails to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from proctree_bpf.codecs.proc_files import Reading, Stat
from proctree_bpf.core.events import Exec, Exit, Fork, Gap, ProcEvent, Rename
from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import ProcInfo
from proctree_bpf.sources.base import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from proctree_bpf.sources.base import Snapshot

T = TypeVar("T")
PIDS = range(2, 10)
CPUS = 2
NAMES = "abc"
STEP_NS = 3_333_337
_KINDS: dict[type, str] = {Fork: "fork", Exec: "exec", Exit: "exit", Rename: "rename"}


@dataclass(eq=False)
class Life:
    """A process as it really was."""

    key: ProcessKey
    creator: Life | None
    parent: Life | None
    names: list[tuple[int, str]]
    args: list[tuple[int, bytes]]
    adopts: bool = False
    exited_ns: int | None = None
    status: int | None = None

    @property
    def lives(self) -> bool:
        return self.exited_ns is None

    def line(self) -> Iterator[Life]:
        """Yield it and its creators."""
        life: Life | None = self
        while life is not None:
            yield life
            life = life.creator

    def line_began_after(self, time_ns: int) -> bool:
        """Tell whether it and all above it were born after that."""
        return all(life.key.start_time_ns > time_ns for life in self.line())

    def name_before(self, time_ns: int) -> str:
        """Return the name that all events from before this time told."""
        return _before(time_ns, self.names)

    def args_before(self, time_ns: int) -> bytes:
        """Return the arguments that all events from before this time told."""
        return _before(time_ns, self.args)

    def bore_before(self, time_ns: int) -> set[str]:
        """Return the names that it bore by then, also for a while."""
        return {name for at_ns, name in self.names if at_ns < time_ns}

    def lived_before(self, time_ns: int) -> bool:
        """Tell whether it lived when all from before this time had happened."""
        born = self.key.start_time_ns < time_ns
        return born and (self.exited_ns is None or self.exited_ns >= time_ns)


def _before(time_ns: int, history: list[tuple[int, T]]) -> T:
    told = [value for at_ns, value in history if at_ns < time_ns]
    return told[-1] if told else history[0][1]


@dataclass
class World:
    """What happens, and what of it is on its way to the reader.

    ``is_terse``: as little is told as the proc connector does.
    """

    is_terse: bool = False
    now_ns: int = 1_000 * TICK_NS
    lives: list[Life] = field(default_factory=list)
    on_the_way: list[list[ProcEvent]] = field(default_factory=lambda: [[] for _ in range(CPUS)])
    lost: Counter[tuple[int, str]] = field(default_factory=Counter)
    all_lost: int = 0
    _by_place: dict[tuple[int, int], Life] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self._born(1, None, None, adopts=True)
        self._tell(Fork(self.root.key.start_time_ns, self.root.key, ProcessKey(0), comm="a"), 0)
        self.begun_ns = self.now_ns
        """What was before then, no event tells."""

    def life_of(self, key: ProcessKey) -> Life:
        """Return the process that a key means; it may be exact, or a tick."""
        return self._by_place[key.pid, key.ticks]

    def living(self) -> list[Life]:
        return [life for life in self.lives if life.lives]

    def _tick(self) -> int:
        self.now_ns += STEP_NS
        return self.now_ns

    def _born(self, pid: int, creator: Life | None, parent: Life | None, *, adopts: bool) -> Life:
        key = ProcessKey(pid, self._tick())
        name, args = ("a", b"a\0")
        if creator is not None:
            name, args = creator.names[-1][1], creator.args[-1][1]
        life = Life(key, creator, parent, [(self.now_ns, name)], [(self.now_ns, args)], adopts)
        self.lives.append(life)
        self._by_place[key.pid, key.ticks] = life
        return life

    def begin(self) -> None:
        """Let the reader begin: nothing is told of what was before."""
        self.begun_ns = self._tick()
        for lane in self.on_the_way:
            lane.clear()

    def _tell(self, event: ProcEvent, cpu: int, *, is_lost: bool = False) -> None:
        if is_lost:
            self.lost[cpu, _KINDS[type(event)]] += 1
            self.all_lost += 1
        else:
            self.on_the_way[cpu].append(event)

    # What can happen.

    def fork(self, rng: Random, *, lossy: bool) -> None:
        """Let somebody create a process, sometimes as a sibling."""
        used = {life.key.pid for life in self.living()}
        recent = self.now_ns // TICK_NS
        used |= {
            life.key.pid for life in self.lives
            if (life.exited_ns or 0) // TICK_NS >= recent - 1
        }  # fmt: skip
        free = [pid for pid in PIDS if pid not in used]
        if not free:
            return
        creator = rng.choice(self.living())
        parent = creator
        if rng.random() < 0.1 and creator.parent is not None:
            parent = creator.parent
        life = self._born(rng.choice(free), creator, parent, adopts=rng.random() < 0.2)
        name = None if self.is_terse else life.names[-1][1]
        event = Fork(self.now_ns, life.key, creator.key, parent.key, comm=name)
        self._tell(event, rng.randrange(CPUS), is_lost=lossy)

    def rename(self, rng: Random, *, lossy: bool, by_exec: bool) -> None:
        """Let somebody take a name."""
        life = rng.choice(self.living())
        name = rng.choice(NAMES)
        life.names.append((self._tick(), name))
        event: ProcEvent = Rename(self.now_ns, life.key, name)
        if by_exec:
            args = b"%s\0%d\0" % (name.encode(), self.now_ns)
            life.args.append((self.now_ns, args))
            parent = None if self.is_terse else _key(life.parent)
            event = Exec(self.now_ns, life.key, parent, comm=name, args_raw=args)
        self._tell(event, rng.randrange(CPUS), is_lost=lossy)

    def exit(self, rng: Random, *, lossy: bool) -> None:
        """Let somebody end, and its children be adopted."""
        mortal = [life for life in self.living() if life is not self.root]
        if not mortal:
            return
        life = rng.choice(mortal)
        life.exited_ns, life.status = self._tick(), rng.randrange(3) << 8
        parent = None if self.is_terse else _key(life.parent)
        for child in self.living():
            if child.parent is life:
                child.parent = _reaper_above(life)
        comm = life.names[-1][1] if not self.is_terse and rng.random() < 0.5 else None
        event = Exit(self.now_ns, life.key, parent, life.status, comm=comm)
        self._tell(event, rng.randrange(CPUS), is_lost=lossy)

    def act(self, rng: Random, *, lossy: bool) -> None:
        """Let anything happen."""
        match rng.randrange(5):
            case 0 | 1:
                self.fork(rng, lossy=lossy)
            case 2:
                self.rename(rng, lossy=lossy, by_exec=True)
            case 3:
                self.rename(rng, lossy=lossy, by_exec=False)
            case _:
                self.exit(rng, lossy=lossy)

    # What /proc shows.

    def reading(self, pid: int) -> Reading | None:
        for life in self.living():
            if life.key.pid == pid:
                ppid = life.parent.key.pid if life.parent is not None else 0
                name, ticks = life.names[-1][1], life.key.ticks
                args = life.args[-1][1]
                info = ProcInfo(name, "root", ppid, pid, ticks * TICK_NS, uid=0, args_raw=args)
                return Stat(pid, name, "S", ppid, 0, 1, ticks), info
        return None

    def look(self, rng: Random, *, actions: int) -> Snapshot:
        """Read all processes, one after another, while things go on happening."""
        begun_ns = self._tick()
        pids = [life.key.pid for life in self.living()]
        rng.shuffle(pids)
        early = rng.randrange(len(pids) + 1)
        found = [self.reading(pid) for pid in pids[:early]]
        for _ in range(actions):
            self.act(rng, lossy=False)
        found += [self.reading(pid) for pid in pids[early:]]
        return begun_ns, self._tick(), [reading for reading in found if reading is not None]


def _key(life: Life | None) -> ProcessKey | None:
    return None if life is None else life.key


def _reaper_above(life: Life) -> Life:
    above = life.parent
    while above is not None:
        if above.lives and (above.adopts or above.parent is None):
            return above
        above = above.parent
    raise AssertionError("the first process adopts")


class WorldSource:
    """Delivers what a world tells, when and as the machine of the test says."""

    name = "world"
    blind_spots = ()

    def __init__(self, world: World) -> None:
        self.world = world
        self.deliveries: list[Delivery] = []
        self.rng: Random | None = None
        self.actions_while_looking = 0
        self.looked_until_ns = 0
        self._watermark_ns = 0
        self._taken_ns = world.now_ns

    def drain(self, rng: Random, *, lag_ns: int, double: bool, kindless: bool, leave: int) -> None:
        """Put what is on its way into one delivery, with what was lost of it.

        Up to ``leave`` events come only with the next one.
        """
        world = self.world
        taken_ns = world.now_ns + 1
        left = min(leave, sum(map(len, world.on_the_way)))
        events: list[ProcEvent] = []
        while sum(map(len, world.on_the_way)) > left:
            lane = rng.choice([lane for lane in world.on_the_way if lane])
            events.append(lane.pop(0))
        if double:
            events += [event for event in events if rng.random() < 0.3]
            rng.shuffle(events)
        on_the_way = [event.timestamp_ns for lane in world.on_the_way for event in lane]
        gaps = [
            Gap(taken_ns, self.name, count, None if kindless else kind, cpu,
                self._taken_ns, taken_ns)
            for (cpu, kind), count in world.lost.items()
        ]  # fmt: skip
        world.lost.clear()
        self._taken_ns = taken_ns
        complete_ns = min([taken_ns - lag_ns, *on_the_way])
        self._watermark_ns = max(self._watermark_ns, complete_ns)
        self.deliveries.append(Delivery(self._watermark_ns, events, gaps))

    def looks(self, rng: Random | None, actions: int) -> None:
        """Let ``/proc`` be read, or not, when the reader asks for that next."""
        self.rng, self.actions_while_looking = rng, actions

    def open(self) -> None:
        """Nothing is to be opened."""

    def poll(self) -> Delivery:
        return self.deliveries.pop(0) if self.deliveries else Delivery(0)

    def is_quiet(self) -> bool:
        return False

    def read_snapshot(
        self, progress: Callable[[], object], _not_before_ns: int = 0
    ) -> Snapshot | None:
        if self.rng is None:
            return None
        snapshot = self.world.look(self.rng, actions=self.actions_while_looking)
        # As every source does: what had happened by then was received.
        self.drain(self.rng, lag_ns=0, double=False, kindless=False, leave=0)
        progress()
        self.looked_until_ns = snapshot[1]
        return snapshot

    def now_ns(self) -> int:
        return self.world.now_ns

    def fileno(self) -> int | None:
        return None

    def stop(self) -> None:
        """Nothing is to be stopped."""

    def close(self) -> None:
        """Nothing is to be given back."""

    def stats(self) -> dict[str, Any]:
        return {}
