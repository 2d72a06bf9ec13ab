"""Proc connector messages, packed as the kernel packs them.

The layouts are include/uapi/linux/{netlink,connector,cn_proc}.h, written down here again
so that the decoder is not compared with itself.
"""

from __future__ import annotations

import struct
from collections import Counter

NOOP, ERROR, DONE, OVERRUN = 1, 2, 3, 4
NONE, FORK, EXEC, UID, GID, SID, PTRACE, COMM = 0, 1, 2, 4, 0x40, 0x80, 0x100, 0x200
COREDUMP, EXIT = 0x40000000, 0x80000000
ACKNOWLEDGEMENT = struct.pack("=i", 0)


def netlink(payload: bytes, kind: int = DONE, length: int | None = None) -> bytes:
    """Return a netlink message, aligned to 4 bytes."""
    length = 16 + len(payload) if length is None else length
    message = struct.pack("=IHHII", length, kind, 0, 7, 0) + payload
    return message + bytes(-len(message) % 4)


def connector(body: bytes, seq: int = 0, idx: int = 1, val: int = 1, length: int = -1) -> bytes:
    """Return the cn_msg around an event."""
    return struct.pack("=IIIIHH", idx, val, seq, 0, len(body) if length < 0 else length, 0) + body


def event(what: int, body: bytes, time_ns: int = 1, cpu: int = 0, seq: int = 0) -> bytes:
    """Return a whole datagram with one event."""
    return netlink(connector(struct.pack("=IIQ", what, cpu, time_ns) + body, seq))


def fork_body(parent: int, child: int, *, thread_of: int = 0) -> bytes:
    """Return the event data of a fork, or of a new thread."""
    return struct.pack("=IIII", parent, parent, child, thread_of or child)


def task(tgid: int, tid: int = 0) -> bytes:
    """Return the event data of an exec or a new session."""
    return struct.pack("=II", tid or tgid, tgid)


def id_body(tgid: int, real: int, effective: int, tid: int = 0) -> bytes:
    """Return the event data of a changed user or group, or of ptrace."""
    return struct.pack("=IIII", tid or tgid, tgid, real, effective)


def comm_body(tgid: int, name: bytes, tid: int = 0) -> bytes:
    """Return the event data of a changed name."""
    return struct.pack("=II16s", tid or tgid, tgid, name)


def exit_body(tgid: int, status: int, *, tid: int = 0, parent: int = 1, signal: int = 17) -> bytes:
    """Return the event data of an exit."""
    return struct.pack("=IIIIII", tid or tgid, tgid, status, signal, parent, parent)


class Kernel:
    """Sends messages with a sequence number for each CPU, one ms apart."""

    def __init__(self, time_ns: int = 5_000_000_000) -> None:
        self.time_ns = time_ns
        self.seq: Counter[int] = Counter()

    def send(self, what: int, body: bytes, cpu: int = 0) -> bytes:
        """Return the next message of a CPU."""
        self.time_ns += 1_000_000
        seq = self.seq[cpu] & 0xFFFFFFFF
        self.seq[cpu] += 1
        return event(what, body, self.time_ns, cpu, seq)

    def drop(self, count: int, cpu: int = 0) -> None:
        """Send so many messages that nobody gets."""
        self.seq[cpu] += count
        self.time_ns += count * 1_000_000

    def fork(self, parent: int, child: int, cpu: int = 0) -> bytes:
        return self.send(FORK, fork_body(parent, child), cpu)

    def thread(self, tgid: int, tid: int) -> bytes:
        return self.send(FORK, fork_body(tgid, tid, thread_of=tgid))

    def exec(self, tgid: int) -> bytes:
        return self.send(EXEC, task(tgid))

    def exit(self, tgid: int, status: int = 0, tid: int = 0, parent: int = 1) -> bytes:
        return self.send(EXIT, exit_body(tgid, status, tid=tid, parent=parent))

    def comm(self, tgid: int, name: bytes, tid: int = 0) -> bytes:
        return self.send(COMM, comm_body(tgid, name, tid))
