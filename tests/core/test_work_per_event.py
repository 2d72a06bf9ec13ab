"""How much work an event takes, counted in Python's own instructions and not in time.

So it does not depend on the machine. ``CEILINGS`` are three times what it takes today: whoever
makes an event dearer than that has to say why. And whatever a machine can have many of
(processes, lives of one PID, children, depth, losses) must not make an event dearer at all.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf.codecs.inputs import CpuCounters, Drain
from proctree_bpf.codecs.sample_decoder import EXEC, EXIT, FORK, WIRE_VERSION
from proctree_bpf.core.events import Exec, Exit, Fork, Gap, ProcEvent
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import build_chain_string, is_descendant
from proctree_bpf.core.model import CacheParams
from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.sinks.jsonl.json_record import RecordOptions
from proctree_bpf.sinks.jsonl.jsonl import JsonlSink
from proctree_bpf.streams.perf import KINDS, PerfStream
from proctree_bpf.streams.reorder import ReorderBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STEP_NS = 1_234_567
# Python 3.11 to 3.14 differ by less than a third.
CEILINGS = {"decode": 3 * 105, "apply": 3 * 210, "write": 3 * 590}
MANY = 400


def instructions(work: Callable[[], object]) -> int:
    """Count the instructions that some work takes."""
    count = 0

    def trace(frame: FrameType, what: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if what == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


class World:
    """A tracker with a shell in it, and a sink; events are applied and written."""

    def __init__(self, capacity: int = 65_536) -> None:
        self.tree, self.cache = PidTree(CacheParams(capacity)), ProcCache(CacheParams(capacity))
        self.tracker = Tracker(self.tree, self.cache, {0: "root"}.get)
        options = RecordOptions("bpf", "b", 0, 64)
        self.sink = JsonlSink(io.StringIO(), self.tree, self.cache, options)
        self.now_ns = 10**12
        self.shell = self.key(1)
        self.take(Fork(self.now_ns, self.shell, ProcessKey(0), comm="sh", uid=0))

    def key(self, pid: int) -> ProcessKey:
        self.now_ns += STEP_NS
        return ProcessKey(pid, self.now_ns)

    def take(self, *events: ProcEvent) -> None:
        for event, process in self.tracker.take_all(events):
            assert process is not None
            self.sink.write(ProcessEvent(event, process))

    def fork(self, pid: int, creator: ProcessKey) -> ProcessKey:
        key = self.key(pid)
        self.take(Fork(key.start_time_ns, key, creator, comm="sh", uid=0))
        return key

    def end(self, key: ProcessKey) -> None:
        self.now_ns += STEP_NS
        self.take(Exit(self.now_ns, key, status=0))

    def live(self, pid: int, creator: ProcessKey) -> None:
        key = self.fork(pid, creator)
        self.now_ns += STEP_NS
        self.take(Exec(self.now_ns, key, comm="true", args_raw=b"/bin/true\0"))
        self.end(key)


def records(lives: int, creator: ProcessKey) -> list[bytes]:
    """Return the records of short lives, as the BPF side sends them."""
    by, by_ns = creator

    def head(seq: int, ns: int, kind: int) -> tuple[int, ...]:
        return seq, ns, WIRE_VERSION, kind, 0, 0

    found = []
    for n in range(1, lives + 1):
        ns, pid = 2 * 10**12 + n * STEP_NS, 100 + n
        parts = b"true\0bin\0", b"/bin/true\0", b"/bin/true\0"
        comm = b"true"
        found += [
            FORK.pack(*head(n, ns, 0), ns, by_ns, by_ns, 1, pid, by, by, pid, 0, 0, comm),
            EXEC.pack(*head(n, ns + 1, 1), ns, by_ns, 1, pid, by, 0, 0, comm, 10, 9, 10, 10, 0)
            + b"".join(parts),
            EXIT.pack(*head(n, ns + 2, 2), ns, by_ns, 1, 9, pid, by, 0, 0, 0, 0, comm),
        ]
    return found


def stages() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each part of the way of three events a life, in its order."""
    stream, order, world = PerfStream("bpf", 1, 0), ReorderBuffer(), World()
    counters = [CpuCounters((0,) * len(KINDS), (0,) * len(KINDS))]
    drain = Drain(10**15, counters, [(0, record) for record in records(MANY, world.shell)])
    fed: list[tuple[list[ProcEvent], list[Gap], int]] = []
    yield "decode", lambda: fed.append(stream.feed(drain))
    order.push(fed[0][0])
    events = order.release(float("inf"))
    assert len(events) == 3 * MANY
    yield "apply", lambda: list(world.tracker.take_all(events))
    world = World()
    yield "write", lambda: world.take(*events)


def test_an_event_takes_no_more_than_three_times_what_it_takes_today() -> None:
    taken = {name: instructions(work) / (3 * MANY) for name, work in stages()}
    over = {name: count for name, count in taken.items() if count > CEILINGS[name]}
    assert not over, f"instructions per event: {taken}"


def lives_of_one_pid(world: World, count: int) -> None:
    for _ in range(count):
        world.live(2, world.shell)


def children_of_one(world: World, count: int) -> None:
    keys = [world.fork(pid, world.shell) for pid in range(2, count + 2)]
    for key in keys:
        world.end(key)


def a_deep_chain(world: World, count: int) -> None:
    key = world.shell
    line = [key := world.fork(pid, key) for pid in range(2, count + 2)]
    for each in reversed(line):
        world.end(each)


def losses(world: World, count: int) -> None:
    for pid in range(2, count + 2):
        world.fork(pid, world.shell)
        world.tracker.note_gap(Gap(world.now_ns, "bpf", 1, "exec", 0, 1, world.now_ns))


def lives_beyond_the_capacity(world: World, count: int) -> None:
    for pid in range(2, count + 2):
        world.live(pid, world.shell)


def more_living_than_there_is_room_for(world: World, count: int) -> None:
    for pid in range(2, count + 2):
        world.fork(pid, world.shell)


@pytest.mark.parametrize(
    ("shape", "capacity"),
    [
        (lives_of_one_pid, 65_536),
        (children_of_one, 65_536),
        (a_deep_chain, 65_536),
        (losses, 65_536),
        (lives_beyond_the_capacity, 50),
        (more_living_than_there_is_room_for, 50),
    ],
)
def test_many_of_a_kind_make_no_event_dearer(
    shape: Callable[[World, int], None], capacity: int
) -> None:
    few, many = World(capacity), World(capacity)
    first = instructions(lambda: shape(few, MANY))
    second = instructions(lambda: shape(many, 4 * MANY))
    assert second < 1.25 * 4 * first


@pytest.mark.parametrize("depth", [10, 100])
def test_a_question_of_ancestry_takes_a_step_per_level(depth: int) -> None:
    world = World()
    key = world.shell
    for pid in range(2, depth + 2):
        key = world.fork(pid, key)
    assert instructions(lambda: is_descendant(world.tree, key, "nobody")) < 60 * depth + 200
    chain = instructions(lambda: build_chain_string(world.tree, world.cache, key))
    assert chain < 3 * 130 * depth + 1_000
