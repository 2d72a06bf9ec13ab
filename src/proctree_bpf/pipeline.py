"""The loop: source -> reorder -> tracker -> filter -> sink.

Start-up attaches first, then reads ``/proc``, then applies what arrived meanwhile, so
no process falls between the two. After a loss, ``/proc`` is read again and the tree is
mended; until then it calls itself uncertain.
"""

from __future__ import annotations

import heapq
import select
import time
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from proctree_bpf.core.compact import value_of
from proctree_bpf.core.events import EVENT_KINDS, Gap
from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.core.snapshot_merger import InFlight
from proctree_bpf.sources.system import procfs
from proctree_bpf.streams.reorder import ReorderBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.model import Entry
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.snapshot_merger import Unreported
    from proctree_bpf.core.tracker import Tracker
    from proctree_bpf.filters.kernel_controller import KernelFilterController
    from proctree_bpf.sinks.base import Sink
    from proctree_bpf.sources.base import EventSource

DEFAULT_INTERVAL_S = 0.02
MAX_INTERVAL_S = 3600
"""So long no buffer lasts; much longer ones cannot even be waited for."""
# The buffers are drained again after this many records, so that a slow sink does not make
# the kernel drop: at most a few ms of work.
_SLICE = 512
# Beyond this many events in memory (some 20 MB) the kernel's buffers may fill, and what
# it drops is counted. Unbounded memory would end worse.
_MAX_HELD = 40_000
_REPAIR_EVERY_NS = 1_000_000_000
_STOP_PATIENCE_S = 3.0
# A source in which nothing happens is only glanced at, which costs those who are watched a
# third of a poll; but sinks are flushed this often.
_REST_S = 0.1


