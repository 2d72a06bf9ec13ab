"""Proc connector datagrams -> messages. Pure; the layout is include/uapi/linux/cn_proc.h.

A datagram holds one or more netlink messages (netlink(7)); each carries a cn_msg
(Documentation/driver-api/connector.rst) that carries one proc_event.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from proctree_bpf.errors import DecodeError, ProctreeError

if TYPE_CHECKING:
    from collections.abc import Iterator

CN_IDX_PROC = 1
CN_VAL_PROC = 1

_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE, _NLMSG_OVERRUN = 1, 2, 3, 4
_NLMSGHDR = struct.Struct("=IHHII")
_CN_MSG = struct.Struct("=IIIIHH")
_EVENT_HEADER = struct.Struct("=IIQ")
_ERRNO = struct.Struct("=i")
_ALIGN = 4


class ConnectorError(ProctreeError):
    """Anything that can go wrong with the proc connector.

    ConnectorError
     ├── Overrun              events were lost
     ├── Truncated            a message is longer than the bytes that came (DecodeError)
     ├── BufferTooSmall       a message says that it is shorter than its header (DecodeError)
     ├── UnexpectedConnector  a message of another connector (DecodeError)
     ├── Refused              the kernel answered with an error (DecodeError)
     ├── Interrupted          a signal arrived first
     ├── WouldBlock           nothing is there to be read
     └── ConnectionClosed     the socket is closed
    """


# The names of the proc-connector crate, which programs ported from it will look for.
class Overrun(ConnectorError, DecodeError):  # noqa: N818
    """The kernel dropped events: the socket's receive buffer was full."""


class Truncated(ConnectorError, DecodeError):  # noqa: N818
    """The bytes end before the message does."""


class BufferTooSmall(ConnectorError, DecodeError):  # noqa: N818
    """A length field is smaller than the header that it counts."""


class UnexpectedConnector(ConnectorError, DecodeError):  # noqa: N818
    """The message belongs to another connector."""


class Refused(ConnectorError, DecodeError):  # noqa: N818
    """The kernel answered with an error number, in ``errno``."""

    def __init__(self, errno: int) -> None:
        super().__init__(f"netlink error {errno}")
        self.errno = errno


class Interrupted(ConnectorError):  # noqa: N818
    """A signal arrived before a message."""


class WouldBlock(ConnectorError):  # noqa: N818
    """There is nothing to be read now."""


class ConnectionClosed(ConnectorError):  # noqa: N818
    """The socket is closed."""


class What(IntEnum):
    """Kinds of proc_event."""

    NONE = 0x0
    """The acknowledgement of a subscription."""
    FORK = 0x1
    EXEC = 0x2
    UID = 0x4
    GID = 0x40
    SID = 0x80
    PTRACE = 0x100
    COMM = 0x200
    COREDUMP = 0x40000000
    EXIT = 0x80000000


@dataclass(frozen=True, slots=True)
class CnProcEvent:
    """One proc_event.

    Attributes:
        what: the kind; a plain int if it is none of ``What``.
        cpu: where it was sent from.
        timestamp_ns: CLOCK_MONOTONIC.
        seq: the sender CPU's message counter (``cn_msg.seq``): every kind is counted.
        pid, tgid: the thread that it is about and its process; the child, for a fork.
        parent_pid, parent_tgid: for a fork, who called it (of CLONE_PARENT, the parent
            that the kernel gave the child); for an exit or a core dump, the parent.
        values: what else the kind carries, in the header's order: the real and the
            effective id of UID and GID, the tracer of PTRACE, the status and the signal
            of EXIT.
        comm: the new name, for COMM.

    """

    what: What | int
    cpu: int
    timestamp_ns: int
    seq: int
    pid: int = 0
    tgid: int = 0
    parent_pid: int = 0
    parent_tgid: int = 0
    values: tuple[int, ...] = ()
    comm: bytes = b""

    @property
    def is_thread(self) -> bool:
        """Whether it is about a thread that is not its process's first one."""
        return self.pid != self.tgid


_KINDS = {int(what): what for what in What}
_TWO = struct.Struct("=II")
_FOUR = struct.Struct("=IIII")
_COMM = struct.Struct("=16s")
# The kinds that are about one thread, with how many values after its ids.
_VALUES: dict[int, int] = {
    What.EXEC: 0, What.SID: 0, What.COMM: 0, What.COREDUMP: 0,
    What.UID: 2, What.GID: 2, What.PTRACE: 2, What.EXIT: 2,
}  # fmt: skip


