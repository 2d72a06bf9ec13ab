"""The only file that imports bcc: compiles the BPF program, attaches it, reads its maps."""

from __future__ import annotations

import atexit
import ctypes
import errno
import os
import struct
import sys
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.perf_records import KINDS
from proctree_bpf.core.arrivals import CpuCounters
from proctree_bpf.sources.base import Refusal, SourceUnavailableError
from proctree_bpf.sources.bpf_filter import MAX_NAMES
from proctree_bpf.sources.bpf_table import BpfTable
from proctree_bpf.sources.compiling import sealed_off, source_text
from proctree_bpf.sources.forks import momentary, never_destroy, owned_by
from proctree_bpf.sources.perf_rings import PerfRings
from proctree_bpf.sources.privilege import lockdown_mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Bytes throughout: BCC warns of str.
_TRACEPOINTS = {
    b"sched_process_fork": b"on_fork",
    b"sched_process_exec": b"on_exec",
    b"sched_process_exit": b"on_exit",
    b"task_rename": b"on_rename",
}
# One after another: BCC knows its maps in one file only.
_SENDING, _FILTER, _PROGRAMS = "sending.bpf.c", "filter.bpf.c", "proctree.bpf.c"
# What copy_number() of bpf/sending.bpf.c is until it is written: the parts of a 64-bit constant.
_COPY_MARK = struct.pack("=II", 0x655F6370, 0x70747265)
_LOAD_CONSTANT = 0x18  # BPF_LD | BPF_DW | BPF_IMM
_INSTALL_BCC = (
    "install the distribution's package (Debian and Ubuntu: python3-bpfcc, Fedora: python3-bcc)"
)


def import_bcc() -> Any:
    """Import BCC's Python module.

    Raises:
        SourceUnavailableError: it is not there, or another module has its name.

    """
    try:
        with _deprecated_layouts():
            import bcc  # noqa: PLC0415 - 70 MB that only this source needs
    except SyntaxError as error:  # a module of that name, for another Python
        raise _unrelated(error.filename) from error
    except Exception as error:  # what ctypes raises if libbcc is missing or does not fit
        raise SourceUnavailableError(
            f"BCC's Python module cannot be imported ({error})", _INSTALL_BCC, Refusal.UNSUPPORTED
        ) from error
    if not hasattr(bcc, "BPF"):
        raise _unrelated(bcc.__file__)
    return bcc


@contextmanager
def _deprecated_layouts() -> Iterator[None]:
    """Let BCC 0.37 make structures as Python 3.14 deprecates it (_pack_ without _layout_).

    With warnings as errors it would pass for a BCC that cannot be used.
    """
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        yield


