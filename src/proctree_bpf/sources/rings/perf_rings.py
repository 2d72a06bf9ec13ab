"""The perf rings of all CPUs, which come and go with them.

A BPF program sends each sample to the ring of the CPU it runs on. Each drain reads which CPUs
are online, for a microsecond: one without a ring gets one, and that of one that has gone
is read to its end and closed. Nothing can be opened for a CPU beforehand (ENODEV), so what it
sends between its start and the next drain is lost, and counted by the BPF side. So it is
where a CPU goes and comes between two drains: its perf event has died without a trace in that
list. Then the next sample on it fails, and the caller, who counts failures, says so.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.errors import Refusal, SourceUnavailableError
from proctree_bpf.sources.rings.perf_ring import Barrier, OfflineError, PerfEvent
from proctree_bpf.sources.system.causes import unavailable_as
from proctree_bpf.sources.system.forks import owned_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ONLINE, _POSSIBLE = (Path("/sys/devices/system/cpu", name) for name in ("online", "possible"))
_LONGEST_LIST = 4096  # a page, as all that sysfs shows
# A ring that is this full is why samples failed.
_MUCH = 0.5
_TRIED_AGAIN_AFTER_S = 1.0


def cpus_in(text: bytes) -> set[int]:
    """Return the CPUs of a list such as ``0-3,8``."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(b",")):
        first, _, last = part.partition(b"-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def _opened_list(path: Path) -> int:
    with unavailable_as(f"{path}, the list of CPUs, cannot be read", "mount sysfs on /sys"):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def possible_cpus() -> list[int]:
    """Return the CPUs for which the kernel keeps per-CPU values, ascending."""
    with os.fdopen(_opened_list(_POSSIBLE), "rb") as file:
        return sorted(cpus_in(file.read()))


class PerfRings:
    """A ring for each CPU that is online; used by one thread.

    If the kernel refuses one of the first, nothing is left open: SourceUnavailableError.

    Args:
        set_ring: tells BPF's array of perf events (CPU, descriptor); OSError if it cannot.
        pages: the size of each ring, a power of two.
        online: where the kernel lists the CPUs that are online.

    """

    def __init__(
        self, set_ring: Callable[[int, int], None], pages: int, online: Path = _ONLINE
    ) -> None:
        self._set_ring = set_ring
        self._pages = pages
        self._barrier = Barrier()
        self._events: dict[int, PerfEvent] = {}
        self._known = b""
        self._tried_s = 0.0
        self.refused: dict[int, SourceUnavailableError] = {}
        """CPUs that came online and cannot be heard, and why."""
        self._online_fd = _opened_list(online)
        owned_by(self)
        try:
            self._known = self._list()
            for cpu in sorted(cpus_in(self._known)):
                with suppress(OfflineError):
                    self._open(cpu)
        except BaseException:
            self.close()
            raise

    def _list(self) -> bytes:
        return os.pread(self._online_fd, _LONGEST_LIST, 0)

    def _open(self, cpu: int) -> None:
        """Open the ring of a CPU, in the place of the one that it may have had."""
        event = PerfEvent(cpu, self._pages)
        try:
            self._set_ring(cpu, event.fd)
        except BaseException as error:
            event.close()
            if not isinstance(error, OSError):
                raise
            raise SourceUnavailableError(
                f"the perf buffer of CPU {cpu} could not be handed to BPF ({error.strerror})",
                "report this as a bug",
                Refusal.BROKEN,
            ) from error
        self._events[cpu] = event

    def cpus(self) -> list[int]:
        """Return the CPUs that have a ring."""
        return sorted(self._events)

    def fill(self) -> float:
        """Return what share of a ring waits to be read, of the one where it is greatest."""
        return max((event.ring.fill() for event in self._events.values()), default=0.0)

    def is_up_to_date(self) -> bool:
        """Tell that no CPU has come or gone since the last drain."""
        return self._online_fd < 0 or self._list() == self._known

    def take(self, failing: Iterable[int] = ()) -> list[tuple[int, bytes]]:
        """Empty the rings; return what was in each: its CPU, and perf records.

        ``failing``: the CPUs on which samples have failed to be sent since the last time.
        """
        if self._online_fd < 0:
            return []
        # Before the rings are read: who has gone by now writes nothing after that.
        online = self._list()
        dead = [cpu for cpu in failing if self._has_died(cpu)]
        taken = self._empty()
        if online != self._known or dead or self._is_due():
            self._follow(online, dead)
        return taken

    def _empty(self) -> list[tuple[int, bytes]]:
        found = [
            (event.cpu, event.ring, event.ring.head())
            for event in self._events.values()
            if event.ring.waiting()
        ]
        if not found:
            return []
        self._barrier()
        taken = [(cpu, ring.copy(head)) for cpu, ring, head in found]
        self._barrier()
        for _, ring, head in found:
            ring.release(head)
        return taken

    def _has_died(self, cpu: int) -> bool:
        event = self._events.get(cpu)
        return event is not None and event.ring.fill() < _MUCH and event.is_dead()

    def _is_due(self) -> bool:
        return bool(self.refused) and time.monotonic() - self._tried_s > _TRIED_AGAIN_AFTER_S

    def _follow(self, online: bytes, dead: list[int]) -> None:
        """Have rings for the CPUs that are online; those of ``dead`` are no good any more."""
        wanted = cpus_in(online)
        for cpu in {*(self._events.keys() - wanted), *dead}:
            self._events.pop(cpu).close()
        self._known = online
        self._tried_s = time.monotonic()
        self.refused.clear()
        for cpu in sorted(wanted - self._events.keys()):
            try:
                self._open(cpu)
            except OfflineError:  # not quite there yet, or gone again
                self._known = b""
            except SourceUnavailableError as error:
                self.refused[cpu] = error

    def close(self) -> None:
        """Give everything back to the kernel. May be called twice."""
        while self._events:
            self._events.popitem()[1].close()
        self._close_list()

    def leave_to_parent(self) -> None:
        """Let go, in a child, of what is its parent's."""
        while self._events:
            self._events.popitem()[1].leave_to_parent()
        self._close_list()

    def _close_list(self) -> None:
        if self._online_fd >= 0:
            os.close(self._online_fd)
            self._online_fd = -1
