"""Events from the collector's thread to a user's functions, and to whoever iterates."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

from proctree_bpf.sources.system.forks import owned_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.process_event import ProcessEvent

DEFAULT_QUEUE_SIZE = 16_384
"""Events that may wait for an iterator: some 20 MB, and a second of a very busy machine."""


class EventStream:
    """Events from the moment of its making on, in causal order; made by ``Collector.events``.

    It is an iterator and an asynchronous one, for one consumer: ``for event in stream`` or
    ``async for event in stream``. It ends when the collector does, after the last event, by
    raising what ended the collector if that was an error.

    >>> from proctree_bpf import Collector, ProcessEvent
    >>> with Collector(source="proc-walker") as live:
    ...     events = live.events(size=1000)
    ...     live.stop()
    >>> all(isinstance(event, ProcessEvent) for event in events), events.dropped
    (True, 0)

    Attributes:
        dropped: events that did not fit into the queue, because the consumer was slower; those
            that come while it is full are dropped, and older ones stay.

    """

    def __init__(self, size: int = DEFAULT_QUEUE_SIZE) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        self.dropped = 0
        self._size = size
        self._queue: deque[ProcessEvent] = deque()
        self._changed = threading.Condition()
        self._has_ended = False
        self._error: BaseException | None = None
        self._wake: Callable[[], object] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ProcessEvent:
        with self._changed:
            while not self._queue and not self._has_ended:
                self._changed.wait()
            if self._queue:
                return self._queue.popleft()
        raise self._end() or StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ProcessEvent:
        while True:
            with self._changed:
                if self._queue:
                    return self._queue.popleft()
                if self._has_ended:
                    break
                arrival = asyncio.get_running_loop().create_future()
                self._wake = partial(arrival.get_loop().call_soon_threadsafe, _settle, arrival)
            await arrival
        raise self._end() or StopAsyncIteration

    def _end(self) -> BaseException | None:
        """Return what ended the collector, the first time."""
        error, self._error = self._error, None
        return error

    def put(self, event: ProcessEvent) -> None:
        """Add an event, or count it as dropped; for the collector."""
        with self._changed:
            if len(self._queue) >= self._size:
                self.dropped += 1
                return
            self._queue.append(event)
            self._tell()

    def end(self, error: BaseException | None) -> None:
        """Let nothing follow; for the collector."""
        with self._changed:
            self._has_ended = True
            self._error = error
            self._tell()

    def leave_to_parent(self) -> None:
        """End in a child of this process: its parent's thread is not there."""
        self._changed = threading.Condition()
        self._wake = None
        self._has_ended = True

    def _tell(self) -> None:
        self._changed.notify()
        wake, self._wake = self._wake, None
        if wake is not None:
            with suppress(RuntimeError):  # its event loop is closed: nobody waits any more
                wake()


def _settle(arrival: asyncio.Future[None]) -> None:
    if not arrival.done():
        arrival.set_result(None)


class Listeners:
    """The sink of a collector: a user's functions, and those who iterate."""

    def __init__(
        self,
        on_event: Callable[[ProcessEvent], object] | None,
        on_gap: Callable[[Gap], object] | None,
    ) -> None:
        self._on_event = on_event
        self._on_gap = on_gap
        self._streams: tuple[EventStream, ...] = ()
        self._changing = threading.Lock()
        self._is_over = False
        owned_by(self)

    def add(self, stream: EventStream) -> None:
        """Have a stream told of all events from now on."""
        with self._changing:
            self._streams += (stream,)
            if self._is_over:
                stream.end(None)

    def write(self, applied: ProcessEvent) -> None:
        """Tell of an event."""
        streams = self._streams
        if self._on_event is None and not streams:
            return
        applied.keep()
        for stream in streams:
            stream.put(applied)
        if self._on_event is not None:
            self._on_event(applied)

    def gap(self, gap: Gap) -> None:
        """Tell of a loss."""
        if self._on_gap is not None:
            self._on_gap(gap)

    def finish(self) -> None:
        """Owe nothing at the end."""

    def flush(self) -> None:
        """Nothing is held back."""

    def end(self, error: BaseException | None) -> None:
        """Let all streams end."""
        with self._changing:
            self._is_over = True
            for stream in self._streams:
                stream.end(error)

    def leave_to_parent(self) -> None:
        """Let nobody wait, in a child of this process, for a thread that is not there."""
        self._changing = threading.Lock()
        self._is_over = True
        for stream in self._streams:
            stream.leave_to_parent()