class StopFlag(Protocol):
    """What tells ``run`` to end; a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Tell whether to end."""

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until it is set, so many seconds at the most."""


class RecordFilter(Protocol):
    """Chooses which records are written; ``filters.record_filter.Filter`` is one."""

    def survey(self) -> None:
        """Decide for all that the tree knows now."""

    def admits(self, process_event: ProcessEvent) -> bool:
        """Tell whether a record is wanted; asked for each event, in order."""


@dataclass(slots=True)
class _Repair:
    """A snapshot of ``/proc`` that waits until all older events have been applied."""

    begun_ns: int
    ended_ns: int
    entries: list[Entry]
    unreported: dict[ProcessKey, Unreported] = field(default_factory=dict)
    ends: set[ProcessKey] = field(default_factory=set)
    """Both as a filter in the kernel has noted: see ``filters.kernel_controller.Completed``."""


@dataclass(slots=True)
class PipelineStats:
    """What went through a pipeline."""

    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENT_KINDS.values(), 0))
    hidden: int = 0
    filtered: int = 0
    gaps: int = 0
    lost: int = 0
    repairs: int = 0
    snapshot: int = 0
    snapshot_seconds: float = 0.0


class Pipeline:
    """Runs one source into one tracker and one sink. Used from one thread.

    Args:
        source: where events come from; opened by ``start``, closed by ``close``.
        tracker: what keeps the tree.
        sink: where records go.
        hides: events for which it returns True are applied but not written.
        wanted: what is applied but not wanted by it is not written either.
        start_kernel_filter: called once the source is open; may return what keeps a filter in the
            kernel in step with ``wanted``.

    """

    def __init__(
        self,
        source: EventSource,
        tracker: Tracker,
        sink: Sink,
        *,
        hides: Callable[[AnyEvent], bool] = lambda _event: False,
        wanted: RecordFilter | None = None,
        start_kernel_filter: Callable[[], KernelFilterController | None] = lambda: None,
    ) -> None:
        self.source = source
        self.tracker = tracker
        self.stats = PipelineStats()
        self._sink = sink
        self.hides = hides
        self.wanted = wanted
        self.filter_controller: KernelFilterController | None = None
        self.start_kernel_filter = start_kernel_filter
        self.is_shared = False
        """Whether other threads look at the tree, so that each change needs its lock."""
        self.between: Callable[[], object] = lambda: None
        """Called between pieces of work; what it raises ends them."""
        self.is_due: Callable[[], bool] = lambda: False
        """Tells whether to stop: then nothing that happens later is recorded any more."""
        self.on_left: Callable[[int], object] = lambda _count: None
        """Told how many events are still to be written once the source has stopped."""
        self.on_fill: Callable[[float], object] = lambda _fill: None
        """Told at each poll how full the source's fullest buffer was, from 0 to 1."""
        self.on_crowded: Callable[[], object] = lambda: None
        """Told once that living processes had to be forgotten."""
        self._order = ReorderBuffer()
        # Gaps that wait for their place among the events; the count decides between equals.
        self._gaps: list[tuple[int, int, Gap]] = []
        self._watermark_ns = 0
        self._complete_ns = 0
        self._ended = False
        self._is_broken = False
        self._stopped_ns: int | None = None
        self._was_crowded = False
        self._repair: _Repair | None = None
        self._repair_wanted = False
        self._next_repair_ns = 0

    @property
    def complete_until_ns(self) -> int:
        """The time (CLOCK_BOOTTIME) before which all that happened was written, or lost."""
        return self._complete_ns

    def start(self) -> None:
        """Open the source and take the first snapshot.

        Raises:
            SourceUnavailableError: the source cannot be used.
            SourceFailedError: it broke meanwhile, or ``/proc`` cannot be listed any more.
            FilterError: the filter asks for a process that is not there.

        """
        self.source.open()
        begun = time.perf_counter()
        snapshot = self._read_snapshot()
        in_flight = InFlight(map(value_of, self._order.held()))
        if snapshot is not None:
            self.stats.snapshot = self.tracker.merge_snapshot(snapshot.entries, in_flight)
        self.stats.snapshot_seconds = round(time.perf_counter() - begun, 6)
        self._survey()
        self.filter_controller = self.start_kernel_filter()

    def run(self, stop: StopFlag, interval_s: float = DEFAULT_INTERVAL_S) -> None:
        """Pump until ``stop`` is set or the source has ended.

        A source with a descriptor is polled when that is readable, any other every
        ``interval_s`` seconds, if there is anything new.

        Raises:
            SourceFailedError: the source has broken; see ``give_up``.

        """
        rested_until = 0.0
        descriptor = self.source.fileno()
        readable = select.poll()
        if descriptor is not None:
            readable.register(descriptor, select.POLLIN)
        while not stop.is_set():
            begun = time.monotonic()
            if begun >= rested_until or not self._may_rest():
                self.pump()
                if self._ended:
                    return
                rested_until = begun + _REST_S
            left = max(0.0, interval_s - (time.monotonic() - begun))
            if descriptor is not None:
                readable.poll(left * 1000)
                left = 0.0
            stop.wait(left)

    def _may_rest(self) -> bool:
        """Tell whether the source has nothing new and nothing here waits for the watermark."""
        is_waiting = (
            len(self._order) or self._gaps or self._repair is not None or self._repair_wanted
        )
        if is_waiting or (
            self.filter_controller is not None and not self.filter_controller.is_settled
        ):
            return False
        return self.source.is_quiet()

    def _survey(self) -> None:
        if self.wanted is not None:
            self.wanted.survey()

    def pump(self) -> None:
        """Drain the source once and write everything that is complete."""
        self._poll()
        self._advance()
        self._sink.flush()
        if self.tracker.table.evicted_living and not self._was_crowded:
            self._was_crowded = True
            self.on_crowded()

    def finish(self) -> None:
        """Stop the source and write what its buffers still held.

        Raises:
            SourceFailedError: the source has broken; see ``give_up``.

        """
        stopped_ns = self._stop_source()
        patience = time.monotonic() + _STOP_PATIENCE_S
        self._poll()
        self._advance()
        while self._watermark_ns < stopped_ns and not self._ended:
            if time.monotonic() > patience:
                break
            time.sleep(0.001)
            self._poll()
            self._advance()
        self._apply_repair()
        self._catch_up()
        self._write_before(inf)
        self._sink.flush()
        self._sink.finish()

    def _stop_source(self) -> int:
        """Let nothing more be recorded; return since when."""
        if self._stopped_ns is None:
            self._stopped_ns = self.source.now_ns()
            self.source.stop()
        return self._stopped_ns

    def give_up(self) -> None:
        """Write what a source had told before it broke; it is not asked again.

        The records call the tree uncertain: what belongs between them may be missing.
        """
        self._is_broken = True
        self.tracker.uncertain = True
        if self.filter_controller is not None:
            self.filter_controller.hold_ns = inf
        self._write_before(inf)
        self._sink.flush()
        self._sink.finish()

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def summary(self) -> dict[str, Any]:
        """Return what the statistics file says: shapes are in docs/architecture.md."""
        tracked = self.tracker.stats
        return {
            "source": self.source.name,
            "applied": tracked.applied,
            "duplicates": tracked.duplicates,
            "unchanged": tracked.unchanged,
            "orphans": tracked.orphans,
            "presumed_exits": tracked.presumed_exits,
            "evicted": tracked.evicted,
            "evicted_living": self.tracker.table.evicted_living,
            "expired": tracked.expired,
            "late": self._order.late,
            "written": dict(self.stats.written),
            "hidden": self.stats.hidden,
            "filtered": self.stats.filtered,
            "gaps": self.stats.gaps,
            "repairs": self.stats.repairs,
            "snapshot": {
                "processes": self.stats.snapshot,
                "seconds": self.stats.snapshot_seconds,
            },
            "tree": len(self.tracker.tree),
            "kernel_filter": self.filter_controller.summary()
            if self.filter_controller is not None
            else None,
            **self.source.stats(),
        }

    def _read_snapshot(self, not_before_ns: int = 0) -> _Repair | None:
        snapshot = self.source.read_snapshot(self._poll, not_before_ns)
        if snapshot is None:
            return None
        begun_ns, ended_ns, readings = snapshot
        entries = procfs.link_entries(readings, ended_ns)
        if self.filter_controller is None:
            return _Repair(begun_ns, ended_ns, entries)
        return _Repair(begun_ns, ended_ns, *self.filter_controller.complete(entries))

    def _poll(self) -> None:
        if self._is_broken:
            return
        self.between()
        delivery = self.source.poll()
        self.on_fill(delivery.fill)
        self._ended = delivery.end
        self._order.push(delivery.received)
        self._watermark_ns = max(self._watermark_ns, delivery.watermark_ns)
        if delivery.fallback is not None and self.filter_controller is not None:
            self.filter_controller.fell_back(delivery.fallback)
        for gap in delivery.gaps:
            self._note(gap)

    def _note(self, gap: Gap) -> None:
        self.stats.gaps += 1
        self.stats.lost += gap.count or 0
        self.tracker.note_gap(gap)
        self._repair_wanted = True
        if self.filter_controller is not None:
            self.filter_controller.send_everything(self.source.now_ns())
        heapq.heappush(self._gaps, (gap.until_ns or gap.timestamp_ns, self.stats.gaps, gap))

    def _advance(self) -> None:
        if self._repair is not None and self._watermark_ns >= self._repair.begun_ns:
            self._apply_repair()
        complete_ns = self._watermark_ns  # it goes up while records are written
        self._write_before(complete_ns)
        self._complete_ns = complete_ns
        if self.filter_controller is not None:
            self._complete_ns = int(min(complete_ns, self.filter_controller.hold_ns))
            self._start_filter_if_possible(self.filter_controller, complete_ns)
        # Whatever the source says decides, not the clock: so a recording does the same.
        if self._repair_wanted and self._repair is None:
            self._repair_wanted = False
            self._repair = self._read_snapshot(self._next_repair_ns)
            if self._repair is None:
                self._repair_wanted = True
            else:
                self._next_repair_ns = self._repair.begun_ns + _REPAIR_EVERY_NS

    def _start_filter_if_possible(
        self, controller: KernelFilterController, complete_ns: int
    ) -> None:
        if complete_ns >= controller.hold_ns:
            self._catch_up()
        elif not self.tracker.uncertain:
            controller.advance(self.tracker.table, complete_ns, self.source.now_ns)

    def _catch_up(self) -> None:
        """Learn of all that a filter in the kernel had left out before it fell back.

        What has happened since then is held back meanwhile, as at the start.
        """
        if self.filter_controller is None or self.filter_controller.hold_ns == inf:
            return
        snapshot = self._read_snapshot()
        if snapshot is not None:
            self._poll()  # what was noted last may have been sent since the snapshot's own polls
            in_flight = InFlight(map(value_of, self._order.held()))
            # With a full table the kernel's side has not noted all.
            unreported = None if self.filter_controller.given_up else snapshot.unreported
            self.tracker.reconcile(
                snapshot.entries,
                snapshot.begun_ns,
                snapshot.ended_ns,
                in_flight,
                unreported=unreported,
                ends=snapshot.ends,
            )
            self.tracker.uncertain = self._repair_wanted or self._repair is not None
            self._survey()
        self.filter_controller.caught_up(self.source.now_ns())

    def _apply_repair(self) -> None:
        if self._repair is None:
            return
        if (
            self.filter_controller is not None
            and self.filter_controller.hold_ns < self._repair.begun_ns
        ):
            self._write_before(self.filter_controller.hold_ns)
            self._catch_up()
        self._write_before(self._repair.begun_ns)
        repair, self._repair = self._repair, None
        self.tracker.reconcile(repair.entries, repair.begun_ns, repair.ended_ns, ends=repair.ends)
        self.tracker.uncertain = self._repair_wanted  # more was lost meanwhile
        self.stats.repairs += 1
        self._survey()

    def _write_before(self, watermark_ns: float) -> None:
        if self.filter_controller is not None:
            watermark_ns = min(watermark_ns, self.filter_controller.hold_ns)
        ready = self._order.release(watermark_ns)
        for begin in range(0, len(ready), _SLICE):
            self.between()
            if self._stopped_ns is not None:
                self.on_left(len(ready) - begin + len(self._order))
            elif self.is_due():
                self._stop_source()
            if begin and len(ready) - begin + len(self._order) < _MAX_HELD:
                self._poll()
            self._write(ready[begin : begin + _SLICE])
        self._write_gaps_until(watermark_ns)

    def _write_gaps_until(self, time_ns: float) -> None:
        while self._gaps and self._gaps[0][0] <= time_ns:
            self._sink.gap(heapq.heappop(self._gaps)[2])

    def _applied(self, events: list[AnyEvent]) -> Iterable[tuple[AnyEvent, TrackedProcess | None]]:
        """Apply events one by one, each when the next is asked for."""
        if not self.is_shared:
            return self.tracker.take_all(events)
        return ((event, self.tracker.take_locked(event)) for event in events)

    def _write(self, events: list[AnyEvent]) -> None:
        """Apply events, and write those that are wanted, each as it left its process."""
        gaps, hides, wanted, sink = self._gaps, self.hides, self.wanted, self._sink
        tracker, stats = self.tracker, self.stats
        written = stats.written
        for event, process in self._applied(events):
            if gaps:
                self._write_gaps_until(event.timestamp_ns)
            # Both are asked for every event: they follow who begets whom.
            hidden = hides(event)
            if process is None:
                stats.hidden += hidden
                continue
            told = ProcessEvent(event, process, tracker.uncertain)
            admitted = wanted is None or wanted.admits(told)
            if hidden:
                stats.hidden += 1
            elif admitted:
                written[event.kind] += 1
                sink.write(told)
            else:
                stats.filtered += 1
