"""The loop: source -> reorder -> tracker -> filter -> sink.

Start-up attaches first, then reads ``/proc``, then applies what arrived meanwhile, so
no process falls between the two. After a loss, ``/proc`` is read again and the tree is
mended; until then it calls itself uncertain.
"""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.errors import SourceFailedError
from proctree_bpf.intake import Intake
from proctree_bpf.pipeline_ports import PipelineHooks, Selection
from proctree_bpf.repair import TreeRepair
from proctree_bpf.sources.base import failing_as
from proctree_bpf.streams.gap_queue import GapQueue
from proctree_bpf.streams.reorder import ReorderBuffer

if TYPE_CHECKING:
    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.tracker import Tracker
    from proctree_bpf.filters.kernel_controller import KernelFilterController
    from proctree_bpf.pipeline_ports import StopFlag
    from proctree_bpf.sinks.base import Sink
    from proctree_bpf.sources.base import Delivery, EventSource

DEFAULT_INTERVAL_S = 0.02
MAX_INTERVAL_S = 3600
"""So long no buffer lasts; much longer ones cannot even be waited for."""
# So many events are applied and written at once, before anything else gets its turn. Sources
# that can only poll are polled after a multiple of it (``intake``).
_PIECE = 128
_STOP_PATIENCE_S = 3.0
# A source in which nothing happens is only glanced at, which costs those who are watched a
# third of a poll; but sinks are flushed this often.
_REST_S = 0.1


