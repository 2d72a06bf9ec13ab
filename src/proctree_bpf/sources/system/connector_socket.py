"""The netlink socket of the proc connector: subscribe, receive, unsubscribe."""

from __future__ import annotations

import ctypes
import errno
import logging
import select
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

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
from proctree_bpf.sources.system.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_log = logging.getLogger(__name__)

_NETLINK_CONNECTOR = 11  # include/uapi/linux/netlink.h
_LISTEN, _IGNORE = 1, 2  # enum proc_cn_mcast_op
_SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
_DATAGRAM_BYTES = 65_536
_KERNEL = 0  # the port from which the kernel sends: netlink(7)
_PR_SET_NAME, _PR_GET_NAME = 15, 16  # include/uapi/linux/prctl.h
_TASK_COMM_LEN = 16

_libc = ctypes.CDLL(None)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


class ProcConnector:
    """A subscription to the proc connector; close it, or use it as a context manager.

    Args:
        events: ask the kernel for these kinds only, where it can (Linux 6.6). The
            sequence numbers then have holes that are no losses.
        receive_buffer: bytes; more than net.core.rmem_max needs CAP_NET_ADMIN.

    Raises:
        OSError: the kernel refused.

    """

    subscribed_ns = 0
    """When the kernel had taken note of the subscription (CLOCK_MONOTONIC)."""

    def __init__(
        self, events: Iterable[What] | None = None, receive_buffer: int | None = None
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
            self.subscribed_ns = monotonic_ns()
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

    def __exit__(self, *_error: object) -> None:
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

    def recv_datagram(self, flags: int = 0) -> bytes:
        """Return one datagram of the kernel's, which may hold several messages.

        Whoever has CAP_NET_ADMIN can send to the group, too: that is left out.
        ``flags`` are those of recv(2).

        Raises:
            WouldBlock, Interrupted, Overrun, ConnectionClosed: see their docstrings.
            OSError: anything else.

        """
        try:
            data, sender = self._socket.recvfrom(_DATAGRAM_BYTES, flags)
            while sender[0] != _KERNEL:
                data, sender = self._socket.recvfrom(_DATAGRAM_BYTES, flags)
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
            if wait_readable(self.fileno(), left):
                with suppress(WouldBlock):
                    self._pending = NetlinkMessageIter(self.recv_datagram(socket.MSG_DONTWAIT))

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


def touch_own_name() -> None:
    """Set the calling thread's name to what it is, for the message that the connector then sends.

    By prctl, because a write to ``/proc/thread-self/comm`` makes none before Linux 5.15
    (c2f273ebd89a).
    """
    name = ctypes.create_string_buffer(_TASK_COMM_LEN)
    address = ctypes.addressof(name)
    _libc.prctl(_PR_GET_NAME, address, 0, 0, 0)
    _libc.prctl(_PR_SET_NAME, address, 0, 0, 0)


def wait_readable(descriptor: int, seconds: float) -> bool:
    """Wait until a descriptor can be read; tell whether it can."""
    poll = select.poll()  # select() takes small descriptors only
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(seconds, 0) * 1000))
