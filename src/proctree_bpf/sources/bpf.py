"""The exact source: BPF programs on the scheduler's tracepoints."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.recording import encode_drain
from proctree_bpf.errors import Refusal, SourceUnavailableError
from proctree_bpf.sources.base import Delivery, Waiting, failing_as
from proctree_bpf.sources.live import LiveSource
from proctree_bpf.sources.loading.bpf_program import BpfProgram
from proctree_bpf.sources.loading.filter_maps import FilterMaps
from proctree_bpf.sources.loading.program_cache import default_directory
from proctree_bpf.sources.loading.programs import Programs, ProgramSource, Wanted
from proctree_bpf.sources.rings.backlog import Backlog, Taken
from proctree_bpf.sources.rings.perf_ring import LockedMemoryError
from proctree_bpf.sources.system import place
from proctree_bpf.sources.system.clock import boottime_ns
from proctree_bpf.sources.system.privilege import (
    how_to_gain,
    in_initial_pid_namespace,
    may_load_bpf,
)
from proctree_bpf.sources.system.procfs import MAX_ARGS_BYTES
from proctree_bpf.streams.perf import MISSES_ASKED_EVERY_NS, PerfStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.codecs.inputs import CpuCounters
    from proctree_bpf.filters.kernel_port import KernelFilterSpec
    from proctree_bpf.sources.recorder import Recorder

BTF_PATH = Path("/sys/kernel/btf/vmlinux")
_UNREADABLE = "what the BPF programs have counted and sent cannot be read any more"
DEFAULT_ARGS_BYTES = 4096


_LEAST_DEFAULT_PAGES = 256


def _pages_for(cpus: int) -> int:
    """Return the pages of a CPU's buffer: 8 MiB, or less where there are many CPUs."""
    return max(_LEAST_DEFAULT_PAGES, min(2048, 1 << (8192 // cpus).bit_length() - 1))


DEFAULT_PERF_PAGES = _pages_for(os.cpu_count() or 1)
MAX_PERF_PAGES = 16_384
DEFAULT_FILTER_SLOTS = 65_536
_MOST = {
    "max_args_bytes": MAX_ARGS_BYTES,
    "perf_pages": MAX_PERF_PAGES,
    "filter_slots": 2**32 - 1,  # of what the kernel can count; it may refuse less
}


@dataclass(frozen=True, slots=True)
class BpfOptions:
    """How to run the BPF source.

    ``max_args_bytes`` (up to 32 KiB) limits what is copied of an argument block;
    ``perf_pages`` is the size of each CPU's perf buffer in pages, a power of two up to 16 384. If
    ``kernel_filter_spec`` is not None, the kernel's side can leave out what does not come from what
    it names, or from others that are seeded; it knows up to ``filter_slots`` processes.
    Compiled programs are kept in ``program_cache`` for the next start, unless it is None.
    """

    max_args_bytes: int = DEFAULT_ARGS_BYTES
    perf_pages: int = DEFAULT_PERF_PAGES
    btf_path: Path = BTF_PATH
    kernel_filter_spec: KernelFilterSpec | None = None
    filter_slots: int = DEFAULT_FILTER_SLOTS
    program_cache: Path | None = field(default_factory=default_directory)

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            # They become constants of a C program, where only integers mean what they say.
            if type(value) is not int or not 0 < value <= most:
                raise ValueError(f"{name} must be an integer between 1 and {most}")
        if self.perf_pages & (self.perf_pages - 1):
            raise ValueError("perf_pages must be a power of two")


class BpfSource(LiveSource):
    """An ``EventSource`` that receives each fork, exec and exit from BPF programs."""

    name = "bpf"

    def __init__(self, options: BpfOptions | None = None, recorder: Recorder | None = None) -> None:
        super().__init__(recorder=recorder)
        self._options = options or BpfOptions()
        self._program: BpfProgram | None = None
        self._stream: PerfStream | None = None
        self._seconds: dict[str, float] = {}
        self.kernel_filter: FilterMaps | None = None
        """The filter in the kernel, once open, if ``kernel_filter_spec`` asked for one."""
        self.filter_refusal: SourceUnavailableError | None = None
        """Why there is none although it was asked for: all is sent then."""
        self._was_kept = False
        self._backlog = Backlog()
        self._counters: list[CpuCounters] = []
        self._missed = 0
        self._next_misses_ns = 0

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - begun, 6)

    def open(self) -> None:
        """Compile, open the buffers, attach."""
        self._check_place()
        with self._phase("btf"):
            source = ProgramSource(self._options.btf_path, self._options.program_cache)
        program, programs, spec = self._load_best(source)
        if "HAVE_REAPER" not in programs.macros:
            self.blind_spots = ("who adopts an orphan, until its next exec or exit",)
        try:
            if self._options.btf_path == BTF_PATH:  # what programs read depends on it
                place.require(place.sys_trouble(BTF_PATH))
            with self._phase("attach"):
                self._open_buffers(program)
                started_ns = boottime_ns()
                self._stream = PerfStream(self.name, program.cpus, started_ns, program.copies)
                if spec is not None:
                    self._set_up_filter(program, spec)
                program.attach()
            if self.recorder is not None:
                self.recorder.begin(
                    self.name, cpus=program.cpus, started_ns=started_ns, offsets=programs.macros,
                    **({"blind_spots": self.blind_spots} if self.blind_spots else {}),
                )  # fmt: skip
        except BaseException:
            program.close()
            raise
        self._program = program

    def _open_buffers(self, program: BpfProgram) -> None:
        """Open the buffers; those of the usual size may be smaller if not so much can be locked."""
        pages = self._options.perf_pages
        least = _LEAST_DEFAULT_PAGES if pages == DEFAULT_PERF_PAGES else pages
        while True:
            try:
                program.open_buffers(pages)
            except LockedMemoryError:
                if pages <= least:
                    raise
                pages //= 2
            else:
                return

    def _load_best(
        self, source: ProgramSource
    ) -> tuple[BpfProgram, Programs, KernelFilterSpec | None]:
        """Load the programs with the filter that is wanted; if only that cannot be, without it."""
        options = self._options
        spec = options.kernel_filter_spec
        if spec is not None:
            wanted = Wanted(options.max_args_bytes, options.filter_slots, bool(spec.files))
            try:
                return *self._load(source, wanted), spec
            except SourceUnavailableError as error:
                if error.refusal is not Refusal.BROKEN:
                    raise
                # Without its traceback, which holds what was built of the program.
                self.filter_refusal = SourceUnavailableError(
                    error.reason, error.remedy, error.refusal, error.log
                )
        return *self._load(source, Wanted(options.max_args_bytes)), None

    def _load(self, source: ProgramSource, wanted: Wanted) -> tuple[BpfProgram, Programs]:
        """Load programs that are kept; compile them if there are none, or they are refused."""
        begun = time.perf_counter()
        programs = source.kept(wanted)
        program = None
        if programs is not None:
            try:
                program = BpfProgram(programs.compiled, programs.macros)
            except (SourceUnavailableError, LookupError, ValueError) as error:
                if getattr(error, "refusal", Refusal.BROKEN) is not Refusal.BROKEN:
                    raise
        if programs is None or program is None:
            programs, program = self._compile(source, wanted)
            source.keep(wanted, programs)
        seconds = time.perf_counter() - begun
        self._seconds["import_bcc"] = round(programs.import_seconds, 6)
        self._seconds["compile"] = round(seconds - programs.import_seconds, 6)
        self._was_kept = programs.is_kept
        return program, programs

    def _compile(self, source: ProgramSource, wanted: Wanted) -> tuple[Programs, BpfProgram]:
        """Compile programs that read by plain loads; if the kernel refuses those, by a helper."""
        programs = source.compile(wanted)
        try:
            return programs, BpfProgram(programs.compiled, programs.macros)
        except SourceUnavailableError as error:
            if error.refusal is not Refusal.BROKEN or "DIRECT" not in programs.macros:
                raise
        programs = source.compile(wanted, direct=False)
        return programs, BpfProgram(programs.compiled, programs.macros)

    def _set_up_filter(self, program: BpfProgram, spec: KernelFilterSpec) -> None:
        """Say what is sought; if that cannot be said, the program sends everything."""
        try:
            self.kernel_filter = FilterMaps(program, spec, self._options.max_args_bytes)
        except OSError as error:
            self.filter_refusal = SourceUnavailableError(
                str(error.strerror), "report this as a bug", Refusal.BROKEN
            )

    def _check_place(self) -> None:
        place.require(place.proc_trouble())
        if not may_load_bpf():
            raise SourceUnavailableError(
                "BPF needs root, or the capabilities CAP_BPF and CAP_PERFMON",
                how_to_gain(),
                Refusal.PRIVILEGE,
            )
        if not in_initial_pid_namespace():
            raise SourceUnavailableError(
                "this is a container with PIDs of its own, which BPF does not see",
                "run it on the host, or start the container with the host's PID namespace",
            )
        place.require(place.hiding())

    def poll(self) -> Delivery:
        """Empty the buffers, and decode all that was in them; return at once."""
        self.receive()
        pieces = [self.poll_some()]
        while self._backlog:
            pieces.append(self.poll_some())
        return Delivery.of(pieces)

    def receive(self) -> Waiting:
        """Empty the buffers, unless what waits to be decoded has no room any more."""
        program, backlog = self._program, self._backlog
        if program is None or program.rings is None:
            raise RuntimeError("the source is not open")
        if not program.is_ours:
            raise RuntimeError("the source is the parent process's")
        # The order of these three makes the watermark exact; see streams/loss_accounting.py.
        taken_ns = boottime_ns()
        fill = program.rings.fill()
        if backlog.fill < 1:
            if taken_ns >= self._next_misses_ns:
                # Before the rings: what a process did before its miss is among what they have.
                self._next_misses_ns = taken_ns + MISSES_ASKED_EVERY_NS
                self._missed = program.missed()
            with failing_as(_UNREADABLE):
                counters = self._counters = program.counters()
                chunks = program.rings.take(program.failing)
                # After the rings: whoever has the sample that raised it can see the fallback.
                fallback = self.kernel_filter.fallback() if self.kernel_filter is not None else None
            taken = Taken(taken_ns, taken_ns, counters, chunks, self._missed, fallback)
            backlog.append(taken)
            if self.recorder is not None:
                self.recorder.write(encode_drain(taken.drain()))
        late_ns = taken_ns - (backlog.since_ns or taken_ns)
        return Waiting(len(backlog), fill, backlog.fill, late_ns)

    def poll_some(self) -> Delivery:
        """Decode what was taken from the buffers at one moment, first what came first."""
        if not self._backlog:
            self.receive()
        if self._stream is None:
            raise RuntimeError("the source is not open")
        taken = self._backlog.popleft()
        events, gaps, watermark_ns = self._stream.feed(taken.drain())
        return Delivery(watermark_ns, events, gaps, fallback=taken.fallback)

    def undelivered(self) -> int:
        """Count the samples that were begun and neither delivered nor told to be lost."""
        return 0 if self._stream is None else self._stream.outstanding(self._counters)

    def is_quiet(self) -> bool:
        """Tell that no sample was begun since the last poll."""
        with failing_as(_UNREADABLE):
            return self._program is not None and not self._backlog and self._program.is_quiet()

    def stop(self) -> None:
        """Detach; what was received before still comes from ``poll``."""
        if self._program is not None:
            self._program.detach()
            self._next_misses_ns = 0

    def close(self) -> None:
        """Free the programs, maps and buffers."""
        if self._program is not None:
            self._program.close()
            self._program = None

    def stats(self) -> dict[str, Any]:
        """Return received and lost samples by CPU and kind, and seconds per start-up phase."""
        summary = self._stream.summary() if self._stream is not None else {}
        if self.kernel_filter is not None and self._program is not None:
            with suppress(OSError):  # of a source that has failed nothing can be asked
                summary["dropped_in_kernel"] = self._program.left_out()
        programs = "kept" if self._was_kept else "compiled"
        return {"startup_seconds": dict(self._seconds), "programs": programs, **summary}