@dataclass(slots=True)
class PipelineStats:
    """What went through a pipeline."""

    written: dict[str, int]
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
        selection: which records go there.
        hooks: who is asked whether to go on, and told how it goes.
        is_shared: whether other threads look at the tree, so that each change needs its lock.

    """

    def __init__(
        self,
        source: EventSource,
        tracker: Tracker,
        sink: Sink,
        selection: Selection | None = None,
        *,
        hooks: PipelineHooks | None = None,
        is_shared: bool = False,
    ) -> None:
        self.source = source
        self.tracker = tracker
        self.filter_controller: KernelFilterController | None = None
        """What keeps a filter in the kernel in step, if there is one; from ``start`` on."""
        self._sink = sink
        self._selection = selection or Selection()
        self._hooks = hooks or PipelineHooks()
        self._is_shared = is_shared
        self.stats = PipelineStats(dict.fromkeys(self._selection.kinds.values(), 0))
        self._order = ReorderBuffer()
        self._gaps = GapQueue()
        self._intake = Intake(source, self._hooks, self._take_over)
        self._repair = TreeRepair(source, tracker, self._order, self._intake, self._survey)
        self._watermark_ns = 0
        self._complete_ns = 0
        self.ended = False
        """Whether the source has told all that it ever will."""
        self._stopped_ns: int | None = None
        self._has_told_of_eviction = False

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
        self.stats.snapshot = self._repair.take_first_snapshot()
        self.stats.snapshot_seconds = round(time.perf_counter() - begun, 6)
        self._survey()
        self.filter_controller = self._repair.filter_controller = (
            self._selection.start_kernel_filter(self.source)
        )

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
                if self.ended:
                    return
                rested_until = begun + _REST_S
            left = max(0.0, interval_s - (time.monotonic() - begun))
            if self._intake.is_behind:
                left = 0.0
            if descriptor is not None:
                with failing_as("the source cannot be waited for"):
                    readable.poll(left * 1000)
                left = 0.0
            stop.wait(left)

    def _may_rest(self) -> bool:
        """Tell whether the source has nothing new and nothing here waits for the watermark."""
        if len(self._order) or self._gaps.next_ns < inf or self._repair.is_needed:
            return False
        if self.filter_controller is not None and not self.filter_controller.is_settled:
            return False
        return self.source.is_quiet()

    def _survey(self) -> None:
        self._selection.meet(self.tracker.table)
        if self._selection.wanted is not None:
            self._selection.wanted.survey()

    def pump(self) -> None:
        """Receive what there is, work on what came first, and write everything complete."""
        self._intake.take_some()
        self._advance()
        self._sink.flush()
        self._hooks.before_receiving()
        if self.tracker.table.evicted_living and not self._has_told_of_eviction:
            self._has_told_of_eviction = True
            self._hooks.on_evicted_living()

    def finish(self) -> None:
        """Stop the source and write what its buffers still held.

        Raises:
            SourceFailedError: the source has broken; see ``give_up``.

        """
        stopped_ns = self._stop_source()
        patience = time.monotonic() + _STOP_PATIENCE_S
        while True:
            self._intake.take_some()
            self._advance()
            if self._watermark_ns >= stopped_ns or self.ended:
                break
            if self._intake.is_behind:
                patience = time.monotonic() + _STOP_PATIENCE_S
            elif time.monotonic() > patience:
                break
            else:
                time.sleep(0.001)
        self._apply_repair()
        self._repair.catch_up()
        self._write_before(inf)
        self._sink.flush()
        self._sink.finish()

    def _stop_source(self) -> int:
        """Let nothing more be recorded; return since when."""
        if self._stopped_ns is None:
            self._stopped_ns = self.source.now_ns()
            self._intake.is_stopped = True
            self._hooks.before_finishing()
            self.source.stop()
        return self._stopped_ns

    def give_up(self) -> None:
        """Write what a source had told before it broke; it is not asked again.

        The records call the tree uncertain: what belongs between them may be missing.
        """
        self._intake.is_broken = True
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
        """Return what the statistics file says: its members are in docs/statistics.md."""
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
            "repair_seconds": round(self._repair.longest_ns / 1e9, 6),
            "snapshot": {"processes": self.stats.snapshot, "seconds": self.stats.snapshot_seconds},
            "tree": len(self.tracker.tree),
            "kernel_filter": self.filter_controller.summary()
            if self.filter_controller is not None
            else None,
            **self.source.stats(),
        }

    def _take_over(self, delivery: Delivery) -> None:
        self.ended = delivery.end
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
        self._repair.request(gap.until_ns or gap.timestamp_ns)
        if self.filter_controller is not None:
            self.filter_controller.send_everything(self.source.now_ns())
        self._gaps.push(gap)

    def _advance(self) -> None:
        complete_ns = self._watermark_ns  # it goes up while records are written
        repair = self._repair.pending
        if repair is not None and complete_ns > repair.ended_ns:
            self._apply_repair()
        elif repair is not None:
            complete_ns = min(complete_ns, repair.begun_ns)
        self._write_before(complete_ns)
        self._complete_ns = complete_ns
        if self.filter_controller is not None:
            self._complete_ns = int(min(complete_ns, self.filter_controller.hold_ns))
            self._start_filter_if_possible(self.filter_controller, complete_ns)
        self._repair.begin()

    def _start_filter_if_possible(
        self, controller: KernelFilterController, complete_ns: int
    ) -> None:
        if complete_ns >= controller.hold_ns:
            self._repair.catch_up()
        elif not self.tracker.uncertain:
            table = self.tracker.table
            controller.advance(table, complete_ns, self.source.now_ns)
            self.tracker.doubt_names_of(controller.left_out(table, complete_ns))

    def _apply_repair(self) -> None:
        repair = self._repair.pending
        if repair is None:
            return
        if self.filter_controller is not None and self.filter_controller.hold_ns < repair.begun_ns:
            self._write_before(self.filter_controller.hold_ns)
            self._repair.catch_up()
        self._write_before(repair.begun_ns)
        self._repair.apply()
        self.stats.repairs += 1

    def _write_before(self, watermark_ns: float) -> None:
        if self.filter_controller is not None:
            watermark_ns = min(watermark_ns, self.filter_controller.hold_ns)
        ready = self._order.release(watermark_ns)
        for begin in range(0, len(ready), _PIECE):
            piece = ready[begin : begin + _PIECE]
            left = len(ready) - begin + len(self._order)
            try:
                self._between_pieces(begin, left, piece[0].timestamp_ns)
            except SourceFailedError:
                self._order.put_back(ready[begin:])
                raise
            self._write(piece)
        self._write_gaps_until(watermark_ns)

    def _between_pieces(self, worked: int, left: int, oldest_ns: int) -> None:
        self._hooks.check()
        if self._stopped_ns is not None:
            self._hooks.on_backlog(left + self._intake.undelivered())
        elif self._hooks.is_due() and not self._intake.is_broken:
            self._stop_source()
        if worked:
            self._intake.keep_up_in_time(worked, left, oldest_ns)

    def _write_gaps_until(self, time_ns: float) -> None:
        for gap in self._gaps.pop_until(time_ns):
            self._sink.gap(gap)

    def _write(self, events: list[AnyEvent]) -> None:
        """Apply events, and write those that are wanted, each as it left its process."""
        selection, gaps, sink = self._selection, self._gaps, self._sink
        hides, hides_only, wanted = selection.hides, selection.hides_only, selection.wanted
        tracker, stats = self.tracker, self.stats
        written, uncertain = stats.written, tracker.uncertain
        take_all = tracker.take_all_locked if self._is_shared else tracker.take_all
        has_gaps = gaps.next_ns <= events[-1].timestamp_ns
        for event, process in take_all(events):
            if has_gaps and gaps.next_ns <= event.timestamp_ns:
                self._write_gaps_until(event.timestamp_ns)
            # Both are asked for every event that is their business: they follow who creates whom.
            hidden = (
                hides_only is None
                or process is None
                or process.ppid in hides_only
                or process.pid in hides_only
                or process.parent is not None
            ) and hides(event)
            if process is None:
                stats.hidden += hidden
                continue
            told, admitted, kind = None, True, event.kind
            if wanted is not None or kind in written:
                told = ProcessEvent(event, process, uncertain or process.details_in.is_over)
                admitted = wanted is None or wanted.admits(told)
            if hidden:
                stats.hidden += 1
            elif not admitted:
                stats.filtered += 1
            elif told is not None and kind in written:
                written[kind] += 1
                sink.write(told)
