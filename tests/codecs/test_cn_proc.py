"""Proc connector datagrams: every kind of message, and every way in which one is malformed."""

from __future__ import annotations

import struct

import pytest

from proctree_bpf.codecs.cn_proc import (
    BufferTooSmall,
    CnProcEvent,
    ConnectionClosed,
    ConnectorError,
    Interrupted,
    NetlinkMessageIter,
    Overrun,
    Refused,
    Truncated,
    UnexpectedConnector,
    What,
    WouldBlock,
    subscription,
)
from proctree_bpf.errors import DecodeError
from support import connector_messages as wire

_FORK = wire.event(wire.FORK, struct.pack("=IIII", 11, 10, 21, 20), 77, 3, 9)
_EXIT = wire.event(wire.EXIT, struct.pack("=IIIIII", 21, 20, 0x8B, 17, 11, 10), 77, 3, 9)


def _event(what: What, **more: object) -> CnProcEvent:
    fields = {"cpu": 3, "timestamp_ns": 77, "seq": 9, **more}
    return CnProcEvent(what, **fields)  # type: ignore[arg-type]


KINDS = {
    "fork": (_FORK, _event(What.FORK, parent_pid=11, parent_tgid=10, pid=21, tgid=20)),
    "exec": (
        wire.event(wire.EXEC, struct.pack("=II", 21, 20), 77, 3, 9),
        _event(What.EXEC, pid=21, tgid=20),
    ),
    "uid": (
        wire.event(wire.UID, struct.pack("=IIII", 21, 20, 1000, 0), 77, 3, 9),
        _event(What.UID, pid=21, tgid=20, values=(1000, 0)),
    ),
    "gid": (
        wire.event(wire.GID, struct.pack("=IIII", 21, 20, 100, 50), 77, 3, 9),
        _event(What.GID, pid=21, tgid=20, values=(100, 50)),
    ),
    "sid": (
        wire.event(wire.SID, struct.pack("=II", 21, 20), 77, 3, 9),
        _event(What.SID, pid=21, tgid=20),
    ),
    "ptrace": (
        wire.event(wire.PTRACE, struct.pack("=IIII", 21, 20, 31, 30), 77, 3, 9),
        _event(What.PTRACE, pid=21, tgid=20, values=(31, 30)),
    ),
    "comm": (
        wire.event(wire.COMM, struct.pack("=II16s", 21, 20, b"a) \xff\n"), 77, 3, 9),
        _event(What.COMM, pid=21, tgid=20, comm=b"a) \xff\n"),
    ),
    "comm of 15 bytes": (
        wire.event(wire.COMM, struct.pack("=II16s", 21, 20, b"exactly-15-byte"), 77, 3, 9),
        _event(What.COMM, pid=21, tgid=20, comm=b"exactly-15-byte"),
    ),
    "coredump": (
        wire.event(wire.COREDUMP, struct.pack("=IIII", 21, 20, 11, 10), 77, 3, 9),
        _event(What.COREDUMP, pid=21, tgid=20, parent_pid=11, parent_tgid=10),
    ),
    "coredump of an old kernel": (
        wire.event(wire.COREDUMP, struct.pack("=II", 21, 20), 77, 3, 9),
        _event(What.COREDUMP, pid=21, tgid=20),
    ),
    "exit": (
        _EXIT,
        _event(What.EXIT, pid=21, tgid=20, values=(0x8B, 17), parent_pid=11, parent_tgid=10),
    ),
    "exit of an old kernel": (
        wire.event(wire.EXIT, struct.pack("=IIII", 21, 20, 256, 17), 77, 3, 9),
        _event(What.EXIT, pid=21, tgid=20, values=(256, 17)),
    ),
    "acknowledgement": (
        wire.event(wire.NONE, struct.pack("=i", -5), 77, 3, 9),
        _event(What.NONE, values=(-5,)),
    ),
}


@pytest.mark.parametrize(("datagram", "wanted"), KINDS.values(), ids=KINDS.keys())
def test_each_kind_is_decoded(datagram: bytes, wanted: CnProcEvent) -> None:
    assert list(NetlinkMessageIter(datagram)) == [wanted]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "old kernel" not in kind])
