"""Runs a source in a pipeline and keeps everything that it delivered."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from proctree_bpf import Gap, PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.errors import SourceUnavailableError
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.sinks.jsonl.json_record import RecordOptions
from proctree_bpf.sinks.jsonl.jsonl import JsonlSink
from proctree_bpf.sources.bpf import BpfSource
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from proctree_bpf.sources.recorder import Recorder
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system.clock import boottime_ns
from proctree_bpf.sources.system.procfs import uid_to_username
from proctree_bpf.sources.walker import WalkerSource
from support.live_collector import as_identity
from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from proctree_bpf import EventSource, ProcessEvent, ProcessKey, ProcEvent
    from proctree_bpf.sources.base import Delivery, Snapshot
    from support.proc_truth import Identity

E = TypeVar("E")

LIVE: dict[str, Callable[[Recorder | None], EventSource]] = {
    "bpf": lambda recorder: BpfSource(recorder=recorder),
    "proc-connector": lambda recorder: ProcConnectorSource(recorder=recorder),
    "proc-walker": lambda recorder: WalkerSource(0.02, recorder=recorder),
}
"""Makers of the sources that watch this machine."""


class Tap:
    """A source that keeps what it hands on."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self.deliveries: list[Delivery] = []
        self.watermark_ns = 0

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def blind_spots(self) -> tuple[str, ...]:
        return self._source.blind_spots

    def open(self) -> None:
        self._source.open()

    def poll(self) -> Delivery:
        delivery = self._source.poll()
        self.deliveries.append(delivery)
        self.watermark_ns = max(self.watermark_ns, delivery.watermark_ns)
        return delivery

    def is_quiet(self) -> bool:
        return self._source.is_quiet()

    def read_snapshot(
        self, progress: Callable[[], object], not_before_ns: int = 0
    ) -> Snapshot | None:
        return self._source.read_snapshot(progress, not_before_ns)

    def now_ns(self) -> int:
        return self._source.now_ns()

    def fileno(self) -> int | None:
        return self._source.fileno()

    def stop(self) -> None:
        self._source.stop()

    def close(self) -> None:
        self._source.close()

    def stats(self) -> dict[str, Any]:
        return self._source.stats()


class _KeepingSink:
    """Keeps the records, and the JSON lines that they become."""

    def __init__(self, tree: PidTree, cache: ProcCache, source: str) -> None:
        self.applied: list[ProcessEvent] = []
        self.gaps: list[Gap] = []
        self.out = io.StringIO()
        self._lines = JsonlSink(self.out, tree, cache, RecordOptions(source, "boot", 0))

    def write(self, process_event: ProcessEvent) -> None:
        self.applied.append(process_event.keep())
        self._lines.write(process_event)

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self._lines.gap(gap)

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is owed at the end."""


class Session:
    """A source that runs in a pipeline, pumped only when told to."""

    def __init__(self, source: EventSource) -> None:
        self.source = Tap(source)
        self.tree, self.cache = PidTree(), ProcCache()
        self._sink = _KeepingSink(self.tree, self.cache, source.name)
        self.tracker = Tracker(self.tree, self.cache, uid_to_username)
        self.pipeline = Pipeline(self.source, self.tracker, self._sink)

    def __enter__(self) -> Self:
        try:
            self.pipeline.start()
        except BaseException:
            self.pipeline.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.pipeline.close()

    def settle(self) -> None:
        """Pump until the source says that all has been told that happened before the call."""
        now_ns = boottime_ns()

        def pumped() -> bool:
            self.pipeline.pump()
            return self.source.watermark_ns >= now_ns

        wait_until("the watermark passes", pumped)

    def finish(self) -> None:
        """Stop, and take what is left."""
        self.pipeline.finish()

    def settle_until(self, what: str, condition: Callable[[], object]) -> None:
        """Pump until something holds."""

        def holds() -> object:
            self.settle()
            return condition()

        wait_until(what, holds)

    def await_ends(self, *who: Identity) -> None:
        """Pump until all of these have ended, and all that happened before the last end is told.

        A parent can be told of an end before the proc connector is: do_exit() in
        kernel/exit.c wakes the parent first.
        """
        self.settle_until("the exits", lambda: all("Exit" in self.kinds(one) for one in who))

    def replay(self) -> None:
        """Pump to the end of a recording."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.source.deliveries or not self.source.deliveries[-1].end:
            assert time.monotonic() < deadline, "the recording does not end"
            self.pipeline.pump()

    @property
    def applied(self) -> list[ProcessEvent]:
        """The records, in their order."""
        return self._sink.applied

    @property
    def delivered(self) -> list[ProcEvent]:
        """The events as the source delivered them."""
        return [event for delivery in self.source.deliveries for event in delivery.events]

    @property
    def gaps(self) -> list[Gap]:
        """The gaps."""
        return self._sink.gaps

    def records(self) -> list[dict[str, Any]]:
        """The JSON lines, without the name of the source."""
        records = [json.loads(line) for line in self._sink.out.getvalue().splitlines()]
        for record in records:
            del record["proctree"]["source"]
        return records

    def history(self, who: Identity) -> list[ProcessEvent]:
        """Return the records of one process, in order."""
        keys = self._keys_of(who)
        return [process_event for process_event in self.applied if process_event.node.key in keys]

    def kinds(self, who: Identity) -> list[str]:
        """Return the kinds of its records."""
        return [type(process_event.event).__name__ for process_event in self.history(who)]

    def events_of(self, who: Identity, kind: type[E]) -> list[E]:
        """Return the events of one kind in its records."""
        return [a.event for a in self.history(who) if isinstance(a.event, kind)]

    def _keys_of(self, who: Identity) -> set[ProcessKey]:
        """Return the keys by which the tree knew a process.

        One whose start could not be read has the time of its fork instead: the first such
        after its start is it.
        """
        keys = {a.node.key for a in self.applied if a.node.pid == who.pid}
        exact = {key for key in keys if as_identity(key) == who}
        later = {key for key in keys if key.ticks >= who.ticks}
        return exact or {key for key in later if key.start_time_ns == min(later).start_time_ns}


def recorded(name: str, path: Path, act: Callable[[Session], E]) -> tuple[Session, E]:
    """Run an act in front of a live source that records; return the finished session."""
    recorder = Recorder(path.open("wb"))
    try:
        with Session(LIVE[name](recorder)) as session:
            told = act(session)
        recorder.finish()
    finally:
        recorder.abandon()
    return session, told


def replayed(path: Path) -> Session:
    """Return the finished session of a recording."""
    with Session(ReplaySource(path)) as session:
        session.replay()
    return session


def unavailable(name: str) -> str | None:
    """Return why a live source cannot be used here, or None."""
    source = LIVE[name](None)
    try:
        source.open()
    except SourceUnavailableError as error:
        return str(error)
    finally:
        source.close()
    return None
