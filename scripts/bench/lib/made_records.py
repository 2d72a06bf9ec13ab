"""Records as the BPF side would send them (bpf/proctree.h, version 3). Pure, no product code."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FORK = struct.Struct("=QQHHHHQQQQIIIIII16s")
EXEC = struct.Struct("=QQHHHHQQQIIII16sIHHII")
EXIT = struct.Struct("=QQHHHHQQQQIIIIII16s")
IS_FORK, IS_EXEC, IS_EXIT = range(3)
KINDS = 8
CPUS = 2
BEGUN_NS = 1_000_000_000_000
_VERSION = 3
_STEP_NS = 50_000
_FIRST_PID = 1000
_SHELLS = 6
_PER_DRAIN = 512


class Record(NamedTuple):
    """A record, and where and when it was sent."""

    cpu: int
    kind: int
    time_ns: int
    data: bytes


class RawDrain(NamedTuple):
    """What one drain of the buffers brings: the clock, the counters, (CPU, bytes) by arrival."""

    taken_ns: int
    begun: tuple[tuple[int, ...], ...]
    records: list[tuple[int, bytes]]


class RecordMaker:
    """Makes records and counts them, as each CPU does."""

    def __init__(self) -> None:
        self.now_ns = BEGUN_NS
        self._begun = [[0] * KINDS for _ in range(CPUS)]

    def counters(self) -> tuple[tuple[int, ...], ...]:
        """Return how many of each kind were begun on each CPU."""
        return tuple(tuple(lane) for lane in self._begun)

    def lose(self, cpu: int, kind: int) -> None:
        """Count a record that never arrives."""
        self._begun[cpu][kind] += 1

    def _head(self, cpu: int, kind: int) -> tuple[int, int, int, int, int, int]:
        self.now_ns += _STEP_NS
        self._begun[cpu][kind] += 1
        return self._begun[cpu][kind], self.now_ns, _VERSION, kind, 0, cpu

    def fork(self, cpu: int, child: int, creator: tuple[int, int], comm: bytes) -> Record:
        """Return the birth of a process, which starts right now."""
        head = self._head(cpu, IS_FORK)
        pid, start = creator
        data = FORK.pack(*head, self.now_ns, start, start, 1, child, pid, pid, child, 0, 0, comm)
        return Record(cpu, IS_FORK, self.now_ns, data)

    def exec(self, cpu: int, key: tuple[int, int], creator: tuple[int, int], n: int) -> Record:
        """Return that a process runs ``true --number n``."""
        head = self._head(cpu, IS_EXEC)
        exe, name = b"true\0bin\0usr\0", b"/usr/bin/true\0"
        args = b"/usr/bin/true\0--number\0%d\0" % n
        (pid, start), (parent, parent_start) = key, creator
        data = EXEC.pack(
            *head, start, parent_start, 1, pid, parent, 0, 0, b"true",
            len(args), len(exe), len(name), len(args), 0,
        )  # fmt: skip
        return Record(cpu, IS_EXEC, self.now_ns, data + exe + name + args)

    def exit(self, cpu: int, key: tuple[int, int], creator: tuple[int, int]) -> Record:
        """Return that a process ends."""
        head = self._head(cpu, IS_EXIT)
        (pid, start), (parent, parent_start) = key, creator
        data = EXIT.pack(
            *head, start, parent_start, 1, 5000, pid, parent, 0, 0, 0, 0, b"true"
        )  # fmt: skip
        return Record(cpu, IS_EXIT, self.now_ns, data)


def _shells(maker: RecordMaker) -> Iterator[tuple[Record, tuple[int, int]]]:
    above = (1, 1000)
    for pid in range(2, 2 + _SHELLS - 1):
        record = maker.fork(0, pid, above, b"bash")
        above = (pid, maker.now_ns)
        yield record, above


def one_by_one(maker: RecordMaker, count: int, *, ends: bool = True) -> Iterator[Record]:
    """Yield ``count`` short processes that a shell, six levels down, runs on two CPUs."""
    shell = (1, 1000)
    for record, shell in _shells(maker):  # noqa: B007 - the last one goes on
        yield record
    for n in range(count):
        cpu, pid = n % CPUS, _FIRST_PID + n
        yield maker.fork(cpu, pid, shell, b"bash")
        key = (pid, maker.now_ns)
        yield maker.exec(cpu, key, shell, n)
        if ends:
            yield maker.exit(cpu, key, shell)


def one_pid(maker: RecordMaker, count: int) -> Iterator[Record]:
    """Yield ``count`` lives that all have one PID."""
    for n in range(count):
        maker.now_ns += 20_000_000  # another tick of /proc each
        yield maker.fork(0, _FIRST_PID, (1, 1000), b"bash")
        key = (_FIRST_PID, maker.now_ns)
        yield maker.exec(0, key, (1, 1000), n)
        yield maker.exit(0, key, (1, 1000))


def one_parent(maker: RecordMaker, count: int) -> Iterator[Record]:
    """Yield ``count`` children of one process, all there at once, and then their ends."""
    keys = []
    for n in range(count):
        yield maker.fork(0, _FIRST_PID + n, (1, 1000), b"bash")
        keys.append((_FIRST_PID + n, maker.now_ns))
        yield maker.exec(0, keys[-1], (1, 1000), n)
    for key in keys:
        yield maker.exit(0, key, (1, 1000))


def one_chain(maker: RecordMaker, count: int) -> Iterator[Record]:
    """Yield a chain, each created by the one before, and then the ends from below."""
    keys = [(1, 1000)]
    for n in range(count):
        yield maker.fork(0, _FIRST_PID + n, keys[-1], b"bash")
        keys.append((_FIRST_PID + n, maker.now_ns))
        yield maker.exec(0, keys[-1], keys[-2], n)
    for n in range(count, 0, -1):
        yield maker.exit(0, keys[n], keys[n - 1])


def drains(maker: RecordMaker, records: Iterator[Record]) -> Iterator[RawDrain]:
    """Yield what a reader finds, who drains one CPU's buffer after the other's."""
    waiting: list[Record] = []
    for record in records:
        waiting.append(record)
        if len(waiting) == _PER_DRAIN:
            yield _drain(maker, waiting)
            waiting = []
    yield _drain(maker, waiting)


def _drain(maker: RecordMaker, waiting: list[Record]) -> RawDrain:
    arrived = [(one.cpu, one.data) for cpu in range(CPUS) for one in waiting if one.cpu == cpu]
    return RawDrain(maker.now_ns + 1, maker.counters(), arrived)