def test_bytes_after_what_is_known_of_an_event_are_ignored(kind: str) -> None:
    """A newer kernel may say more; struct proc_event is a union padded to its largest."""
    datagram, wanted = KINDS[kind]
    body = datagram[16 + 20 :]
    longer = wire.netlink(wire.connector(body + b"\xaa" * 24, 9))
    assert list(NetlinkMessageIter(longer)) == [wanted]


@pytest.mark.parametrize("what", [0x8, 0x10, 0x400, 0x20000000, 3, 0xFFFFFFFF])
def test_an_unknown_kind_is_kept_with_its_number(what: int) -> None:
    found = list(NetlinkMessageIter(wire.event(what, b"whatever", 77, 3, 9)))
    assert found == [CnProcEvent(what, 3, 77, 9)]


def test_a_thread_is_told_from_its_process() -> None:
    (thread,) = NetlinkMessageIter(_FORK)
    (process,) = NetlinkMessageIter(wire.event(wire.FORK, wire.fork_body(10, 20)))
    assert thread is not None
    assert process is not None
    assert (thread.is_thread, process.is_thread) == (True, False)


class TestControlMessages:
    def test_noop_says_nothing(self) -> None:
        assert list(NetlinkMessageIter(wire.netlink(b"", wire.NOOP))) == [None]

    def test_done_without_content_says_nothing(self) -> None:
        assert list(NetlinkMessageIter(wire.netlink(b"", wire.DONE))) == [None]

    def test_error_0_is_an_acknowledgement(self) -> None:
        error = struct.pack("=i", 0) + bytes(16)
        assert list(NetlinkMessageIter(wire.netlink(error, wire.ERROR))) == [None]

    @pytest.mark.parametrize("number", [1, 13, 22, 4095])
    def test_any_other_error_is_a_refusal_with_its_number(self, number: int) -> None:
        datagram = wire.netlink(struct.pack("=i", -number) + bytes(16), wire.ERROR)
        with pytest.raises(Refused) as caught:
            next(NetlinkMessageIter(datagram))
        assert caught.value.errno == number

    @pytest.mark.parametrize("length", range(4))
    def test_an_error_without_its_number_is_truncated(self, length: int) -> None:
        with pytest.raises(Truncated):
            next(NetlinkMessageIter(wire.netlink(bytes(length), wire.ERROR)))

    def test_overrun_is_raised(self) -> None:
        with pytest.raises(Overrun):
            next(NetlinkMessageIter(wire.netlink(b"", wire.OVERRUN)))


class TestSeveralMessages:
    def test_every_message_of_a_datagram_is_read(self) -> None:
        several = b"".join(datagram for datagram, _ in KINDS.values())
        assert list(NetlinkMessageIter(several)) == [wanted for _, wanted in KINDS.values()]

    def test_a_message_of_odd_length_is_followed_by_an_aligned_one(self) -> None:
        odd = wire.netlink(wire.connector(struct.pack("=IIQ", 8, 3, 77) + b"odd", 9))
        assert len(odd) == 16 + 20 + 16 + 4
        assert list(NetlinkMessageIter(odd + _FORK)) == [CnProcEvent(8, 3, 77, 9), KINDS["fork"][1]]

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (wire.netlink(b"", wire.OVERRUN), Overrun),
            (wire.netlink(struct.pack("=i", -1), wire.ERROR), Refused),
            (wire.netlink(wire.connector(b"", idx=2)), UnexpectedConnector),
            (wire.netlink(wire.connector(b"", val=2)), UnexpectedConnector),
            (wire.netlink(b"short"), Truncated),
            (wire.netlink(wire.connector(b"short")), Truncated),
            (wire.netlink(wire.connector(b"", length=1)), Truncated),
        ],
    )
    def test_the_iteration_goes_on_after_a_message_that_cannot_be_read(
        self, bad: bytes, error: type[DecodeError]
    ) -> None:
        messages = NetlinkMessageIter(_FORK + bad + _EXIT)
        assert next(messages) == KINDS["fork"][1]
        with pytest.raises(error):
            next(messages)
        assert list(messages) == [KINDS["exit"][1]]