def _fields(what: int, body: memoryview) -> dict[str, Any]:
    """Return what a kind of message says, by the names of ``CnProcEvent``."""
    if what == What.NONE:
        return {"values": _ERRNO.unpack_from(body)}
    if what == What.FORK:
        names = ("parent_pid", "parent_tgid", "pid", "tgid")
        return dict(zip(names, _FOUR.unpack_from(body), strict=True))
    count = _VALUES.get(what)
    if count is None:
        return {}
    pid, tgid = _TWO.unpack_from(body)
    found: dict[str, Any] = {"pid": pid, "tgid": tgid}
    rest = body[_TWO.size :]
    if count:
        found["values"] = _TWO.unpack_from(rest)
        rest = rest[_TWO.size :]
    if what == What.COMM:
        found["comm"] = _COMM.unpack_from(rest)[0].partition(b"\0")[0]
    elif what in (What.COREDUMP, What.EXIT) and len(rest) >= _TWO.size:  # not before Linux 4.18
        found["parent_pid"], found["parent_tgid"] = _TWO.unpack_from(rest)
    return found


def _decode_event(payload: memoryview, seq: int) -> CnProcEvent:
    try:
        what, cpu, time_ns = _EVENT_HEADER.unpack_from(payload)
        found = _fields(what, payload[_EVENT_HEADER.size :])
    except struct.error as error:
        raise Truncated(f"proc_event of {len(payload)} bytes is cut short") from error
    return CnProcEvent(_KINDS.get(what, what), cpu, time_ns, seq, **found)


class NetlinkMessageIter:
    """Iterates over all messages of one datagram.

    An item is a ``CnProcEvent``, or None for a control message (NOOP, DONE, an
    acknowledgement). A message that cannot be read raises from ``next()``; the
    iteration can go on with the message after it.

    Raises:
        Overrun, Truncated, BufferTooSmall, UnexpectedConnector, Refused: from ``next()``.

    """

    def __init__(self, data: bytes | bytearray | memoryview, n: int | None = None) -> None:
        view = memoryview(data)
        self._data = view if n is None else view[: max(n, 0)]

    def __iter__(self) -> Iterator[CnProcEvent | None]:
        return self

    def __next__(self) -> CnProcEvent | None:
        data = self._data
        if not data:
            raise StopIteration
        if len(data) < _NLMSGHDR.size:
            self._data = data[:0]
            raise Truncated(f"{len(data)} bytes are no netlink header")
        length, kind, _, _, _ = _NLMSGHDR.unpack_from(data)
        if length < _NLMSGHDR.size:
            self._data = data[:0]
            raise BufferTooSmall(f"netlink message of {length} bytes")
        if length > len(data):
            self._data = data[:0]
            raise Truncated(f"netlink message of {length} bytes, but {len(data)} came")
        self._data = data[(length + _ALIGN - 1) & ~(_ALIGN - 1) :]
        return _decode_message(kind, data[_NLMSGHDR.size : length])


def _decode_message(kind: int, payload: memoryview) -> CnProcEvent | None:
    if kind == _NLMSG_NOOP:
        return None
    if kind == _NLMSG_OVERRUN:
        raise Overrun("the kernel reports an overrun")
    if kind == _NLMSG_ERROR:
        if len(payload) < _ERRNO.size:
            raise Truncated("netlink error message without a number")
        number = -_ERRNO.unpack_from(payload)[0]
        if number:
            raise Refused(number)
        return None
    # The connector sends its events as NLMSG_DONE (drivers/connector/connector.c); an
    # empty one is the end of a multi-part message.
    if not payload and kind == _NLMSG_DONE:
        return None
    if len(payload) < _CN_MSG.size:
        raise Truncated(f"connector message of {len(payload)} bytes")
    idx, val, seq, _, length, _ = _CN_MSG.unpack_from(payload)
    if (idx, val) != (CN_IDX_PROC, CN_VAL_PROC):
        raise UnexpectedConnector(f"message of connector {idx}.{val}")
    body = payload[_CN_MSG.size :]
    if length > len(body):
        raise Truncated(f"connector message of {length} bytes, but {len(body)} came")
    return _decode_event(body[:length], seq)


def subscription(operation: int, event_mask: int | None = None) -> bytes:
    """Return the message that subscribes (1, PROC_CN_MCAST_LISTEN) or ends it (2).

    ``event_mask`` asks the kernel to send only these kinds; Linux 6.6 and later
    (struct proc_input, 743acf351bae).
    """
    body = struct.pack("=I", operation)
    if event_mask is not None:
        body += struct.pack("=I", event_mask)
    payload = _CN_MSG.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, len(body), 0) + body
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(payload), _NLMSG_DONE, 0, 0, 0) + payload
