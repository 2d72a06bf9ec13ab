"""The second-best source: the kernel's proc connector over netlink, and ``/proc`` at once.

It sees every fork, exec and exit, but names and arguments must be read from ``/proc``,
where a short-lived process may be gone already.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.cn_proc import (
    CN_IDX_PROC,
    CnProcEvent,
    ConnectionClosed,
    Interrupted,
    NetlinkMessageIter,
    Overrun,
    What,
    WouldBlock,
    subscription,
)
from proctree_bpf.codecs.cn_stream import SOURCE, ConnectorStream, Received
from proctree_bpf.codecs.errors import DecodeError
from proctree_bpf.sources import procfs
from proctree_bpf.sources.base import Delivery, Refusal, SourceUnavailableError
from proctree_bpf.sources.clock import boottime_ns
from proctree_bpf.sources.live import LiveSource
from proctree_bpf.sources.privilege import in_initial_pid_namespace
from proctree_bpf.sources.recorder import RecordedLook

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from proctree_bpf.sources.recorder import Recorder

_log = logging.getLogger(__name__)

_NETLINK_CONNECTOR = 11  # include/uapi/linux/netlink.h
_LISTEN, _IGNORE = 1, 2  # enum proc_cn_mcast_op
_SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
_DATAGRAM_BYTES = 65_536
# A message of 76 bytes takes about 800 of the buffer: room for 80 000 of them.
DEFAULT_RECEIVE_BUFFER = 64 * 1024 * 1024
# One poll stops after so many datagrams, so that events reach the tree under any load.
_MOST_DATAGRAMS = 4096
# Enough for a full receive buffer; the processes of others must not keep us from ending.
_MOST_LAST_READS = 64
_PROOF_SECONDS = 1.0


class ProcConnector:
    """A subscription to the proc connector; close it, or use it as a context manager.

    Args:
        events: ask the kernel for these kinds only, where it can (Linux 6.6). The
            sequence numbers then have holes that are no losses.
        receive_buffer: bytes; more than net.core.rmem_max needs CAP_NET_ADMIN.

    Raises:
        OSError: the kernel refused.

    """

    def __init__(
        self,
        events: Iterable[What] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR
        )
        self._wanted = None if events is None else frozenset(events)
        self._subscribed = False
        self._pending: Iterator[CnProcEvent | None] = iter(())
        try:
            if receive_buffer is not None:
                self._size(receive_buffer)
            self._socket.bind((0, CN_IDX_PROC))
            self._subscribe(None if self._wanted is None else sum(map(int, self._wanted)))
        except BaseException:
            self._socket.close()
            raise

    def _size(self, receive_buffer: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    def _subscribe(self, mask: int | None) -> None:
        """Subscribe without waiting for an acknowledgement, which may never come."""
        self._socket.send(subscription(_LISTEN))
        self._subscribed = True
        if mask is not None:
            # A kernel without filters drops the longer message for its length; one with
            # them lets it replace the first. So nothing needs to be awaited.
            with suppress(OSError):
                self._socket.send(subscription(_LISTEN, mask))

    def __enter__(self) -> ProcConnector:  # noqa: PYI034 - final in practice
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait on it."""
        return self._socket.fileno()

    def receive_buffer(self) -> int:
        """Return the size of the receive buffer in bytes, as the kernel accounts it."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def set_nonblocking(self) -> None:
        """Make ``recv`` raise WouldBlock instead of waiting."""
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature

    def recv_datagram(self) -> bytes:
        """Return one datagram, which may hold several messages.

        Raises:
            WouldBlock, Interrupted, Overrun, ConnectionClosed: see their docstrings.
            OSError: anything else.

        """
        try:
            data = self._socket.recv(_DATAGRAM_BYTES)
        except BlockingIOError as error:
            raise WouldBlock("nothing to be read") from error
        except InterruptedError as error:
            raise Interrupted("a signal arrived") from error
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Overrun("the receive buffer was full") from error
            if error.errno in (errno.EBADF, errno.ENOTCONN):
                raise ConnectionClosed("the socket is closed") from error
            raise
        if not data:
            raise ConnectionClosed("the socket is closed")
        return data

    def recv(self) -> CnProcEvent | None:
        """Return the next message; None for a control message.

        Raises:
            ConnectorError: see ``recv_datagram`` and ``NetlinkMessageIter``.

        """
        for message in self._pending:
            if self._is_wanted(message):
                return message
        self._pending = NetlinkMessageIter(self.recv_datagram())
        return next(filter(self._is_wanted, self._pending), None)

    def _is_wanted(self, message: CnProcEvent | None) -> bool:
        """Tell whether a message was asked for: others come until the kernel has the filter."""
        if message is None or self._wanted is None or message.what == What.NONE:
            return True
        return message.what in self._wanted

    def recv_timeout(self, seconds: float) -> CnProcEvent | None:
        """Return the next event, or None if none comes within so many seconds.

        Raises:
            ConnectorError: see ``recv``, without WouldBlock.

        """
        deadline = time.monotonic() + seconds
        while True:
            for message in self._pending:
                if message is not None and self._is_wanted(message):
                    return message
            left = deadline - time.monotonic()
            if left < 0:
                return None
            if self.fileno() < 0:
                raise ConnectionClosed("the socket is closed")
            if _wait_readable(self.fileno(), left):
                with suppress(WouldBlock):
                    self._pending = NetlinkMessageIter(self.recv_datagram())

    def unsubscribe(self) -> None:
        """End the subscription; once, because older kernels count these."""
        if self._subscribed:
            self._subscribed = False
            with suppress(OSError):
                self._socket.send(subscription(_IGNORE))

    def close(self) -> None:
        """Unsubscribe and close. May be called twice."""
        if self._socket.fileno() >= 0:
            self.unsubscribe()
            self._socket.close()


def try_create_connector() -> ProcConnector | None:
    """Return a non-blocking connector, or None after logging why there is none."""
    try:
        connector = ProcConnector()
    except OSError as error:
        _log.warning("the proc connector cannot be used: %s", error.strerror)
        return None
    connector.set_nonblocking()
    return connector


class ProcConnectorSource(LiveSource):
    """An ``EventSource`` over the proc connector."""

    name = SOURCE
    blind_spots = (
        "names and arguments of processes that were gone before /proc could be read",
        "the caller of a CLONE_PARENT fork",
        "the user of a process until it calls exec",
    )

    def __init__(
        self,
        receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
        proc: str = procfs.PROC,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(proc, recorder)
        self._receive_buffer = receive_buffer
        self._look = RecordedLook(procfs.ProcLook(proc))
        self._stream = ConnectorStream(self._look)
        self._connector: ProcConnector | None = None
        self._stopped = False
        self._overrun = False
        self._backlog: list[bytes] = []
        self._seconds: dict[str, float] = {}

    def open(self) -> None:
        """Subscribe, and prove that events arrive.

        Raises:
            SourceUnavailableError: it cannot be used; nothing is left open.

        """
        begun = time.perf_counter()
        if not in_initial_pid_namespace():
            raise SourceUnavailableError(
                "the proc connector is silent in a container with PIDs of its own",
                "run on the host, or start the container with the host's PID namespace",
                Refusal.UNSUPPORTED,
            )
        try:
            connector = ProcConnector(receive_buffer=self._receive_buffer)
        except PermissionError as error:
            raise SourceUnavailableError(
                "the proc connector needs root or CAP_NET_ADMIN on this kernel",
                "run it with sudo",
                Refusal.PRIVILEGE,
            ) from error
        except OSError as error:
            raise SourceUnavailableError(
                f"the proc connector cannot be opened ({error.strerror})",
                "use a kernel that is built with CONFIG_PROC_EVENTS",
                Refusal.UNSUPPORTED,
            ) from error
        connector.set_nonblocking()
        self._connector = connector
        if not self._prove():
            self.close()
            raise SourceUnavailableError(
                "the proc connector opens but sends nothing",
                "use a kernel that is built with CONFIG_PROC_EVENTS, in its initial namespaces",
                Refusal.UNSUPPORTED,
            )
        # From now on the number of each CPU's next message is known, and so is what is lost.
        _touch_comm_on_every_cpu()
        self._seconds["subscribe"] = round(time.perf_counter() - begun, 6)
        if self.recorder is not None:
            self.recorder.begin(self.name, blind_spots=self.blind_spots)

    def _prove(self) -> bool:
        """Make an event and wait for it; all that comes is kept for the first poll."""
        deadline = time.monotonic() + _PROOF_SECONDS
        _touch_comm()
        own = os.getpid()
        while time.monotonic() < deadline:
            came = self._receive(_MOST_DATAGRAMS)
            self._backlog += came
            if any(_is_comm_of(datagram, own) for datagram in came):
                return True
            if self._connector is not None:
                _wait_readable(self._connector.fileno(), 0.05)
        return False

    def _receive(self, most: int) -> list[bytes]:
        """Read what the socket holds, up to a bound."""
        came: list[bytes] = []
        connector = self._connector
        if connector is None:
            return came
        try:
            while len(came) < most:
                try:
                    came.append(connector.recv_datagram())
                except Overrun:
                    self._overrun = True
        except (WouldBlock, Interrupted, ConnectionClosed):
            pass
        return came

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when events have come."""
        return self._connector.fileno() if self._connector is not None else None

    def poll(self) -> Delivery:
        """Read the socket, and ``/proc`` for what the messages leave open."""
        received_at = time.clock_gettime_ns(time.CLOCK_MONOTONIC), boottime_ns()
        came = self._receive(_MOST_DATAGRAMS) if not self._stopped else []
        complete = len(came) < _MOST_DATAGRAMS
        datagrams, self._backlog = self._backlog + came, []
        overrun, self._overrun = self._overrun, False
        received = Received(datagrams, overrun, *received_at)
        events, gaps, watermark_ns = self._stream.feed(received)
        looks = self._look.take()
        if self.recorder is not None:
            self.recorder.received(received, looks)
        if overrun:
            _touch_comm_on_every_cpu()  # the next sequence numbers tell how much was lost
        elif complete:
            gap = self._stream.unexplained_overrun()
            if gap is not None:
                gaps.append(gap)
        return Delivery(watermark_ns if complete else 0, events, gaps)

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


def _is_comm_of(datagram: bytes, pid: int) -> bool:
    try:
        return any(
            message is not None and message.what == What.COMM and message.tgid == pid
            for message in NetlinkMessageIter(datagram)
        )
    except DecodeError:
        return False


def _wait_readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()  # select() takes small descriptors only
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(seconds, 0) * 1000))


def _touch_comm() -> None:
    """Write this thread's own name to itself: a message without a consequence."""
    with suppress(OSError):
        comm = Path("/proc/thread-self/comm")
        # The kernel adds one newline; an empty write would send nothing.
        comm.write_bytes(comm.read_bytes()[:-1] or b"\0")


def _touch_comm_on_every_cpu() -> None:
    try:
        allowed = os.sched_getaffinity(0)
    except OSError:
        return
    try:
        for cpu in allowed:
            with suppress(OSError):
                os.sched_setaffinity(0, {cpu})
                _touch_comm()
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, allowed)
