"""The maps of a filter in the kernel (bpf/filter.bpf.c), and what they hold."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from proctree_bpf.codecs.sample_decoder import id_or_none, known_name
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.filters.kernel_port import (
    FILE_ROOM,
    FallbackReason,
    FilterFallback,
    KernelProcess,
    innermost_first,
)
from proctree_bpf.sources.base import failing_as
from proctree_bpf.sources.system.clock import boottime_ns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from proctree_bpf.filters.kernel_port import KernelFilterSpec, Seed
    from proctree_bpf.sources.loading.bpf_program import BpfProgram
    from proctree_bpf.sources.loading.bpf_table import BpfTable

# The layouts are in bpf/proctree.h.
_KEY = struct.Struct("=QQ")
_SEED = struct.Struct("=QQQII")
_PROC = struct.Struct("=QQQIIIIIIIIII16s")
_CONTROL = struct.Struct("=II")
_FALLBACK = struct.Struct("=QQ")
_NAME = struct.Struct("=16s")
_FILE = struct.Struct(f"={FILE_ROOM}s")
_UNKNOWN = 2
_FIRST = struct.pack("=I", 0)


def _must_put(table: BpfTable, key: bytes, value: bytes) -> None:
    if not table.put(key, value):
        raise OSError(errno.E2BIG, "a BPF map has no room")


def _pack_key(key: ProcessKey) -> bytes:
    return _KEY.pack(key.start_time_ns, key.pid)


class FilterMaps:
    """Sets the filter of a program that was compiled with one.

    ``max_args_bytes`` is how much of an argument block the program copies. Each method raises
    OSError if the kernel refuses to have its maps read or written.
    """

    def __init__(self, program: BpfProgram, spec: KernelFilterSpec, max_args_bytes: int) -> None:
        self.max_args_bytes = max_args_bytes
        self._procs = program.table("procs", _KEY.size, _PROC.size)
        self._seeds = program.table("seeds", _KEY.size, _SEED.size)
        self._control = program.table("control", len(_FIRST), _CONTROL.size)
        self._fallback = program.table("fallback", len(_FIRST), _FALLBACK.size)
        self._seeded: set[bytes] = set()
        self.generation = 0
        """How often seeds were set."""
        self.is_on = False
        self._must_fall_back = False
        table = program.table("names", _NAME.size, 1)
        for name in spec.names:
            _must_put(table, _NAME.pack(name.encode("utf-8", "surrogateescape")[:15]), b"\1")
        if spec.files:
            table = program.table("files", _FILE.size, 1)
            for path in spec.files:
                _must_put(table, _FILE.pack(innermost_first(path)), b"\1")

    def fallback(self) -> FilterFallback | None:
        """Return why and since when the kernel's side decides nothing, if that is so."""
        since_ns, reason = _FALLBACK.unpack(self._fallback.get(_FIRST) or bytes(_FALLBACK.size))
        return FilterFallback(since_ns, FallbackReason(reason)) if reason else None

    def clear_fallback(self) -> None:
        """Begin anew: what makes it fall back from now on is to be heeded."""
        if not self._must_fall_back:
            _must_put(self._fallback, _FIRST, bytes(_FALLBACK.size))

    def switch_on(self, seeds: Collection[Seed]) -> bool:
        """Leave out in the kernel what does not come from what is followed.

        Returns False, and changes nothing that is in force, if there is no room.
        """
        wanted = {_pack_key(seed.key) for seed in seeds}
        for key in self._seeded - wanted:
            self._seeds.remove(key)
        self._seeded &= wanted
        for seed in seeds:
            key = _pack_key(seed.key)
            creator = seed.creator.start_time_ns, seed.creator.pid
            followed = _UNKNOWN if seed.followed is None else seed.followed
            value = _SEED.pack(*creator, 0, followed, seed.announced)
            if not self._seeds.put(key, value):
                return False
            self._seeded.add(key)
        self.generation += 1
        _must_put(self._control, _FIRST, _CONTROL.pack(1, self.generation))
        self.is_on = True
        return True

    def switch_off(self) -> None:
        """Send everything.

        Raises:
            OSError: it does so only because it was made to fall back, which is for good.
            SourceFailedError: it does not even do so.

        """
        self.is_on = False
        try:
            _must_put(self._control, _FIRST, _CONTROL.pack(0, self.generation))
        except OSError:
            self._must_fall_back = True
            fallback = _FALLBACK.pack(boottime_ns(), FallbackReason.JOINED_LATE)
            with failing_as("the filter in the kernel can neither be read nor switched off"):
                _must_put(self._fallback, _FIRST, fallback)
            raise

    def sweep(self) -> int:
        """Remove the dead that created nothing that is kept; return how many.

        The kernel's side does so by itself, but for those that end while it sends everything.
        """
        entries = {each.key: each for each in self.processes()}
        children: dict[ProcessKey, int] = {}
        for each in entries.values():
            children[each.creator] = children.get(each.creator, 0) + 1
        removable = [e for e in entries.values() if e.exited_ns and not children.get(e.key)]
        removed = 0
        while removable:
            each = removable.pop()
            self._procs.remove(_pack_key(each.key))
            removed += 1
            children[each.creator] -= 1
            creator = entries.get(each.creator)
            if creator is not None and creator.exited_ns and not children[each.creator]:
                removable.append(creator)
        return removed

    def processes(self) -> Iterator[KernelProcess]:
        """Yield what is known of each process; entries may come and go meanwhile."""
        for raw in self._procs.keys():  # noqa: SIM118 - no dict
            value = self._procs.get(raw)
            if value is None:
                continue
            start_ns, tgid = _KEY.unpack(raw)
            creator_ns, creator, exited_ns, *_, uid, gid, _, left_out, comm = _PROC.unpack(value)
            yield KernelProcess(
                ProcessKey(tgid, start_ns),
                ProcessKey(creator, creator_ns),
                exited_ns or None,
                id_or_none(uid),
                id_or_none(gid),
                known_name(comm),
                left_out,
            )
