"""A ring of each CPU's records, which BPF programs write with bpf_perf_event_output()."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from typing import TYPE_CHECKING

from proctree_bpf.sources import cpus

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = {"x86_64": 298, "ppc64le": 319, "s390x": 331, "armv7l": 364, "i686": 336}
_GENERIC_NUMBER = 241
_CLOEXEC = 8  # PERF_FLAG_FD_CLOEXEC
_ENABLE = 0x2400  # PERF_EVENT_IOC_ENABLE
_SOFTWARE, _BPF_OUTPUT, _RAW = 1, 10, 1 << 10
# The first 64 bytes of struct perf_event_attr: those of the oldest kernel.
_ATTR = struct.Struct("=IIQQQQQI12x")
# The reader drains on a timer; a wake-up per event would cost more than all the rest.
_WAKEUP_EVENTS = 128
_HEAD, _TAIL = 1024 // 8, 1032 // 8  # in struct perf_event_mmap_page, in words of 8 bytes
_HEADER = struct.Struct("=IHH")
_SAMPLE = 9  # PERF_RECORD_SAMPLE: a header, the size of the data, the data
_SIZE = struct.Struct("=I")

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_number = _NUMBERS.get(os.uname().machine, _GENERIC_NUMBER)


def _open_event(cpu: int) -> int:
    attributes = _ATTR.pack(
        _SOFTWARE, _ATTR.size, _BPF_OUTPUT, 1, _RAW, 0, 0, _WAKEUP_EVENTS
    )  # fmt: skip
    fd: int = _syscall(
        ctypes.c_long(_number), attributes, ctypes.c_int(-1), ctypes.c_int(cpu),
        ctypes.c_int(-1), ctypes.c_ulong(_CLOEXEC),
    )  # fmt: skip
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: perf_event_open for CPU {cpu}")
    return fd


class _Ring:
    def __init__(self, cpu: int, pages: int) -> None:
        self.cpu = cpu
        self.fd = _open_event(cpu)
        self._size = pages * mmap.PAGESIZE
        try:
            self._memory = mmap.mmap(self.fd, mmap.PAGESIZE + self._size)
        except (OSError, ValueError) as error:
            os.close(self.fd)
            number = error.errno if isinstance(error, OSError) else 0
            raise OSError(number, f"mmap of {pages} pages for CPU {cpu}: {error}") from error
        self._words = memoryview(self._memory).cast("Q")
        self._tail = 0

    def enable(self) -> None:
        fcntl.ioctl(self.fd, _ENABLE, 0)

    def drain(self, records: list[tuple[int, bytes]]) -> None:
        head = self._words[_HEAD]
        while self._tail != head:
            kind, _, size = _HEADER.unpack(self._copy(self._tail, _HEADER.size))
            if kind == _SAMPLE:
                record = self._copy(self._tail + _HEADER.size, size - _HEADER.size)
                (length,) = _SIZE.unpack_from(record)
                records.append((self.cpu, record[_SIZE.size : _SIZE.size + length]))
            self._tail += size
        self._words[_TAIL] = head

    def _copy(self, at: int, size: int) -> bytes:
        begin = at % self._size
        start, end = mmap.PAGESIZE + begin, min(begin + size, self._size) + mmap.PAGESIZE
        copied = self._memory[start:end]
        return copied + self._memory[mmap.PAGESIZE : mmap.PAGESIZE + size - len(copied)]

    def close(self) -> None:
        self._words.release()
        self._memory.close()
        os.close(self.fd)


class PerfRings:
    """The rings of all CPUs that are online."""

    def __init__(self, set_ring: Callable[[int, int], None], pages: int) -> None:
        """Open rings of ``pages`` memory pages; ``set_ring`` gives a CPU's to the programs.

        Raises:
            OSError: the kernel refused; nothing is left open.

        """
        self._rings: list[_Ring] = []
        try:
            for cpu in cpus.online():
                ring = _Ring(cpu, pages)
                self._rings.append(ring)
                set_ring(cpu, ring.fd)
                ring.enable()
        except BaseException:
            self.close()
            raise

    def drain(self) -> list[tuple[int, bytes]]:
        """Return the records that are in the rings, as (CPU, bytes)."""
        records: list[tuple[int, bytes]] = []
        for ring in self._rings:
            ring.drain(records)
        return records

    def close(self) -> None:
        """Free the rings."""
        while self._rings:
            self._rings.pop().close()
