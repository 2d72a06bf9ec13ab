"""What a pipeline takes from its source, and when: bytes at once, events when there is time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from proctree_bpf.sources.base import BufferedSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.pipeline_ports import PipelineHooks
    from proctree_bpf.sources.base import Delivery, EventSource, Waiting

# Between pieces of work, the kernel's buffers are emptied again if so much time has gone by: so
# a slow sink, or others who want the CPU, do not make the kernel drop.
_RECEIVE_EVERY_S = 0.005
# A source that can only poll is polled again after so many events, a few ms of work.
_POLL_EVERY = 512
# It is not polled while so many events are in memory (some 20 MB): its buffers may fill, and
# what is dropped is counted. Unbounded memory would end worse.
_MAX_HELD = 40_000


class Intake:
    """Asks a source for what it has.

    Args:
        source: who is asked.
        hooks: told before and after each time that the kernel's buffers are emptied.
        deliver: given what came.

    """

    def __init__(
        self, source: EventSource, hooks: PipelineHooks, deliver: Callable[[Delivery], object]
    ) -> None:
        self._source = source
        self._buffered = source if isinstance(source, BufferedSource) else None
        self._hooks = hooks
        self._deliver = deliver
        self._received_s = 0.0
        self._pieces = 0
        self._waiting: Waiting | None = None
        self.is_stopped = False
        """Whether the source has been stopped, so that what waits is all that there will be."""
        self.is_broken = False
        """Whether the source must not be asked any more."""
        self.is_mending = False
        """Whether events were lost, and the tree is not mended yet."""

    def take_all(self) -> None:
        """Take all that there is."""
        self._hooks.check()
        if not self.is_broken:
            self._pieces = 0
            self._deliver(self._source.poll())

    def take_some(self) -> None:
        """Take what came first, or all if the source cannot tell that apart."""
        if self._buffered is None:
            self.take_all()
            return
        # What was received is decoded at our usual priority: meanwhile nothing is received.
        if self.is_behind and not self._is_time():
            self._hooks.before_receiving()
        else:
            self._receive(self._buffered)
        if not self.is_broken:
            self._pieces = max(0, self._pieces - 1)
            self._deliver(self._buffered.poll_some())
        self._work()

    def take_received(self) -> None:
        """Take all that ``keep_up`` has received."""
        if self._buffered is not None:
            self.take_all()

    def keep_up(self, oldest_ns: int = 0) -> None:
        """Let nothing be lost while something else is done, with what happened from then on."""
        if self._buffered is None:
            self.take_all()
        else:
            self._receive(self._buffered)
            self._work(oldest_ns)

    def keep_up_in_time(self, worked: int, held: int, oldest_ns: int) -> None:
        """Do so if it is time for it.

        Args:
            worked: how many of the events that were ready have been worked on.
            held: how many events are held in memory.
            oldest_ns: when the oldest of these happened.

        """
        if self._buffered is None:
            if worked % _POLL_EVERY == 0 and held < _MAX_HELD:
                self.take_all()
        elif self._is_time():
            self.keep_up(oldest_ns)

    @property
    def is_behind(self) -> bool:
        """Whether more has been received than was taken."""
        return self._pieces > 0

    def undelivered(self) -> int:
        """Count the events that were received and not taken."""
        return 0 if self._buffered is None else self._buffered.undelivered()

    def _is_time(self) -> bool:
        return time.monotonic() - self._received_s > _RECEIVE_EVERY_S

    def _receive(self, source: BufferedSource) -> None:
        self._hooks.check()
        if self.is_broken:
            return
        self._hooks.before_receiving()
        self._waiting = source.receive()
        self._received_s = time.monotonic()
        self._pieces = self._waiting.pieces

    def _work(self, oldest_ns: int = 0) -> None:
        """Go on with what was received, at the priority that it is worth."""
        waiting = self._waiting
        if waiting is None or self.is_stopped:
            return
        late_ns = waiting.late_ns
        if oldest_ns:
            late_ns = max(late_ns, self._source.now_ns() - oldest_ns)
        self._hooks.before_working(waiting._replace(late_ns=late_ns, is_mending=self.is_mending))
