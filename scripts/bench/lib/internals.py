"""The only file of the benchmark that imports the product. Small functions, one seam each.

It is run by the product's own Python, perhaps of an older checkout. When the product changes
inside, only this changes here.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO
from unittest import mock

from made_records import BEGUN_NS, CPUS, KINDS

from proctree_bpf import (
    CacheParams,
    PidTree,
    ProcCache,
    ProcessKey,
    ProcessTree,
    build_chain_string,
    children,
    descendants,
    is_descendant,
    snapshot,
)
from proctree_bpf.cli.tracing.display_options import DisplayOptions, Format
from proctree_bpf.cli.tracing.sink_factory import make_clock, make_sink
from proctree_bpf.codecs.inputs import CpuCounters, Drain
from proctree_bpf.core.events import EVENT_KINDS, Exec, Exit, Fork, Rename
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.sources.base import Delivery
from proctree_bpf.sources.bpf import BpfOptions, BpfSource
from proctree_bpf.sources.system.procfs import uid_to_username
from proctree_bpf.streams.perf import PerfStream
from proctree_bpf.streams.reorder import ReorderBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from made_records import RawDrain

_NOBODY = ProcessKey(4_194_303, 1)


def drain_of(raw: RawDrain) -> Drain:
    """Return a drain as the product has it."""
    none = (0,) * KINDS
    return Drain(raw.taken_ns, [CpuCounters(begun, none) for begun in raw.begun], raw.records)


def new_stream() -> PerfStream:
    """Return what decodes drains and accounts for them."""
    return PerfStream("bpf", CPUS, BEGUN_NS)


class InMemorySource:
    """An ``EventSource`` that has its drains in memory."""

    name = "bpf"
    blind_spots = ()

    def __init__(self, raws: Iterable[RawDrain]) -> None:
        self._stream = new_stream()
        self._drains = iter(raws)
        self._watermark_ns = BEGUN_NS

    def open(self) -> None:
        """Do nothing."""

    def poll(self) -> Delivery:
        """Deliver the next drain."""
        raw = next(self._drains, None)
        if raw is None:
            return Delivery(self._watermark_ns, end=True)
        events, gaps, self._watermark_ns = self._stream.feed(drain_of(raw))
        return Delivery(self._watermark_ns, events, gaps)

    def is_quiet(self) -> bool:
        """Tell that there is more."""
        return False

    def read_snapshot(self, progress: Callable[[], object], not_before_ns: int = 0) -> None:
        """Show no process."""
        del progress, not_before_ns

    def now_ns(self) -> int:
        """Return the time of the last drain."""
        return self._watermark_ns

    def fileno(self) -> int | None:
        """Have no descriptor."""
        return None

    def stop(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def stats(self) -> dict[str, Any]:
        """Have nothing to tell."""
        return {}


def new_stores(capacity: int | None = None) -> tuple[PidTree, ProcCache]:
    """Return an empty tree and an empty cache."""
    params = CacheParams(capacity) if capacity else None
    return PidTree(params), ProcCache(params)


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, _process_event: object) -> None:
        """Drop it."""

    gap = write

    def flush(self) -> None:
        """Do nothing."""

    finish = flush


def new_pipeline(
    raws: Iterable[RawDrain],
    style: str = "",
    terms: str = "",
    out: TextIO | None = None,
    capacity: int | None = None,
) -> Pipeline:
    """Return a pipeline that has been started: no style writes nothing, no terms filter nothing."""
    source = InMemorySource(raws)
    tree, cache = new_stores(capacity)
    tracker = Tracker(tree, cache, uid_to_username)
    sink: Any = _Nowhere()
    if style and out is not None:
        display = DisplayOptions()
        clock = make_clock(display, source, 0)
        sink = make_sink(Format(style), display, out, tracker, source, clock=clock)
    wanted = BoundFilter(Filter.parse(terms), tree, cache) if terms else None
    kinds: dict[type, str] = EVENT_KINDS if style == "tree" else {Exec: "exec", Exit: "exit"}
    selection = Selection(wanted=wanted, kinds=kinds).without(DescendantSet(_NOBODY))
    pipeline = Pipeline(source, tracker, sink, selection)
    pipeline.start()
    return pipeline


def pump(pipeline: Pipeline) -> bool:
    """Take one drain all the way; return whether there was one."""
    pipeline.pump()
    return not pipeline.ended  # run() sleeps between drains


def finish(pipeline: Pipeline) -> None:
    """End a pipeline."""
    pipeline.finish()
    pipeline.close()


def applied_count(pipeline: Pipeline) -> int:
    """Return how many events changed something."""
    return int(pipeline.summary()["applied"])


def gap_count(pipeline: Pipeline) -> int:
    """Return how many losses were noticed."""
    return int(pipeline.summary()["gaps"])


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Look for garbage as rarely as ``trace`` does."""
    from proctree_bpf.cli.tracing import session  # noqa: PLC0415 - the whole command line

    before = gc.get_threshold()
    calm: Callable[[], None] = getattr(session, "_calm_garbage_collector", gc.freeze)
    gc.collect()
    calm()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


