"""The pipeline on a background thread: a live tree for a program that imports us."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Self

from proctree_bpf.core.model import PROC_CACHE_CAP, PROC_CACHE_TTL_SECS
from proctree_bpf.errors import SourceFailedError, SourceUnavailableError
from proctree_bpf.event_stream import DEFAULT_QUEUE_SIZE, EventStream, Listeners
from proctree_bpf.filter_plan import FilterPlan
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.filters.terms import Filter
from proctree_bpf.pipeline import DEFAULT_INTERVAL_S, MAX_INTERVAL_S, Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.process_tree import ProcessTree
from proctree_bpf.sources.choose import (
    AUTO,
    LIVE,
    REPLAY_PREFIX,
    SourceOptions,
    candidates,
    is_source,
)
from proctree_bpf.sources.live import LiveSource
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.lineage import Answer
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.filters.kernel_controller import KernelFilterController
    from proctree_bpf.process import Process
    from proctree_bpf.process_tree import Who
    from proctree_bpf.sources.base import EventSource

_log = logging.getLogger(__name__)


class Collector:
    """Keeps a live process tree while its ``with`` block runs.

    >>> import os
    >>> with Collector(source="proc-walker") as live:
    ...     me = live.process(os.getpid())
    ...     me.is_running(), live.source_name
    (True, 'proc-walker')

    It changes nothing of the program that it is a part of: no signal handlers, no environment,
    no descriptors but its own, which a child does not inherit by exec. After ``fork()`` a child has
    the tree as it was, and leaves everything else to its parent.

    Args:
        source: ``auto``, which takes the best that this machine allows of ``bpf``,
            ``proc-connector`` and ``proc-walker``; one of these; ``replay:FILE``; or a source of
            events. ``source_name`` tells.
        filter: which events are told, as ``proctree-bpf trace`` filters, such as
            ``ancestor=sshd not-user=root``. What the kernel can decide it decides, unless the
            source is an object. The tree then need not know what happens to others.
        on_event: called on the collector's thread for each event, in causal order. It
            must be quick: while it runs, the kernel's buffers fill. What it raises ends the
            collector, and is raised by ``stop``, ``wait`` and the end of the ``with`` block.
        on_gap: called when events were lost; the same goes for it.
        interval_s: seconds between two drains of the kernel's buffers.
        capacity, ttl_s: how many processes are remembered, and how many seconds after their
            end; see ``ProcessTree``.
        exclude_self: do not tell of this process and its descendants; they are in the tree all
            the same. In a recording nobody is this process.

    Raises:
        FilterError: the filter cannot be understood, or names a user or cgroup that is not there.
        ValueError: ``source`` or a number is none that can be used.

    """

    def __init__(
        self,
        source: str | EventSource = AUTO,
        filter: str | Filter | None = None,  # noqa: A002 - the best name, and a keyword mostly
        *,
        on_event: Callable[[ProcessEvent], object] | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        interval_s: float = DEFAULT_INTERVAL_S,
        capacity: int = PROC_CACHE_CAP,
        ttl_s: float = PROC_CACHE_TTL_SECS,
        exclude_self: bool = False,
    ) -> None:
        if not 0 <= interval_s <= MAX_INTERVAL_S:  # not "<" and ">": NaN must not pass
            raise ValueError(f"interval_s must be from 0 to {MAX_INTERVAL_S}, not {interval_s}")
        if isinstance(source, str) and not is_source(source):
            known = ", ".join((AUTO, *LIVE))
            raise ValueError(f"source must be one of {known}, or {REPLAY_PREFIX}FILE, not {source}")
        self.tree = ProcessTree(capacity=capacity, ttl_s=ttl_s)
        """What is known now; it stays as it is after the end."""
        self.ready = threading.Event()
        """Set once the source is attached and the first snapshot is in the tree."""
        self._source = source
        self._plan = self._plan_for(filter, capacity)
        self._listeners = Listeners(on_event, on_gap)
        self._interval_s = interval_s
        self._exclude_self = exclude_self
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._pipeline: Pipeline | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def _plan_for(self, wanted: str | Filter | None, capacity: int) -> FilterPlan:
        if not isinstance(wanted, Filter):
            wanted = Filter.parse(wanted or ())
        replayed = isinstance(self._source, ReplaySource) or (
            isinstance(self._source, str) and self._source.startswith(REPLAY_PREFIX)
        )
        return FilterPlan(wanted, capacity, is_of_here=not replayed)

    def start(self) -> None:
        """Start, and return once the tree is live.

        Raises:
            SourceUnavailableError: the source cannot be used.
            SourceFailedError: it broke at once, or ``/proc`` cannot be listed any more.
            FilterError: nobody has a PID that the filter asks for, or the source cannot tell what
                it asks.
            RuntimeError: it was started before.

        """
        self.start_background()
        while not self.ready.wait(0.05):
            if self._thread is None or not self._thread.is_alive():
                break
        if self._error is not None:
            raise self._error

    def start_background(self) -> None:
        """Start, and return at once; ``ready`` tells when the tree is live.

        Raises:
            RuntimeError: it was started before.

        """
        if self._thread is not None:
            raise RuntimeError("a collector can only be started once; make another one")
        self._thread = threading.Thread(target=self._run, name="proctree-bpf", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the source to end, as a recording does, or to break.

        Returns whether it has ended; False if ``timeout_s`` seconds were over before.

        Raises:
            SourceFailedError: the source broke.
            BaseException: whatever else ended the collector, as what ``on_event`` raised.

        """
        if self._thread is not None and not self._is_parents:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        if self._error is not None:
            raise self._error
        return True

    def stop(self) -> None:
        """Apply what the kernel's buffers still hold, and end the thread.

        In a child of the process that started it, do nothing: all that is the parent's.

        Raises:
            SourceFailedError: the source broke while it ran. What it had told before is in
                the tree, and was handed to ``on_event``.
            BaseException: whatever else ended the collector before, as what ``on_event`` raised.

        """
        if self._is_parents:
            return
        self._stop.set()
        self.wait()

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

    # Asking it

    def process(self, who: Who) -> Process:
        """Return a process: by PID (who has it now, else who had it last) or identity.

        Raises:
            NoSuchProcessError: the tree knows no such process.

        """
        return self.tree.process(who)

    def find(
        self,
        *,
        name: str | None = None,
        user: str | int | None = None,
        exe: str | None = None,
        live_only: bool = False,
    ) -> list[Process]:
        """Return the processes to which all of this applies; see ``ProcessTree.find``."""
        return self.tree.find(name=name, user=user, exe=exe, live_only=live_only)

    def is_descendant(self, who: Who, ancestor: str | Who) -> Answer:
        """Tell whether a process is, or came from, another; see ``ProcessTree.is_descendant``."""
        return self.tree.is_descendant(who, ancestor)

    def events(self, size: int = DEFAULT_QUEUE_SIZE) -> EventStream:
        """Return an iterator, also an asynchronous one, over the events from now on.

        Called before the start, it misses none. It ends with the collector.

        Args:
            size: events that may wait; those that come while so many do are dropped, and
                counted in ``dropped``.

        """
        stream = EventStream(size)
        self._listeners.add(stream)
        return stream

    @property
    def source_name(self) -> str | None:
        """Which source is in use; None before ``ready``."""
        return self._pipeline.source.name if self._pipeline is not None else None

    def stats(self) -> dict[str, Any]:
        """Return what was received, lost and applied so far; empty before the start.

        It has the shape of the statistics file of ``proctree-bpf trace``.
        """
        return self._pipeline.summary() if self._pipeline is not None else {}

    # On its thread

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
        self._listeners.end(self._error)

    def _trace(self, pipeline: Pipeline) -> None:
        try:
            pipeline.run(self._stop, self._interval_s)
            pipeline.finish()
        except SourceFailedError as error:
            _log.warning("%s has failed: %s", pipeline.source.name, error)
            pipeline.give_up()
            raise

    def _sources(self) -> Iterator[EventSource]:
        if isinstance(self._source, str):
            options = self._plan.source_options(SourceOptions(self._source))
            yield from (make() for make in candidates(options, None))
        else:
            yield self._source

    def _start_best(self) -> Pipeline:
        refusals: list[SourceUnavailableError] = []
        for source in self._sources():
            pipeline = self._pipeline_of(source)
            try:
                pipeline.start()
            except SourceUnavailableError as error:
                refusals.append(error)
                _log.warning("%s cannot be used: %s", source.name, error)
                continue
            except BaseException:
                pipeline.close()
                raise
            self._pipeline = pipeline
            return pipeline
        raise refusals[0]

    def _pipeline_of(self, source: EventSource) -> Pipeline:
        tree = self.tree
        tree.origin.proc = source.proc if isinstance(source, LiveSource) else None
        wanted = self._plan.filter_for(tree.pid_tree, tree.proc_cache)

        def start_kernel_filter(source: EventSource) -> KernelFilterController | None:
            self._plan.check_source(source)
            return self._plan.start_kernel_filter(source, wanted)

        selection = Selection(wanted=wanted, start_kernel_filter=start_kernel_filter)
        if self._exclude_self and not isinstance(source, ReplaySource):
            selection = selection.without(DescendantSet(procfs.read_key(os.getpid())))
        return Pipeline(source, tree.tracker, self._listeners, selection, is_shared=True)
