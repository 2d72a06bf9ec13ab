"""A perf ring without a kernel, and the part of one that writes into it."""

from __future__ import annotations

import mmap
import struct

SAMPLE, LOST, THROTTLE = 9, 2, 5
_DATA_HEAD, _DATA_TAIL = 1024, 1032
_NUMBER = struct.Struct("=Q")


def sample(data: bytes) -> bytes:
    """Return a raw sample as perf_output_sample() writes it: padded until it ends on a word."""
    size = (4 + len(data) + 7) // 8 * 8 - 4
    return struct.pack("=IHHI", SAMPLE, 1, 12 + size, size) + data.ljust(size, b"\0")


def lost(count: int) -> bytes:
    """Return the record by which the kernel tells of samples that found no room."""
    return struct.pack("=IHHQQ", LOST, 0, 24, 7, count)


def padded(data: bytes) -> bytes:
    """Return what a reader gets of sample data."""
    return sample(data)[12:]


class FakeRing:
    """The memory of a ring of so many pages, into which ``write`` writes like a kernel."""

    def __init__(self, pages: int = 1, at: int = 0) -> None:
        """Begin where ``at`` bytes have been written and read."""
        self.size = pages * mmap.PAGESIZE
        self.memory = bytearray(mmap.PAGESIZE + self.size)
        _NUMBER.pack_into(self.memory, _DATA_HEAD, at)
        _NUMBER.pack_into(self.memory, _DATA_TAIL, at)

    def number(self, at: int) -> int:
        return int(_NUMBER.unpack_from(self.memory, at)[0])

    @property
    def head(self) -> int:
        return self.number(_DATA_HEAD)

    @property
    def tail(self) -> int:
        return self.number(_DATA_TAIL)

    def write(self, record: bytes) -> bool:
        """Write a record; return whether there was room."""
        if self.head + len(record) - self.tail > self.size:
            return False
        for place, byte in enumerate(record, self.head):
            self.memory[mmap.PAGESIZE + place % self.size] = byte
        _NUMBER.pack_into(self.memory, _DATA_HEAD, self.head + len(record))
        return True
