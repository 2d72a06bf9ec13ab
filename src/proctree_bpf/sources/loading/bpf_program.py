"""The programs in the kernel: loads them, attaches them, reads their counters."""

from __future__ import annotations

import errno
import os
import struct
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.codecs.inputs import CpuCounters
from proctree_bpf.codecs.kernel_layout import TRACEPOINTS
from proctree_bpf.codecs.sample_decoder import KINDS
from proctree_bpf.sources.loading.bpf_syscall import (
    create_map,
    load_raw_tracepoint,
    open_raw_tracepoint,
)
from proctree_bpf.sources.loading.bpf_table import BpfTable
from proctree_bpf.sources.loading.compiled import numbered
from proctree_bpf.sources.rings.perf_rings import PerfRings, possible_cpus
from proctree_bpf.sources.system.causes import program_refused
from proctree_bpf.sources.system.forks import momentary, owned_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proctree_bpf.sources.loading.compiled import Compiled

_FIRST = struct.pack("=I", 0)
_COUNT = struct.Struct("=Q")


def _skipped(program: int) -> int:
    """Read how many runs of a program were skipped; 0 where it is not told (before 5.12).

    From ``recursion_misses`` in fdinfo (9ed9e9ba2337).
    """
    with suppress(OSError, ValueError):
        text = Path(f"/proc/self/fdinfo/{program}").read_text("ascii", "replace")
        for line in text.splitlines():
            if line.startswith("recursion_misses:"):
                return int(line.split(":")[1])
    return 0


def _side_by_side(calls: list[Callable[[], int]]) -> list[int | OSError]:
    """Make calls that take the kernel long, on all CPUs; return what each returned or raised."""
    done: list[int | OSError] = [OSError()] * len(calls)
    left = list(range(len(calls)))

    def work() -> None:
        with suppress(IndexError):  # nothing is left
            while True:
                at = left.pop(0)
                try:
                    done[at] = calls[at]()
                except OSError as error:
                    done[at] = error

    helpers = []
    for _ in range(min(len(os.sched_getaffinity(0)), len(calls)) - 1):
        helper = threading.Thread(target=work)
        with suppress(RuntimeError):  # there can be no more threads: the work is done all the same
            helper.start()
            helpers.append(helper)
    work()
    for helper in helpers:
        helper.join()
    return done


