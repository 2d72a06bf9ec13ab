"""The last resort: walks ``/proc``; needs no privilege and misses what is short-lived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.inputs import Walk
from proctree_bpf.codecs.recording import encode_walk
from proctree_bpf.sources.base import MORE_FILES, MOUNT_PROC, Delivery, failing_as
from proctree_bpf.sources.live import LiveSource
from proctree_bpf.sources.recorder import RecordingProcReader
from proctree_bpf.sources.system import place, procfs
from proctree_bpf.sources.system.causes import unavailable_as
from proctree_bpf.streams.walk import SOURCE, WalkStream

if TYPE_CHECKING:
    from proctree_bpf.sources.recorder import Recorder

DEFAULT_WALK_INTERVAL_S = 0.1
MAX_WALK_INTERVAL_S = 86_400
"""A day: walks so far apart tell of little."""


class WalkerSource(LiveSource):
    """An ``EventSource`` that compares walks of ``/proc``, ``interval_s`` seconds apart."""

    name = SOURCE

    def __init__(
        self,
        interval_s: float = DEFAULT_WALK_INTERVAL_S,
        proc: str = procfs.PROC,
        recorder: Recorder | None = None,
    ) -> None:
        if not 0 <= interval_s <= MAX_WALK_INTERVAL_S:  # not "<" and ">": NaN must not pass
            raise ValueError(
                f"interval_s must be from 0 to {MAX_WALK_INTERVAL_S}, not {interval_s}"
            )
        super().__init__(proc, recorder)
        self.blind_spots = (
            f"processes that begin and end within {interval_s * 1000:.0f} ms",
            "exit codes and signals",
            "exact times of events",
            "who created an orphan, and who adopts it later",
            "a change of user, until it calls exec",
        )
        self._interval_ns = int(interval_s * 1_000_000_000)
        self._reader = RecordingProcReader(procfs.LiveProcReader(proc))
        self._stream = WalkStream(self._reader)
        self._next_ns = 0
        self._watermark_ns = 0
        self._last: Delivery | None = None

    def open(self) -> None:
        """Look whether ``/proc`` can be listed, and is of this place; the first poll walks."""
        if self.proc == procfs.PROC:
            place.require(place.proc_trouble())
            limits = filter(None, (place.hiding(), place.unmapped_users()))
            self.blind_spots += tuple(limit.reason for limit in limits)
        with unavailable_as(f"{self.proc} cannot be listed", MOUNT_PROC):
            procfs.list_pids(self.proc)
        if self.recorder is not None:
            self.recorder.begin(self.name, blind_spots=self.blind_spots)

    def poll(self) -> Delivery:
        """Walk if it is time to."""
        if self._last is not None:
            delivery, self._last = self._last, Delivery(self._watermark_ns)
            return delivery
        if self.now_ns() < self._next_ns:
            return Delivery(self._watermark_ns)
        return self._walk()

    def _walk(self) -> Delivery:
        now_ns = self.now_ns()
        self._next_ns = now_ns + self._interval_ns
        with failing_as(f"{self.proc} cannot be listed any more", MOUNT_PROC):
            walk = Walk(now_ns, list(procfs.iter_stats(self.proc)))
        with failing_as(f"{self.proc} cannot be read any more", MORE_FILES):
            events, self._watermark_ns = self._stream.feed(walk)
        answers = self._reader.take()
        if self.recorder is not None:
            self.recorder.write(encode_walk(walk, answers))
        return Delivery(self._watermark_ns, events)

    def stop(self) -> None:
        """Walk for the last time; the next poll tells of it."""
        if self._last is None:
            self._last = self._walk()

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def stats(self) -> dict[str, Any]:
        """Return how many walks there were."""
        return {"startup_seconds": {}, **self._stream.summary()}
