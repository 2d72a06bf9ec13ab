"""A stream of the proc connector with a kernel and a ``/proc`` that tests write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.codecs.inputs import Received
from proctree_bpf.core.events import Fork
from proctree_bpf.streams.connector import ConnectorStream
from support import connector_messages as wire
from support.fake_proc_reader import FakeProcReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf import Gap, ProcessKey, ProcEvent

MS = 1_000_000
SECOND = 1000 * MS
PARENT, CHILD, OTHER = 200, 300, 400


class FakeConnector:
    """A stream, the kernel that sends to it, and the ``/proc`` at which it looks.

    CLOCK_BOOTTIME is ``offset_ns`` ahead of CLOCK_MONOTONIC.
    """

    def __init__(self, offset_ns: int = 0) -> None:
        self.kernel = wire.Kernel()
        self.proc = FakeProcReader()
        self.stream = ConnectorStream(self.proc)
        self.offset_ns = offset_ns
        self.proc.add(PARENT, SECOND, "parent")
        self.watermark_ns = 0
        self.gaps: list[Gap] = []

    def now_ns(self) -> int:
        """Return the time of the last message, CLOCK_BOOTTIME."""
        return self.kernel.time_ns + self.offset_ns

    def poll(
        self, *datagrams: bytes, overrun: bool = False, complete: bool = True
    ) -> Sequence[ProcEvent]:
        """Let the stream read, half a ms after the last message."""
        monotonic_ns = self.kernel.time_ns + MS // 2
        boottime_ns = monotonic_ns + self.offset_ns
        received = Received(datagrams, overrun, monotonic_ns, boottime_ns, complete)
        events, gaps, self.watermark_ns = self.stream.feed(received)
        self.gaps += gaps
        return events

    def child(self, pid: int = CHILD, comm: str = "parent") -> ProcessKey:
        """Let there be a child that the stream knows by its fork."""
        datagram = self.kernel.fork(PARENT, pid)
        self.proc.add(pid, self.now_ns() - 1, comm, ppid=PARENT)
        (fork,) = self.poll(datagram)
        assert isinstance(fork, Fork)
        return fork.child
