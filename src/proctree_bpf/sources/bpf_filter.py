"""The maps of a filter in the kernel (bpf/filter.bpf.c), and what they hold."""

from __future__ import annotations

import errno
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.codecs.perf_records import id_or_none, noted_name
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.sources.clock import boottime_ns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from proctree_bpf.sources.bpf_program import BpfProgram
    from proctree_bpf.sources.bpf_table import BpfTable

MAX_NAMES = 1024
"""How many names, and files, a filter in the kernel can look for (in filter.bpf.c)."""
_FILE_ROOM = 256

# The layouts are in bpf/proctree.h.
_KEY = struct.Struct("=QQ")
_SEED = struct.Struct("=QQQII")
_PROC = struct.Struct("=QQQIIIIIIIIII16s")
_CONTROL = struct.Struct("=II")
_DOUBT = struct.Struct("=QQ")
_NAME = struct.Struct("=16s")
_FILE = struct.Struct(f"={_FILE_ROOM}s")
_UNKNOWN = 2
_FIRST = struct.pack("=I", 0)


class Why(IntEnum):
    """Why the kernel's side could not decide; ``enum pt_why``."""

    JOINED_LATE = 1
    TABLE_FULL = 2
    TOO_DEEP = 3


class Sought(NamedTuple):
    """Whose descendants a filter in the kernel follows, besides those that are seeded."""

    names: tuple[str, ...] = ()
    """Names (comm)."""
    files: tuple[str, ...] = ()
    """Paths of program files, of those for which ``fits`` holds."""


def fits(path: str) -> bool:
    """Tell whether a filter in the kernel can look for a path: up to 254 bytes."""
    return len(_components(path)) <= _FILE_ROOM


def _components(path: str) -> bytes:
    """Return a path as the kernel's side has it: innermost first, each ended by NUL."""
    names = [name for name in path.encode("utf-8", "surrogateescape").split(b"/") if name]
    return b"".join(name + b"\0" for name in reversed(names))


class Doubt(NamedTuple):
    """From ``since_ns`` (CLOCK_BOOTTIME) on, everything was sent."""

    since_ns: int
    why: Why


class Seed(NamedTuple):
    """What is said of a process before the filter is set.

    ``followed`` is None of one that has ended; ``announced`` says that the reader is to be told of
    its changes, and knows all above it.
    """

    key: ProcessKey
    creator: ProcessKey
    followed: bool | None
    announced: bool


class Noted(NamedTuple):
    """What the BPF side knows of a process: exact, also of one that was never sent."""

    key: ProcessKey
    creator: ProcessKey
    exited_ns: int | None
    uid: int | None
    gid: int | None
    comm: str | None
    """None: it is as it was before the program was attached; so are the ids."""
    exec_left_out: int
    """The generation of the seeds under which its last exec was not sent; 0: it was."""


class StillFilteringError(OSError):
    """The kernel's side leaves out what it should send now, and cannot be told to."""


def _must_put(table: BpfTable, key: bytes, value: bytes) -> None:
    if not table.put(key, value):
        raise OSError(errno.E2BIG, "a BPF map has no room")


def _pack_key(key: ProcessKey) -> bytes:
    return _KEY.pack(key.start_time_ns, key.pid)


class KernelFilter:
    """Sets the filter of a program that was compiled with one.

    ``max_args_bytes`` is how much of an argument block the program copies. Each method raises
    OSError if the kernel refuses to have its maps read or written.
    """

    def __init__(self, program: BpfProgram, sought: Sought, max_args_bytes: int) -> None:
        self.max_args_bytes = max_args_bytes
        self._procs = program.table("procs", _KEY.size, _PROC.size)
        self._seeds = program.table("seeds", _KEY.size, _SEED.size)
        self._control = program.table("control", len(_FIRST), _CONTROL.size)
        self._doubt = program.table("doubt", len(_FIRST), _DOUBT.size)
        self._seeded: set[bytes] = set()
        self.generation = 0
        """How often seeds were set."""
        self.is_on = False
        self._must_doubt = False
        table = program.table("names", _NAME.size, 1)
        for name in sought.names:
            _must_put(table, _NAME.pack(name.encode("utf-8", "surrogateescape")[:15]), b"\1")
        if sought.files:
            table = program.table("files", _FILE.size, 1)
            for path in sought.files:
                _must_put(table, _FILE.pack(_components(path)), b"\1")

    def doubt(self) -> Doubt | None:
        """Return why and since when the kernel's side decides nothing, if that is so."""
        since_ns, why = _DOUBT.unpack(self._doubt.get(_FIRST) or bytes(_DOUBT.size))
        return Doubt(since_ns, Why(why)) if why else None

    def clear_doubt(self) -> None:
        """Begin anew: what raises a doubt from now on is to be heeded."""
        if not self._must_doubt:
            _must_put(self._doubt, _FIRST, bytes(_DOUBT.size))

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
            OSError: it does so only because it was made to doubt, which is for good.
            StillFilteringError: it does not even do so.

        """
        self.is_on = False
        try:
            _must_put(self._control, _FIRST, _CONTROL.pack(0, self.generation))
        except OSError as error:
            self._must_doubt = True
            try:
                _must_put(self._doubt, _FIRST, _DOUBT.pack(boottime_ns(), Why.JOINED_LATE))
            except OSError:
                raise StillFilteringError(*error.args) from error
            raise

    def sweep(self) -> int:
        """Remove the dead that created nothing that is kept; return how many.

        The kernel's side does so by itself, but for those that end while it doubts.
        """
        entries = {each.key: each for each in self.noted()}
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

    def noted(self) -> Iterator[Noted]:
        """Yield what is noted of each process; entries may come and go meanwhile."""
        for raw in self._procs.keys():  # noqa: SIM118 - no dict
            value = self._procs.get(raw)
            if value is None:
                continue
            start_ns, tgid = _KEY.unpack(raw)
            creator_ns, creator, exited_ns, *_, uid, gid, _, left_out, comm = _PROC.unpack(value)
            yield Noted(
                ProcessKey(tgid, start_ns),
                ProcessKey(creator, creator_ns),
                exited_ns or None,
                id_or_none(uid),
                id_or_none(gid),
                noted_name(comm),
                left_out,
            )
