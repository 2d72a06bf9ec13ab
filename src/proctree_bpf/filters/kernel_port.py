"""A filter in the kernel, as a filter here sees it: what it is told, and what it tells. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from proctree_bpf.core.identity import ProcessKey

MAX_NAMES = 1024
"""How many names, and files, a filter in the kernel can look for (in filter.bpf.c)."""
FILE_ROOM = 256
"""How many bytes of a path, as ``innermost_first`` has it, it compares."""


class FallbackReason(IntEnum):
    """Why the kernel's side could not decide; ``enum pt_why``."""

    JOINED_LATE = 1
    TABLE_FULL = 2
    TOO_DEEP = 3


class KernelFilterSpec(NamedTuple):
    """Whose descendants a filter in the kernel follows, besides those that are seeded."""

    names: tuple[str, ...] = ()
    """Names (comm)."""
    files: tuple[str, ...] = ()
    """Paths of program files, of those for which ``fits`` holds."""


def fits(path: str) -> bool:
    """Tell whether a filter in the kernel can look for a path: up to 254 bytes."""
    return len(innermost_first(path)) <= FILE_ROOM


def innermost_first(path: str) -> bytes:
    """Return a path as the kernel's side has it: innermost first, each ended by NUL."""
    names = [name for name in path.encode("utf-8", "surrogateescape").split(b"/") if name]
    return b"".join(name + b"\0" for name in reversed(names))


class FilterFallback(NamedTuple):
    """From ``since_ns`` (CLOCK_BOOTTIME) on, everything was sent."""

    since_ns: int
    reason: FallbackReason


class Seed(NamedTuple):
    """What is said of a process before the filter is set.

    ``followed`` is None of one that has ended; ``announced`` says that the reader is to be told of
    its changes, and knows all above it.
    """

    key: ProcessKey
    creator: ProcessKey
    followed: bool | None
    announced: bool


class KernelProcess(NamedTuple):
    """What the BPF side knows of a process: exact, also of one that was never sent."""

    key: ProcessKey
    creator: ProcessKey
    exited_ns: int | None
    uid: int | None
    gid: int | None
    comm: str | None
    """None: it is as it was before the program was attached; so are the ids."""
    exec_left_out: int
    """The generation of the seeds under which its last exec, before the filter fell back, was not
    sent; 0: it was."""


class KernelFilter(Protocol):
    """A filter in the kernel that can be set. Each method raises OSError where that fails."""

    max_args_bytes: int
    """How much of an argument block a sample has."""
    generation: int
    """How often seeds were set."""
    is_on: bool

    def clear_fallback(self) -> None:
        """Begin anew: what makes it fall back from now on is to be heeded."""

    def switch_on(self, seeds: Collection[Seed]) -> bool:
        """Leave out in the kernel what does not come from what is followed.

        Returns False, and changes nothing that is in force, if there is no room.
        """

    def switch_off(self) -> None:
        """Send everything.

        Raises:
            OSError: it does so only because it was made to fall back, which is for good.
            SourceFailedError: it does not even do so.

        """

    def sweep(self) -> int:
        """Remove the dead that created nothing that is kept; return how many."""

    def processes(self) -> Iterator[KernelProcess]:
        """Yield what is known of each process; entries may come and go meanwhile."""
