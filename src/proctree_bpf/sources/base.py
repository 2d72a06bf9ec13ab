"""What every source of events offers, and how one says that it cannot be used."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, runtime_checkable

from proctree_bpf.core.compact import value_of
from proctree_bpf.errors import SourceFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from proctree_bpf.codecs.proc_files import Reading
    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.events import Gap, ProcEvent
    from proctree_bpf.filters.kernel_port import FilterFallback


MOUNT_PROC = "mount it with 'mount -t proc proc /proc'"
"""What to do where there is no ``/proc``."""
MORE_FILES = "let this process have more files open, with 'ulimit -n'"
"""What to do where there is a ``/proc``, but no descriptor to read it with."""


@contextmanager
def failing_as(what: str, remedy: str = "report this as a bug") -> Iterator[None]:
    """Let what the system refuses to a source that runs be the source's failure.

    Raises:
        SourceFailedError: in place of any OSError.

    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise SourceFailedError(f"{what} ({why})", remedy) from error


@dataclass(slots=True)
class Delivery:
    """What one poll of a source brought.

    ``received`` are events in the order of arrival. Every event stamped before
    ``watermark_ns`` (CLOCK_BOOTTIME) is in this delivery or an earlier one, or is
    counted in a gap. ``end`` says that nothing will ever follow. ``fallback`` says that a
    filter in the kernel has stopped to decide.
    """

    watermark_ns: int
    received: Sequence[AnyEvent] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    end: bool = False
    fallback: FilterFallback | None = None

    @property
    def events(self) -> list[ProcEvent]:
        """What was received, as values of ``core.events``."""
        return [value_of(event) for event in self.received]

    @classmethod
    def of(cls, pieces: Sequence[Self]) -> Self:
        """Return deliveries that followed each other as one."""
        return cls(
            pieces[-1].watermark_ns,
            [event for piece in pieces for event in piece.received],
            [gap for piece in pieces for gap in piece.gaps],
            pieces[-1].end,
            next((piece.fallback for piece in reversed(pieces) if piece.fallback), None),
        )


class Waiting(NamedTuple):
    """What a source has received and not delivered yet.

    ``pieces`` says how often ``poll_some`` has something to deliver. ``ring_fill`` is how full the
    fullest of the kernel's buffers was before it was emptied, and ``memory_fill`` how much is taken
    of the room for what was in them, both from 0 to 1. ``late_ns`` is how long the oldest has been
    waiting; 0 if nothing is. ``is_mending`` says that the tree is uncertain until all is done.
    """

    pieces: int
    ring_fill: float
    memory_fill: float
    late_ns: int
    is_mending: bool = False


class Snapshot(NamedTuple):
    """Every process that there was, read between two times (CLOCK_BOOTTIME)."""

    begun_ns: int
    ended_ns: int
    readings: list[Reading]


class EventSource(Protocol):
    """A source of process events. Its methods are called from one thread.

    Each but ``open``, ``close`` and ``stats`` raises SourceFailedError if the source has broken.
    """

    @property
    def name(self) -> str:
        """What ``proctree.source`` says: bpf, proc-connector, proc-walker or replay."""

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """What it cannot know, a clause each; empty if it knows all."""

    def open(self) -> None:
        """Start to receive events.

        Raises:
            SourceUnavailableError: it cannot be used; nothing is left open.

        """

    def poll(self) -> Delivery:
        """Return at once with all that has arrived since the last call."""

    def is_quiet(self) -> bool:
        """Tell, for much less than a poll costs, that nothing has come since the last one.

        What is still on its way does not count.
        """

    def read_snapshot(
        self, progress: Callable[[], object], not_before_ns: int = 0
    ) -> Snapshot | None:
        """Read every process that there is, calling ``progress`` now and then.

        Returns None if ``not_before_ns`` has not come yet. A recording has its snapshots
        where they were taken, so it does not ask for the time.
        """

    def now_ns(self) -> int:
        """Return the present time of its events' clock, CLOCK_BOOTTIME."""

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when events are waiting, if it has one."""

    def stop(self) -> None:
        """Receive nothing new; what was received before still comes from ``poll``."""

    def close(self) -> None:
        """Give everything back to the kernel. May be called twice."""

    def stats(self) -> dict[str, Any]:
        """Return what was received and lost, and how long each phase of ``open`` took."""


@runtime_checkable
class BufferedSource(EventSource, Protocol):
    """A source that can take what comes from the kernel now and decode it later."""

    def receive(self) -> Waiting:
        """Empty the kernel's buffers, for much less than ``poll`` costs; tell what waits for it."""

    def poll_some(self) -> Delivery:
        """Return what was received first, a piece that is soon done."""

    def undelivered(self) -> int:
        """Count the events that were received, or wait in the kernel's buffers."""
