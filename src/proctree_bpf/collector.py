"""The pipeline on a background thread: a live tree for a program that imports us."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Self

from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.core.view import Process
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.pipeline import DEFAULT_INTERVAL_S, MAX_INTERVAL_S, Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.sources.base import SourceFailedError, SourceUnavailableError
from proctree_bpf.sources.choose import SourceOptions, candidates
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system import procfs
from proctree_bpf.sources.system.forks import owned_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.model import CacheParams
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.sources.base import EventSource

_log = logging.getLogger(__name__)


class _CallbackSink:
    """Hands records to a user's functions; what they raise is logged, not lost."""

    def __init__(
        self,
        on_event: Callable[[ProcessEvent], object] | None,
        on_gap: Callable[[Gap], object] | None,
    ) -> None:
        self._on_event = on_event
        self._on_gap = on_gap

    def write(self, process_event: ProcessEvent) -> None:
        if self._on_event is not None:
            try:
                self._on_event(process_event.keep())
            except Exception:  # noqa: BLE001 - whatever a user's function raises
                _log.exception("on_event failed")

    def gap(self, gap: Gap) -> None:
        if self._on_gap is not None:
            try:
                self._on_gap(gap)
            except Exception:  # noqa: BLE001 - whatever a user's function raises
                _log.exception("on_gap failed")

    def finish(self) -> None:
        """Owe nothing at the end."""

    def flush(self) -> None:
        """Nothing is held back."""


class _LockOfTheChild:
    """Gives a child of this process a lock of its own: ours may be held by a thread it lacks."""

    def __init__(self, tree: TreeStore) -> None:
        self._table = tree.table if isinstance(tree, PidTree) else None

    def leave_to_parent(self) -> None:
        """Let the tree be read in the child, as it was at the fork."""
        if self._table is not None:
            self._table.lock = threading.RLock()


class Collector:
    """Keeps a live process tree while its ``with`` block runs.

    >>> with Collector() as collector:  # doctest: +SKIP
    ...     collector.process(os.getpid()).parents()

    Args:
        source: where events come from; if None, the best that this machine allows: BPF,
            else the proc connector, else a walk of ``/proc``. ``source_name`` tells.
        params: bounds of the tree and the cache.
        on_event: called on the collector's thread for each event, in causal order. It
            must be quick: while it runs, the kernel's buffers fill.
        on_gap: called when events were lost.
        interval_s: seconds between two drains of the kernel's buffers.
        tree, cache: other stores to fill.
        exclude_self: do not call ``on_event`` for this process and its descendants;
            they are in the tree all the same. In a recording nobody is this process.

    Raises:
        ValueError: ``interval_s`` is no time that can be waited.

    """

    def __init__(
        self,
        source: EventSource | None = None,
        params: CacheParams | None = None,
        *,
        on_event: Callable[[ProcessEvent], object] | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        interval_s: float = DEFAULT_INTERVAL_S,
        tree: TreeStore | None = None,
        cache: CacheStore | None = None,
        exclude_self: bool = False,
    ) -> None:
        if not 0 <= interval_s <= MAX_INTERVAL_S:  # not "<" and ">": NaN must not pass
            raise ValueError(f"interval_s must be from 0 to {MAX_INTERVAL_S}, not {interval_s}")
        # Not "or": an empty store is falsy.
        self.tree: TreeStore = tree if tree is not None else PidTree(params)
        self.cache: CacheStore = cache if cache is not None else ProcCache(params)
        self._lock_of_the_child = _LockOfTheChild(self.tree)
        owned_by(self._lock_of_the_child)
        self.ready = threading.Event()
        """Set once the source is attached and the first snapshot is in the tree."""
        self._source = source
        self._sink = _CallbackSink(on_event, on_gap)
        self._interval_s = interval_s
        self._exclude_self = exclude_self
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._pipeline: Pipeline | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Start, and return once the tree is live.

        Raises:
            SourceUnavailableError: the source cannot be used.
            SourceFailedError: it broke at once, or ``/proc`` cannot be listed any more.
            RuntimeError: it was started before.

        """
        self.start_background()
        while not self.ready.wait(0.05):
            if self._thread is None or not self._thread.is_alive():
                break
        if self._error is not None:
            raise self._error

    def start_background(self) -> None:
        """Start, and return at once; ``ready`` tells when the tree is live."""
        if self._thread is not None:
            raise RuntimeError("a collector can only be started once")
        self._thread = threading.Thread(target=self._run, name="proctree-bpf", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Apply what the kernel's buffers still hold, and end the thread.

        In a child of the process that started it, do nothing: all that is the parent's.

        Raises:
            SourceFailedError: the source broke while it ran. What it had told before is in
                the tree, and was handed to ``on_event``.
            BaseException: whatever else ended the thread before.

        """
        if self._is_parents:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    @property
    def _is_parents(self) -> bool:
        """Whether we are in a child: there is no thread, and its locks are as they were."""
        return os.getpid() != self._pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        elif not self._is_parents:
            self._stop.set()
            if self._thread is not None:
                self._thread.join()

    def process(self, pid: int | ProcessKey) -> Process:
        """Return a view of a process.

        Raises:
            NoSuchProcessError: the tree knows no such process.

        """
        return Process(self.tree, self.cache, pid)

    @property
    def source_name(self) -> str | None:
        """Which source is in use; None before ``ready``."""
        return self._pipeline.source.name if self._pipeline is not None else None

    def stats(self) -> dict[str, Any]:
        """Return what was received, lost and applied so far; empty before the start."""
        return self._pipeline.summary() if self._pipeline is not None else {}

    def _run(self) -> None:
        try:
            pipeline = self._start_best()
            try:
                self.ready.set()
                self._trace(pipeline)
            finally:
                pipeline.close()
        except BaseException as error:  # noqa: BLE001 - handed to whoever stops us
            self._error = error
            _log.debug("collector ended", exc_info=True)

    def _trace(self, pipeline: Pipeline) -> None:
        try:
            pipeline.run(self._stop, self._interval_s)
            pipeline.finish()
        except SourceFailedError as error:
            _log.warning("%s has failed: %s", pipeline.source.name, error)
            pipeline.give_up()
            raise

    def _sources(self) -> Iterator[EventSource]:
        if self._source is not None:
            yield self._source
        else:
            yield from (make() for make in candidates(SourceOptions(), None))

    def _start_best(self) -> Pipeline:
        own = DescendantSet(procfs.read_key(os.getpid()))
        refusals: list[SourceUnavailableError] = []
        for source in self._sources():
            tracker = Tracker(self.tree, self.cache, procfs.uid_to_username)
            is_hiding = self._exclude_self and not isinstance(source, ReplaySource)
            selection = Selection(hides=own.includes) if is_hiding else Selection()
            pipeline = Pipeline(source, tracker, self._sink, selection, is_shared=True)
            try:
                pipeline.start()
            except SourceUnavailableError as error:
                refusals.append(error)
                _log.warning("%s cannot be used: %s", pipeline.source.name, error)
                continue
            except BaseException:
                pipeline.close()
                raise
            self._pipeline = pipeline
            return pipeline
        raise refusals[0]


def start_proc_listener(
    params: CacheParams | None = None,
) -> tuple[CacheStore, threading.Event]:
    """Start a collector for the rest of the program; return its cache and readiness flag.

    The flag is set once events arrive. It never is if no source can be used: wait with
    a timeout, or use ``Collector``, which tells the reason.
    """
    collector = Collector(params=params)
    collector.start_background()
    return collector.cache, collector.ready