def _unrelated(path: str | None) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"the module bcc at {path} is not BCC but an unrelated project",
        f"remove it and {_INSTALL_BCC}",
        Refusal.UNSUPPORTED,
    )


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Collect what C code writes to file descriptor 2: clang and libbpf print there."""
    lines: list[str] = []
    if sys.stderr is not None:
        sys.stderr.flush()
    sink = os.memfd_create("proctree-bpf-log", os.MFD_CLOEXEC)
    with open(sink, "rb") as log, momentary:  # noqa: PTH123 - a descriptor, not a path
        saved = os.dup(2)
        os.dup2(sink, 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            log.seek(0)
            lines.append(log.read().decode("utf-8", "replace"))


def _refused(error: BaseException, log: str) -> SourceUnavailableError:
    text = f"{error}\n{log}"
    if "Operation not permitted" in text or "EPERM" in text:
        mode = lockdown_mode()
        cause = (
            f"kernel lockdown is in mode {mode}"
            if mode != "none"
            else "a seccomp filter or a security module forbids it"
        )
        return SourceUnavailableError(
            f"the kernel refused the BPF program (operation not permitted: {cause})",
            "run on the host instead of in a container, or have the administrator allow bpf(2)",
            Refusal.UNSUPPORTED,
            text,
        )
    what = "compile" if "compile" in str(error) else "load"
    return SourceUnavailableError(
        f"the BPF program did not {what} on this kernel",
        "run again with --debug and report what it prints as a bug",
        Refusal.BROKEN,
        text,
    )


def _numbered(code: bytes, copy: int) -> bytes:
    """Write the number of a copy into its code, where ``copy_number()`` is."""
    size = 8  # of an instruction; the constant is in two
    numbered = bytearray(code)
    found = 0
    for at in range(0, len(code) - size, size):
        low, high = code[at + 4 : at + 8], code[at + 12 : at + 16]
        if code[at] == _LOAD_CONSTANT and low + high == _COPY_MARK:
            struct.pack_into("=I", numbered, at + 4, copy)
            struct.pack_into("=I", numbered, at + 12, 0)
            found += 1
    if not found:
        raise ValueError("the compiled program has no place for its number")
    return bytes(numbered)


def _skipped(function_fd: int) -> int:
    """Read how many runs of a program were skipped; 0 where it is not told (before 5.12).

    From ``recursion_misses`` in fdinfo (9ed9e9ba2337).
    """
    with suppress(OSError, ValueError):
        text = Path(f"/proc/self/fdinfo/{function_fd}").read_text("ascii", "replace")
        for line in text.splitlines():
            if line.startswith("recursion_misses:"):
                return int(line.split(":")[1])
    return 0


class BccProgram:
    """The compiled program. ``open_buffers`` and then ``attach`` before ``drain``."""

    def __init__(
        self,
        bcc: Any,
        macros: Mapping[str, int],
        max_args_bytes: int,
        filter_slots: int | None = None,
        *,
        by_file: bool = False,
    ) -> None:
        """Compile; with room for ``filter_slots`` processes, also a filter.

        ``by_file``: it can look for program files, too; every exec costs more then.

        Raises:
            SourceUnavailableError: the compiler or the kernel refused.

        """
        self.cpus = max(bcc.utils.get_possible_cpus()) + 1
        self.copies = macros.get("COPIES", 1)
        """How often each program is attached: see bpf/sending.bpf.c."""
        defines = {
            **macros, "MAX_ARGS_BYTES": max_args_bytes, "SCRATCH_SLOTS": self.cpus
        }  # fmt: skip
        files = [_SENDING, _PROGRAMS]
        if filter_slots is not None:
            files.insert(1, _FILTER)
            defines |= {"KERNEL_FILTER": 1, "MAX_PROCS": filter_slots, "MAX_NAMES": MAX_NAMES}
            defines |= {"FILTER_BY_FILE": 1} if by_file else {}
        cflags = [f"-D{name}={value}" for name, value in defines.items()]
        self._bpf: Any = None
        self._functions: list[list[Any]] = []
        self._attached: list[bytes] = []
        self._attached_copies: list[int] = []
        self._rings: PerfRings | None = None
        self._is_ours = True
        owned_by(self)
        log: list[str] = []
        source = source_text(files)
        try:
            with sealed_off(), _captured_stderr() as log:
                self._bpf = bcc.BPF(text=source, cflags=cflags)
                # The last one to be loaded, number 0, is the one that BCC will attach.
                for copy in reversed(range(self.copies)):
                    self._functions.insert(0, [])
                    for name in _TRACEPOINTS.values():
                        self._functions[0].append(self._load(bcc, name, copy))
        except SourceUnavailableError:
            raise
        except Exception as error:
            self.close()
            raise _refused(error, log[0] if log else "") from error
        self._lib = bcc.libbcc.lib
        self._lookup = self._lib.bpf_lookup_elem
        with _deprecated_layouts():
            self._counters_fd = self._bpf[b"counters"].map_fd
        self._layout = struct.Struct(f"={2 * len(KINDS) * self.copies}Q")
        self._key = ctypes.c_uint32(0)
        self._possible = list(bcc.utils.get_possible_cpus())
        self._counters = ctypes.create_string_buffer(self._layout.size * len(self._possible))
        self._counted = b""
        self._found: list[CpuCounters] = []
        self._failing: list[int] = []

    def _load(self, bcc: Any, name: bytes, copy: int) -> Any:
        """Load a copy of a program."""
        if self.copies > 1:
            start = bcc.libbcc.lib.bpf_function_start(self._bpf.module, name)
            size = bcc.libbcc.lib.bpf_function_size(self._bpf.module, name)
            code = ctypes.string_at(start, size)
            numbered = _numbered(code, copy)
            ctypes.memmove(start, numbered, size)
            try:
                return self._bpf.load_func(name, self._bpf.RAW_TRACEPOINT)
            finally:
                ctypes.memmove(start, code, size)
                if copy:
                    self._bpf.funcs.pop(name, None)
        return self._bpf.load_func(name, self._bpf.RAW_TRACEPOINT)

    def open_buffers(self, pages: int) -> None:
        """Open a perf buffer of ``pages`` memory pages on each online CPU.

        Raises:
            SourceUnavailableError: the kernel refused.

        """
        number = struct.Struct("=I")
        events = self.table("events", number.size, number.size)

        def set_ring(cpu: int, fd: int) -> None:
            if not events.put(number.pack(cpu), number.pack(fd)):
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))

        self._rings = PerfRings(set_ring, pages)

    def attach(self) -> None:
        """Attach to the tracepoints; from here on, records arrive.

        Raises:
            SourceUnavailableError: the kernel refused.

        """
        try:
            with _captured_stderr() as log:
                for tracepoint, function in _TRACEPOINTS.items():
                    self._bpf.attach_raw_tracepoint(tp=tracepoint, fn_name=function)
                    self._attached.append(tracepoint)
                self._attach_copies(self._functions[1:])
        except Exception as error:
            raise _refused(error, log[0] if log else "") from error

    def _attach_copies(self, copies: list[list[Any]]) -> None:
        """Attach programs in this order, in which the kernel then runs them."""
        for functions in copies:
            for tracepoint, function in zip(_TRACEPOINTS, functions, strict=True):
                fd = self._lib.bpf_attach_raw_tracepoint(function.fd, tracepoint)
                if fd < 0:
                    raise OSError(f"cannot attach to {tracepoint.decode()} again")
                self._attached_copies.append(fd)

    def counters(self) -> list[CpuCounters]:
        """Read the counters of every possible CPU."""
        self._counted = self._read_counters()
        kinds = len(KINDS) * self.copies
        found = [CpuCounters((0,) * kinds, (0,) * kinds)] * self.cpus
        for cpu, values in zip(
            self._possible, self._layout.iter_unpack(self._counted), strict=True
        ):
            found[cpu] = CpuCounters(values[:kinds], values[kinds:])
        self._failing = [
            cpu
            for cpu, (now, before) in enumerate(zip(found, self._found, strict=False))
            if now.failed != before.failed
        ]
        self._found = found
        return found

    def is_quiet(self) -> bool:
        """Tell that no record was begun since the counters were read, nor any CPU has come."""
        followed = self._rings is None or self._rings.is_up_to_date()
        return followed and self._read_counters() == self._counted

    def _read_counters(self) -> bytes:
        if self._lookup(self._counters_fd, ctypes.byref(self._key), self._counters) != 0:
            raise OSError(ctypes.get_errno(), "cannot read the BPF counters")
        return self._counters.raw

    def left_out(self) -> int:
        """Count the events that the filter left out; only of a program that has one."""
        size = struct.calcsize("=Q")
        table = self.table("left_out", ctypes.sizeof(self._key), size * len(self._possible))
        counts = table.get(bytes(self._key)) or b""
        return sum(count for (count,) in struct.iter_unpack("=Q", counts))

    def table(self, name: str, key_size: int, value_size: int) -> BpfTable:
        """Return one of the program's maps."""
        with _deprecated_layouts():
            fd = self._bpf[name.encode()].map_fd
        return BpfTable(self._lib, fd, key_size, value_size)

    def drain(self) -> list[tuple[int, bytes]]:
        """Return the records that are in the buffers, as (CPU, bytes)."""
        if not self._is_ours:
            raise RuntimeError("the BPF program is the parent process's")
        return self._rings.drain(self._failing) if self._rings is not None else []

    def missed(self) -> int:
        """Count the runs that the kernel skipped because the program was running already.

        It can only happen where tracepoints are preemptible. An event of which no copy told
        was skipped by all, so there are no more of them than any one was skipped for.
        """
        return sum(
            min(_skipped(function.fd) for function in copies)
            for copies in zip(*self._functions, strict=True)
        )

    def detach(self) -> None:
        """Detach from the tracepoints; records already sent can still be drained."""
        while self._attached_copies:  # the last first: none shall be the first of those left
            os.close(self._attached_copies.pop())
        while self._attached:
            with suppress(Exception):
                self._bpf.detach_raw_tracepoint(self._attached.pop())

    def close(self) -> None:
        """Detach, and free buffers, maps and programs."""
        if not self._is_ours or self._bpf is None:
            return
        self.detach()
        if self._rings is not None:
            self._rings.close()
        known = {function.fd for function in self._bpf.funcs.values()}  # BCC closes these
        for functions in self._functions:
            for function in functions:
                if function.fd not in known:
                    os.close(function.fd)
        self._functions = []
        with suppress(Exception):
            self._bpf.cleanup()
        atexit.unregister(self._bpf.cleanup)

    def leave_to_parent(self) -> None:
        """Let go, in a child, of what is its parent's.

        What BCC would do at the end takes the buffers out of the map that both have; and
        their memory is not even there. Only what holds the programs to the tracepoints is closed:
        the parent's detaching would be in vain.
        """
        self._is_ours = False
        if self._bpf is None:
            return
        never_destroy(self._bpf)
        atexit.unregister(self._bpf.cleanup)
        for fd in (*self._attached_copies, *self._bpf.raw_tracepoint_fds.values()):
            os.close(fd)
        self._bpf.raw_tracepoint_fds.clear()
        self._attached_copies.clear()
        self._attached.clear()