class TestMalformed:
    @pytest.mark.parametrize("kind", list(KINDS))
    def test_a_message_cut_at_any_byte_is_truncated(self, kind: str) -> None:
        datagram, _ = KINDS[kind]
        for end in range(1, len(datagram)):
            messages = NetlinkMessageIter(datagram[:end])
            with pytest.raises(Truncated):
                next(messages)
            assert list(messages) == []

    @pytest.mark.parametrize("kind", list(KINDS))
    def test_an_event_shorter_than_its_kind_needs_is_truncated(self, kind: str) -> None:
        datagram, wanted = KINDS[kind]
        body = datagram[16 + 20 :]
        needed = len(body)
        if kind in ("coredump", "exit"):
            needed -= 8  # what an old kernel does not send
        for end in range(needed):
            messages = NetlinkMessageIter(wire.netlink(wire.connector(body[:end])) + datagram)
            with pytest.raises(Truncated):
                next(messages)
            assert list(messages) == [wanted]

    @pytest.mark.parametrize("length", range(16))
    def test_a_length_below_the_headers_own_ends_the_datagram(self, length: int) -> None:
        messages = NetlinkMessageIter(wire.netlink(b"", length=length) + _FORK)
        with pytest.raises(BufferTooSmall):
            next(messages)
        assert list(messages) == []

    @pytest.mark.parametrize("length", [len(_FORK) + 1, 0xFFFFFFFD, 0xFFFFFFFF])
    def test_a_length_beyond_the_datagram_is_truncated(self, length: int) -> None:
        messages = NetlinkMessageIter(struct.pack("=I", length) + _FORK[4:])
        with pytest.raises(Truncated):
            next(messages)
        assert list(messages) == []

    def test_a_connector_message_may_not_claim_more_than_came(self) -> None:
        body = _FORK[16 + 20 :]
        with pytest.raises(Truncated):
            next(NetlinkMessageIter(wire.netlink(wire.connector(body, length=len(body) + 1))))

    def test_nothing_holds_no_message(self) -> None:
        assert list(NetlinkMessageIter(b"")) == []


class TestBuffers:
    def test_only_the_first_n_bytes_count(self) -> None:
        buffer = bytearray(_FORK + _EXIT)
        assert list(NetlinkMessageIter(buffer, len(_FORK))) == [KINDS["fork"][1]]
        assert list(NetlinkMessageIter(memoryview(buffer), 0)) == []
        assert list(NetlinkMessageIter(bytes(buffer), -1)) == []

    def test_more_than_there_is_cannot_be_counted(self) -> None:
        assert list(NetlinkMessageIter(_FORK, 1 << 20)) == [KINDS["fork"][1]]

    def test_n_cuts_a_message(self) -> None:
        with pytest.raises(Truncated):
            next(NetlinkMessageIter(_FORK, len(_FORK) - 1))


class TestErrors:
    @pytest.mark.parametrize(
        "kind", [Overrun, Truncated, BufferTooSmall, UnexpectedConnector, Refused]
    )
    def test_what_the_bytes_are_to_blame_for_is_a_decode_error(self, kind: type[Exception]) -> None:
        assert issubclass(kind, DecodeError)
        assert issubclass(kind, ConnectorError)

    @pytest.mark.parametrize("kind", [Interrupted, WouldBlock, ConnectionClosed])
    def test_what_the_socket_is_to_blame_for_is_none(self, kind: type[Exception]) -> None:
        assert issubclass(kind, ConnectorError)
        assert not issubclass(kind, DecodeError)


class TestSubscription:
    @pytest.mark.parametrize("operation", [1, 2])
    def test_it_is_one_connector_message_with_the_operation(self, operation: int) -> None:
        message = subscription(operation)
        length, kind, _, _, _ = struct.unpack_from("=IHHII", message)
        idx, val, _, _, size, _ = struct.unpack_from("=IIIIHH", message, 16)
        assert (length, kind) == (len(message), wire.DONE)
        assert (idx, val, size) == (1, 1, 4)
        assert message[36:] == struct.pack("=I", operation)

    def test_a_filter_follows_the_operation(self) -> None:
        message = subscription(1, wire.EXIT | wire.COMM)
        assert struct.unpack_from("=H", message, 32) == (8,)
        assert message[36:] == struct.pack("=II", 1, wire.EXIT | wire.COMM)
