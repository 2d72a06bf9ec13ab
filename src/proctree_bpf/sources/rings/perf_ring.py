"""One CPU's perf ring: the kernel writes records into it, and we read them.

Of perf_event_open(2): the kernel stores a record, then moves ``data_head`` past it; we read
``data_head``, then the records, and then move ``data_tail``, which tells the kernel what it may
write over. On x86-64 the processor keeps all of these in the order in which they are
made: loads behind loads, and stores behind loads. Elsewhere (arm64) it does not,
and between those three steps there has to be a barrier. Plain Python has none, but membarrier(2)
has: ``MEMBARRIER_CMD_GLOBAL_EXPEDITED`` begins and ends with smp_mb() in whoever calls it
(kernel/sched/membarrier.c), except while one CPU is all that is online. A
CPU that has gone since has written long before. Two calls a drain are enough for all rings.
Either number is 8 bytes and aligned, and read and written at once by a memoryview of such.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from typing import NamedTuple

from proctree_bpf.errors import Refusal, SourceUnavailableError
from proctree_bpf.sources.system.causes import shortage

# Of struct perf_event_mmap_page, where numbers are counted in units of 8 bytes.
_DATA_HEAD, _DATA_TAIL = 1024 // 8, 1032 // 8
# Of struct perf_event_attr, up to wakeup_watermark; the rest, up to PERF_ATTR_SIZE_VER5, is 0.
_ATTR = struct.Struct("=IIQQQQQI")
_ATTR_SIZE = 112
_TYPE_SOFTWARE, _COUNT_SW_BPF_OUTPUT, _SAMPLE_RAW = 1, 10, 1 << 10
_FORMAT_TOTAL_TIME_ENABLED = 1
_WATERMARK = 1 << 14
# The reader comes on a timer, so that the kernel need never wake it: at most once a ring.
_NO_WAKEUPS = 0xFFFF_FFFF
_FD_CLOEXEC = 8
_QUERY, _GLOBAL_EXPEDITED = 0, 1 << 1
_MAP_FAILED = ctypes.c_void_p(-1).value
_WRITABLE = 0x200  # PyBUF_WRITE


class _Machine(NamedTuple):
    """What a kind of processor needs; the numbers are those of its system calls."""

    perf_event_open: int
    membarrier: int
    keeps_order: bool


_X86_64 = _Machine(perf_event_open=298, membarrier=324, keeps_order=True)
_ARM64 = _Machine(perf_event_open=241, membarrier=283, keeps_order=False)
# By what uname(2) says, which is the second of each under linux32(1).
_MACHINES = {"x86_64": _X86_64, "i686": _X86_64, "aarch64": _ARM64, "armv8l": _ARM64}

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
]  # fmt: skip
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_view = ctypes.pythonapi.PyMemoryView_FromMemory
_view.restype = ctypes.py_object
_view.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]


def _machine() -> _Machine:
    name = os.uname().machine
    machine = _MACHINES.get(name)
    if machine is None or sys.maxsize < 2**32:
        raise SourceUnavailableError(
            f"it is not known how to read perf buffers on {name}"
            + (" from a 32-bit Python" if machine else ""),
            "use x86-64 or arm64, and a Python for it",
        )
    return machine


class Barrier:
    """Keeps what is done to rings before it is called from what is done after it."""

    def __init__(self) -> None:
        """Find out how; SourceUnavailableError if it cannot be had here."""
        machine = _machine()
        self.is_needed = not machine.keeps_order
        self._number = machine.membarrier
        if self.is_needed and not self._call(_QUERY) & _GLOBAL_EXPEDITED:
            raise self._refused(
                "this kernel's membarrier(2) has no MEMBARRIER_CMD_GLOBAL_EXPEDITED"
            )

    def __call__(self) -> None:
        """Order all loads and stores; for nothing where the processor does it."""
        if self.is_needed:
            self._call(_GLOBAL_EXPEDITED)

    def _call(self, command: int) -> int:
        done: int = _syscall(self._number, command, 0, 0)
        if done < 0:
            why = os.strerror(ctypes.get_errno())
            raise self._refused(f"membarrier(2), without which perf buffers are misread: {why}")
        return done

    @staticmethod
    def _refused(reason: str) -> SourceUnavailableError:
        return SourceUnavailableError(
            reason, "use a kernel with CONFIG_MEMBARRIER, and no seccomp filter that forbids it"
        )


class Ring:
    """The memory of a ring: a page of numbers, and then the data, a power of two in size."""

    def __init__(self, memory: memoryview) -> None:
        self._numbers = memory[: mmap.PAGESIZE].cast("Q")
        self._data = memory[mmap.PAGESIZE :]
        self._size = len(self._data)
        self._tail: int = self._numbers[_DATA_TAIL]

    def head(self) -> int:
        """Return up to where the kernel has written; a barrier is due before ``copy``."""
        head: int = self._numbers[_DATA_HEAD]
        return head

    def waiting(self) -> int:
        """Return how many bytes wait to be read."""
        return self.head() - self._tail

    def fill(self) -> float:
        """Return what share of it waits to be read."""
        return self.waiting() / self._size

    def copy(self, head: int) -> bytes:
        """Return what was written up to ``head``; a barrier is due before ``release``."""
        size = self._size
        begin = self._tail % size
        end = begin + head - self._tail
        if end <= size:
            return bytes(self._data[begin:end])
        return b"".join((self._data[begin:], self._data[: end - size]))

    def release(self, head: int) -> None:
        """Let the kernel write over what is before ``head``."""
        self._tail = self._numbers[_DATA_TAIL] = head


class OfflineError(Exception):
    """The CPU is not online, so it can have no ring now."""


class LockedMemoryError(SourceUnavailableError):
    """Smaller rings may do: there is a limit on the memory that may be locked."""


class PerfEvent:
    """A perf event of one CPU, to which BPF programs can send, and its ring.

    Where this process is forked, the child has the descriptor but not the memory, which the
    kernel never copies (VM_DONTCOPY in perf_mmap): it may close and nothing else.
    """

    def __init__(self, cpu: int, pages: int) -> None:
        """Open it, enabled; OfflineError, or SourceUnavailableError if the kernel refuses."""
        self.cpu = cpu
        self.fd = _opened(cpu)
        self._length = (1 + pages) * mmap.PAGESIZE
        self._address = _mmap(
            None, self._length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, self.fd, 0
        )
        if self._address == _MAP_FAILED:
            number = ctypes.get_errno()
            os.close(self.fd)
            raise _not_mapped(number, pages)
        self.ring = Ring(_view(self._address, self._length, _WRITABLE))

    def is_dead(self) -> bool:
        """Tell whether its CPU has been offline since it was opened: nothing comes any more.

        The kernel takes the events of a CPU that goes out of service (perf_event_exit_cpu),
        and does not put them back. Then the time for which it was enabled stands still. If it
        does not, asking disturbs that CPU twice.
        """
        return os.read(self.fd, 16) == os.read(self.fd, 16)

    def close(self) -> None:
        """Give it back; the ring must not be used from now on."""
        _munmap(self._address, self._length)
        os.close(self.fd)

    def leave_to_parent(self) -> None:
        """Close it in a child of the process that opened it."""
        os.close(self.fd)


def _opened(cpu: int) -> int:
    """Return the descriptor of a new perf event."""
    attr = _ATTR.pack(
        _TYPE_SOFTWARE,
        _ATTR_SIZE,
        _COUNT_SW_BPF_OUTPUT,
        1,
        _SAMPLE_RAW,
        _FORMAT_TOTAL_TIME_ENABLED,
        _WATERMARK,
        _NO_WAKEUPS,
    ).ljust(_ATTR_SIZE, b"\0")
    fd: int = _syscall(
        ctypes.c_long(_machine().perf_event_open),
        ctypes.c_char_p(attr),
        ctypes.c_long(-1),  # of every process
        ctypes.c_long(cpu),
        ctypes.c_long(-1),  # in no group
        ctypes.c_long(_FD_CLOEXEC),
    )
    if fd < 0:
        number = ctypes.get_errno()
        if number == errno.ENODEV:
            raise OfflineError(cpu)
        raise _not_opened(number, cpu)
    return fd


def _not_opened(number: int, cpu: int) -> SourceUnavailableError:
    reason = f"the perf buffer of CPU {cpu} could not be opened: {os.strerror(number)}"
    short = shortage(OSError(number, reason))
    if short is not None:
        limit = "ulimit -n" if number == errno.EMFILE else "sysctl fs.file-max"
        remedy = f"allow more open files ({limit}): each CPU needs one, and {short.reason}"
    elif number in (errno.EPERM, errno.EACCES):
        remedy = (
            "run it as root or with CAP_PERFMON, and where no seccomp filter or security module"
            " forbids perf_event_open(2)"
        )
    elif number == errno.ENOSYS:
        remedy = "use a kernel that is built with CONFIG_PERF_EVENTS"
    elif number == errno.ENOMEM:
        remedy = "free some memory"
    else:
        return SourceUnavailableError(reason, "report this as a bug", Refusal.BROKEN)
    return SourceUnavailableError(reason, remedy)


def _not_mapped(number: int, pages: int) -> SourceUnavailableError:
    reason = f"perf buffers of {pages} pages per CPU could not be had: {os.strerror(number)}"
    if number in (errno.EPERM, errno.EAGAIN):  # beyond perf_event_mlock_kb and RLIMIT_MEMLOCK
        return LockedMemoryError(
            f"{reason}: so much memory may not be locked",
            "try a smaller --perf-pages, raise ulimit -l, or grant CAP_IPC_LOCK",
        )
    return SourceUnavailableError(reason, "try a smaller --perf-pages")