# Single stages.


def decode(raws: Iterable[RawDrain]) -> tuple[float, list[tuple[list[Any], int]]]:
    """Decode and account; return CPU seconds, and each drain's events and watermark."""
    stream = new_stream()
    drains = [drain_of(raw) for raw in raws]
    begun = time.process_time()
    fed = [stream.feed(drain) for drain in drains]
    seconds = time.process_time() - begun
    return seconds, [(events, watermark_ns) for events, _, watermark_ns in fed]


def order(decoded: list[tuple[list[Any], int]]) -> tuple[float, list[Any]]:
    """Put events in order; return CPU seconds, and the events."""
    buffer, ready = ReorderBuffer(), []
    begun = time.process_time()
    for events, watermark_ns in decoded:
        buffer.push(events)
        ready += buffer.release(watermark_ns)
    ready += buffer.release(float("inf"))
    return time.process_time() - begun, ready


def apply(events: list[Any]) -> float:
    """Apply events to a tree; return CPU seconds."""
    tracker = Tracker(*new_stores(), uid_to_username)
    # What the pipeline does; ``apply`` makes a copy of what it has done, for whoever keeps it.
    take_all = getattr(tracker, "take_all", partial(map, tracker.apply))
    begun = time.process_time()
    deque(take_all(events), 0)
    return time.process_time() - begun


def drain_live(load: Callable[[], object], pages: int) -> tuple[float, int]:
    """Let ``load`` fill the buffers; return the CPU seconds of draining them, and the records."""
    drained: list[Drain] = []

    def keep(_stream: PerfStream, drain: Drain) -> tuple[list[Any], list[Any], int]:
        drained.append(drain)
        return [], [], drain.taken_ns

    source = BpfSource(BpfOptions(perf_pages=pages))
    source.open()
    try:
        with mock.patch.object(PerfStream, "feed", keep):
            source.poll()
            drained.clear()
            load()
            begun = time.process_time()
            source.poll()
            return time.process_time() - begun, sum(len(drain.samples) for drain in drained)
    finally:
        source.close()


# Questions.


class QueryTree:
    """A tree of so many nodes, with one chain of the given depth that begins at a root."""

    top_name = "top"

    def __init__(self, nodes: int, depth: int) -> None:
        self._front = ProcessTree(capacity=2 * nodes)
        self.tree, self.cache = self._front.pid_tree, self._front.proc_cache
        self._tracker = self._front.tracker
        self._now_ns = BEGUN_NS
        self._pid = 0
        above = ProcessKey(0, 0)
        chain = []
        for level in range(depth + 1):
            above = self._born(above, self.top_name if level == 0 else "link")
            chain.append(above)
        self.top, self.deepest = chain[0], chain[-1]
        bushes = [self._born(chain[0], "bush") for _ in range(max(1, nodes // 100))]
        while self._pid < nodes:
            self._born(bushes[self._pid % len(bushes)], "leaf")
        self.bush = bushes[0]

    def _born(self, creator: ProcessKey, name: str) -> ProcessKey:
        self._pid += 1
        self._now_ns += 1_000
        key = ProcessKey(self._pid, self._now_ns)
        fork = Fork(self._now_ns, key, creator, creator, self._pid, 0, 0, 1, name)
        self._tracker.apply(fork)
        return key

    def questions(self) -> dict[str, Callable[[], object]]:
        """Return what can be asked, by a name."""
        tree, cache, deepest = self.tree, self.cache, self.deepest
        is_watched = self._front.matching(f"ancestor={self.top_name}")
        told = self._tracker.apply(Rename(self._now_ns + 1, deepest, "renamed"))
        if told is None or not is_watched(told):
            raise RuntimeError("what is below a watched ancestor is not found there")
        return {
            "an ancestor that is watched, per event": lambda: is_watched(told),
            "is_descendant, yes at the top": lambda: is_descendant(tree, deepest, self.top_name),
            "is_descendant, no": lambda: is_descendant(tree, deepest, "nobody"),
            "chain string": lambda: build_chain_string(tree, cache, deepest),
            "creators": lambda: self._front.process(deepest).creators(),
            "get_node by PID": lambda: tree.get_node(deepest.pid),
            "children of one among many": lambda: children(tree, self.bush),
        }

    def subtree(self) -> tuple[Callable[[], object], int]:
        """Return the question for all descendants of the top, and how many there are."""
        return lambda: descendants(self.tree, self.top), len(descendants(self.tree, self.top))


def read_proc_once() -> int:
    """Read all of ``/proc`` into empty stores; return how many processes there were."""
    return snapshot(*new_stores())