class BpfProgram:
    """The loaded programs. ``open_buffers`` and then ``attach``."""

    def __init__(self, compiled: Compiled, macros: Mapping[str, int]) -> None:
        """Load programs that were compiled with ``macros``, as often and as such as those say.

        Where the kernel refuses, nothing is left open, as with the methods below:
        SourceUnavailableError.
        """
        self._possible = possible_cpus()
        self.cpus = max(self._possible) + 1
        self.copies = macros.get("COPIES", 1)
        """How often each program is loaded: see bpf/sending.bpf.c."""
        self._type_ids = [
            macros[f"TYPE_OF_{tracepoint}"] if "DIRECT" in macros else None
            for tracepoint in TRACEPOINTS
        ]
        self._maps: dict[str, int] = {}
        self._functions: list[list[int]] = []
        self._links: list[int] = []
        self.rings: PerfRings | None = None
        """The buffers that the programs send to, once they are open."""
        self.is_ours = True
        """Whether this is the process that loaded them, not a child of it."""
        owned_by(self)
        try:
            with momentary:
                for shape in compiled.maps:
                    self._maps[shape.name] = create_map(shape.name, shape[1:])
            self._load(compiled)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise program_refused(error, getattr(error, "log", "")) from error
            raise
        self._layout = struct.Struct(f"={2 * len(KINDS) * self.copies}Q")
        size = self._layout.size * len(self._possible)
        self._counters = self.table("counters", len(_FIRST), size)
        self._counted = b""
        self._found: list[CpuCounters] = []
        self.failing: list[int] = []
        """The CPUs on which samples have failed to be sent, between the last two readings."""

    def _load(self, compiled: Compiled) -> None:
        """Have the kernel verify the programs, as many at a time as there are CPUs."""
        by_name = {function.name: function for function in compiled.functions}

        def load(name: str, type_id: int | None, copy: int) -> int:
            function = by_name[name]
            code = bytes(function.linked(self._maps))
            if self.copies > 1:
                code = numbered(code, copy)
            return load_raw_tracepoint(
                name, code, compiled.license, compiled.kernel_version, type_id
            )

        named = list(zip(TRACEPOINTS.values(), self._type_ids, strict=True))
        wanted = [(*each, copy) for copy in range(self.copies) for each in named]
        with momentary:
            loaded = _side_by_side([partial(load, *each) for each in wanted])
            found = [each for each in loaded if isinstance(each, int)]
            size = len(TRACEPOINTS)
            self._functions = [found[at : at + size] for at in range(0, len(found), size)]
        for each in loaded:
            if not isinstance(each, int):
                raise each

    def open_buffers(self, pages: int) -> None:
        """Open a perf buffer of ``pages`` memory pages on each online CPU."""
        number = struct.Struct("=I")
        events = self.table("events", number.size, number.size)

        def set_ring(cpu: int, fd: int) -> None:
            if not events.put(number.pack(cpu), number.pack(fd)):
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))

        self.rings = PerfRings(set_ring, pages)

    def attach(self) -> None:
        """Attach to the tracepoints; from here on, samples arrive."""
        try:
            self._attach_copies(self._functions)
        except OSError as error:
            raise program_refused(error, "", "attach") from error

    def _attach_copies(self, copies: list[list[int]]) -> None:
        """Attach programs in this order, in which the kernel then runs them."""
        with momentary:
            for programs in copies:
                for name, type_id, program in zip(
                    TRACEPOINTS, self._type_ids, programs, strict=True
                ):
                    tracepoint = name if type_id is None else None
                    self._links.append(open_raw_tracepoint(tracepoint, program))

    def counters(self) -> list[CpuCounters]:
        """Read the counters of every possible CPU."""
        self._counted = self._read_counters()
        kinds = len(KINDS) * self.copies
        found = [CpuCounters((0,) * kinds, (0,) * kinds)] * self.cpus
        for cpu, values in zip(
            self._possible, self._layout.iter_unpack(self._counted), strict=True
        ):
            found[cpu] = CpuCounters(values[:kinds], values[kinds:])
        self.failing = [
            cpu
            for cpu, (now, before) in enumerate(zip(found, self._found, strict=False))
            if now.failed != before.failed
        ]
        self._found = found
        return found

    def is_quiet(self) -> bool:
        """Tell that no sample was begun since the counters were read, nor any CPU has come."""
        followed = self.rings is None or self.rings.is_up_to_date()
        return followed and self._read_counters() == self._counted

    def _read_counters(self) -> bytes:
        return self._counters.get(_FIRST) or b""

    def left_out(self) -> int:
        """Count the events that the filter left out; only of a program that has one."""
        table = self.table("left_out", len(_FIRST), _COUNT.size * len(self._possible))
        counts = table.get(_FIRST) or b""
        return sum(count for (count,) in _COUNT.iter_unpack(counts))

    def table(self, name: str, key_size: int, value_size: int) -> BpfTable:
        """Return one of the program's maps."""
        return BpfTable(self._maps[name], key_size, value_size)

    def missed(self) -> int:
        """Count the runs that the kernel skipped because the program was running already.

        It can only happen where tracepoints are preemptible. An event of which no copy told
        was skipped by all, so there are no more of them than any one was skipped for.
        """
        return sum(
            min(_skipped(program) for program in copies)
            for copies in zip(*self._functions, strict=True)
        )

    def detach(self) -> None:
        """Detach from the tracepoints; samples already sent can still be drained."""
        while self._links:  # the last first: none shall be the first of those left
            os.close(self._links.pop())

    def close(self) -> None:
        """Detach, and free buffers, maps and programs."""
        if not self.is_ours:
            return
        self.detach()
        if self.rings is not None:
            self.rings.close()
            self.rings = None
        while self._functions:
            for program in self._functions.pop():
                os.close(program)
        while self._maps:
            os.close(self._maps.popitem()[1])

    def leave_to_parent(self) -> None:
        """Let go, in a child, of what is its parent's.

        Only what holds the programs to the tracepoints is closed: the parent's detaching would
        be in vain. The buffers see to themselves.
        """
        self.is_ours = False
        self.detach()
