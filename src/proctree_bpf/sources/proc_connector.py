"""The second-best source: the kernel's proc connector over netlink, and ``/proc`` at once.

It sees every fork, exec and exit, but names and arguments must be read from ``/proc``,
where a short-lived process may be gone already.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.cn_proc import (
    ConnectionClosed,
    Interrupted,
    NetlinkMessageIter,
    Overrun,
    What,
    WouldBlock,
)
from proctree_bpf.codecs.inputs import Received
from proctree_bpf.codecs.recording import encode_received
from proctree_bpf.errors import DecodeError, Refusal, SourceFailedError, SourceUnavailableError
from proctree_bpf.sources.base import MORE_FILES, MOUNT_PROC, Delivery, failing_as
from proctree_bpf.sources.live import LiveSource
from proctree_bpf.sources.recorder import RecordingProcReader
from proctree_bpf.sources.system import place, procfs
from proctree_bpf.sources.system.causes import forbidden, unavailable_as
from proctree_bpf.sources.system.clock import both_clocks_ns
from proctree_bpf.sources.system.connector_socket import (
    ProcConnector,
    touch_own_name,
    wait_readable,
)
from proctree_bpf.sources.system.privilege import (
    how_to_gain,
    in_initial_pid_namespace,
    in_initial_user_namespace,
)
from proctree_bpf.streams.connector import ConnectorStream
from proctree_bpf.streams.connector_count import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.codecs.cn_proc import CnProcEvent
    from proctree_bpf.codecs.proc_files import Reading
    from proctree_bpf.codecs.recording import Answers
    from proctree_bpf.sources.recorder import Recorder

# A message of 76 bytes takes about 800 of the buffer: room for 80 000 of them.
DEFAULT_RECEIVE_BUFFER = 64 * 1024 * 1024
# One poll stops after so many datagrams, so that events reach the tree under any load.
_MOST_DATAGRAMS = 4096
# Enough for a full receive buffer; the processes of others must not keep us from ending.
_MOST_LAST_READS = 64
_PROOF_SECONDS = 1.0
_UNREADABLE = "the socket of the proc connector cannot be read any more"


class ProcConnectorSource(LiveSource):
    """An ``EventSource`` over the proc connector."""

    name = SOURCE
    blind_spots = (
        "names and arguments of processes that were gone before /proc could be read",
        "the caller of a CLONE_PARENT fork",
        "who adopts an orphan, until it ends",
        "the user of a process until it calls exec",
        "the exit status of a process whose threads ended differently",
        "whose name it is when a PID comes back within 10 ms",
    )

    def __init__(
        self,
        receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
        proc: str = procfs.PROC,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(proc, recorder)
        self._receive_buffer = receive_buffer
        self._reader = RecordingProcReader(procfs.LiveProcReader(proc))
        self._stream = ConnectorStream(self._reader)
        self._connector: ProcConnector | None = None
        self._stopped = False
        self._overrun = False
        self._begun = False
        self._backlog: list[bytes] = []
        self._seconds: dict[str, float] = {}

    def open(self) -> None:
        """Subscribe, and prove that events arrive."""
        begun = time.perf_counter()
        self._check_place()
        remedy = "use a kernel that is built with CONFIG_PROC_EVENTS"
        with unavailable_as("the proc connector cannot be opened", remedy):
            self._connector = self._opened()
        self._connector.set_nonblocking()
        try:
            self._require_events()
        except BaseException:
            self.close()
            raise
        # From now on the number of each CPU's next message is known, and so is what is lost.
        _touch_comm_on_every_cpu()
        self._seconds["subscribe"] = round(time.perf_counter() - begun, 6)
        if self.recorder is not None:
            self.recorder.begin(self.name, blind_spots=self.blind_spots)

    def _opened(self) -> ProcConnector:
        try:
            return ProcConnector(receive_buffer=self._receive_buffer)
        except PermissionError as error:
            raise SourceUnavailableError(
                "the proc connector needs root or CAP_NET_ADMIN on this kernel",
                how_to_gain(),
                Refusal.PRIVILEGE,
            ) from error
        except ConnectionRefusedError as error:  # nobody is at the other end here
            raise SourceUnavailableError(
                "the proc connector is in the host's network namespace only",
                "run it there, with 'nsenter --net --target 1'",
            ) from error

    def _require_events(self) -> None:
        remedy = forbidden("poll(2) and recvfrom(2)").remedy
        with unavailable_as("the proc connector cannot be waited for or read", remedy):
            is_proven = self._prove()
        if not is_proven:
            raise SourceUnavailableError(
                "the proc connector opens but sends nothing",
                "use a kernel that is built with CONFIG_PROC_EVENTS, in its initial namespaces",
            )

    def _check_place(self) -> None:
        if self.proc == procfs.PROC:
            place.require(place.proc_trouble())
        if not in_initial_pid_namespace():
            raise SourceUnavailableError(
                "the proc connector is silent in a container with PIDs of its own",
                "run on the host, or start the container with the host's PID namespace",
            )
        if not in_initial_user_namespace():
            raise SourceUnavailableError(
                "the proc connector is silent in a user namespace",
                "run it on the host, as its root",
            )
        if self.proc == procfs.PROC:
            place.require(place.hiding())

    def _prove(self) -> bool:
        """Make an event and wait for it; all that comes after it is kept for the first poll."""
        deadline = time.monotonic() + _PROOF_SECONDS
        touch_own_name()
        own = os.getpid()
        while time.monotonic() < deadline:
            came = self._without_the_first(self._receive(_MOST_DATAGRAMS))
            self._backlog += came
            messages = chain.from_iterable(map(_messages, came))
            if any(each.what == What.COMM and each.tgid == own for each in messages):
                return True
            if self._connector is not None:
                wait_readable(self._connector.fileno(), 0.05)
        return False

    def _without_the_first(self, datagrams: list[bytes]) -> list[bytes]:
        """Leave out what was sent before the subscription held.

        If others listen too, messages come as soon as the socket is bound, but while the
        kernel makes its note (cn_proc_mcast_ctl()) it leaves some out: their numbers would
        be taken for lost.
        """
        if self._begun or self._connector is None:
            return datagrams
        for index, datagram in enumerate(datagrams):
            first = next(_messages(datagram), None)
            if first is not None and first.timestamp_ns >= self._connector.subscribed_ns:
                self._begun = True
                return datagrams[index:]
        self._overrun = False
        return []

    def _receive(self, most: int) -> list[bytes]:
        """Read what the socket holds, up to a bound; OSError if it cannot be read."""
        came: list[bytes] = []
        connector = self._connector
        if connector is None:
            return came
        while len(came) < most:
            try:
                came.append(connector.recv_datagram())
            except Overrun:
                self._overrun = True
            except (WouldBlock, Interrupted):
                break
            except ConnectionClosed as error:
                raise OSError(errno.EBADF, str(error)) from error
        return came

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when events have come."""
        return self._connector.fileno() if self._connector is not None else None

    def poll(self) -> Delivery:
        """Read the socket, and ``/proc`` for what the messages leave open."""
        received_at = both_clocks_ns()
        with failing_as(_UNREADABLE):
            came = self._receive(_MOST_DATAGRAMS) if not self._stopped else []
        complete = len(came) < _MOST_DATAGRAMS
        datagrams, self._backlog = self._backlog + came, []
        overrun, self._overrun = self._overrun, False
        received = Received(datagrams, overrun, *received_at, complete)
        with failing_as(f"{self.proc} cannot be read any more", MORE_FILES):
            events, gaps, watermark_ns = self._stream.feed(received)
        answers = self._reader.take()
        self._check_answers(answers)
        if self.recorder is not None:
            self.recorder.write(encode_received(received, answers))
        if overrun:
            _touch_comm_on_every_cpu()  # the next sequence numbers tell how much was lost
        return Delivery(watermark_ns, events, gaps)

    def _check_answers(self, answers: Answers) -> None:
        """Insist that who was not found was gone, and not ``/proc``."""
        some_are_gone = any(found is None for found in answers)
        if some_are_gone and self.proc == procfs.PROC and not place.proc_is_there():
            raise SourceFailedError("/proc is not there any more", MOUNT_PROC)

    def meet(self, readings: list[Reading]) -> None:
        """Take note of processes that a snapshot shows, before the next poll."""
        self._stream.meet(stat for stat, _ in readings)

    def stop(self) -> None:
        """Make each CPU send a last message, whose number shows what was lost; unsubscribe."""
        if self._connector is not None and not self._stopped:
            self._stopped = True
            self._read_all()  # or a full buffer would have no room for the last messages
            _touch_comm_on_every_cpu()
            self._read_all()
            self._connector.unsubscribe()

    def _read_all(self) -> None:
        for _ in range(_MOST_LAST_READS):
            with failing_as(_UNREADABLE):
                came = self._receive(_MOST_DATAGRAMS)
            self._backlog += came
            if len(came) < _MOST_DATAGRAMS:
                return

    def close(self) -> None:
        """Close the socket."""
        if self._connector is not None:
            self._connector.close()
            self._connector = None

    def stats(self) -> dict[str, Any]:
        """Return received and lost messages, and how long the start took."""
        return {"startup_seconds": dict(self._seconds), **self._stream.summary()}


def _messages(datagram: bytes) -> Iterator[CnProcEvent]:
    """Yield the messages of a datagram, up to one that cannot be read."""
    with suppress(DecodeError):
        yield from filter(None, NetlinkMessageIter(datagram))


def _touch_comm_on_every_cpu() -> None:
    with suppress(OSError):
        allowed = os.sched_getaffinity(0)
        try:
            for cpu in allowed:
                with suppress(OSError):
                    os.sched_setaffinity(0, {cpu})
                    touch_own_name()
        finally:
            with suppress(OSError):
                os.sched_setaffinity(0, allowed)
