"""What plain Python can: the least that decoding, applying and writing an event may cost.

It decodes the wire format of bpf/proctree.h, keeps one mutable record per process that points
at its creator's, and writes a JSON line for each exec and exit if asked to. It knows none of
the product's rules for duplicates, inexact starts, losses and bounds; what those cost on top is
said as a ratio to this, measured in the same run. It uses nothing of the product.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from made_records import EXEC, EXIT, FORK, IS_EXEC, IS_FORK

if TYPE_CHECKING:
    from collections.abc import Iterable

_KIND_AT: Final = 18
_MOST_HELD: Final = 500
_BOOT: Final = "0123456789abcdef"
_TICK_NS: Final = 10_000_000
_SECOND_NS: Final = 1_000_000_000


class Life:
    """A process: all that is known of it."""

    __slots__ = (
        "as_link", "begun_ns", "comm", "ended_ns", "fields", "is_inherited", "maker", "path",
        "pid", "status", "uid", "words",
    )  # fmt: skip

    def __init__(self, pid: int, begun_ns: int, maker: Life | None, comm: bytes, uid: int) -> None:
        self.pid = pid
        self.begun_ns = begun_ns
        self.maker = maker
        self.comm = comm
        self.uid = uid
        self.path = b""
        self.words = b""
        self.is_inherited = True
        self.ended_ns = 0
        self.status = -1
        self.as_link = ""
        self.fields = ""


class Lives:
    """All processes, by PID while they live."""

    def __init__(self) -> None:
        self.here: dict[int, Life] = {}
        self.gone: list[Life] = []

    def find(self, pid: int, begun_ns: int) -> Life:
        """Return who has a PID since then, perhaps one of whom nothing else is known."""
        life = self.here.get(pid)
        if life is not None and life.begun_ns == begun_ns:
            return life
        life = Life(pid, begun_ns, None, b"?", 0)
        self.here[pid] = life
        return life

    def born(self, data: bytes) -> None:
        """Apply a fork."""
        (
            _, _, _, _, _, _, begun_ns, maker_ns, _, _, pid, maker_pid, _, _, uid, _, comm,
        ) = FORK.unpack_from(data)  # fmt: skip
        maker = self.find(maker_pid, maker_ns)
        life = Life(pid, begun_ns, maker, comm.rstrip(b"\0"), uid)
        life.path = maker.path
        life.words = maker.words
        self.here[pid] = life

    def became(self, data: bytes) -> Life:
        """Apply an exec."""
        (
            _, _, _, _, _, _, begun_ns, _, _, pid, _, uid, _, comm, _, path, name, words, _,
        ) = EXEC.unpack_from(data)  # fmt: skip
        life = self.find(pid, begun_ns)
        path += EXEC.size
        name += path
        life.comm = comm.rstrip(b"\0")
        life.uid = uid
        life.path = data[EXEC.size : path]
        life.words = data[name : name + words]
        life.is_inherited = False
        life.as_link = life.fields = ""
        return life

    def ended(self, data: bytes) -> Life:
        """Apply an exit."""
        (
            _, now_ns, _, _, _, _, begun_ns, _, _, _, pid, _, _, _, status, _, _,
        ) = EXIT.unpack_from(data)  # fmt: skip
        life = self.find(pid, begun_ns)
        life.ended_ns = now_ns
        life.status = status
        del self.here[pid]
        self.gone.append(life)
        return life


def _when(ns: int) -> str:
    seconds, rest = divmod(ns, _SECOND_NS)
    return f"2026-11-27T14:00:{seconds % 60:02d}.{rest:09d}Z"


def _link(life: Life) -> str:
    name = life.comm.decode()
    tick = life.begun_ns // _TICK_NS
    life.as_link = (
        f'{{"pid":{life.pid},"entity_id":"{_BOOT}-{life.pid}-{tick}","name":"{name}",'
        f'"user":"root"}}'
    )
    return life.as_link


def _fields(life: Life) -> str:
    words = life.words.decode().split("\0")
    words.pop()
    listed = '","'.join(words)
    life.fields = (
        f'"pid":{life.pid},"entity_id":"{_BOOT}-{life.pid}-{life.begun_ns // _TICK_NS}",'
        f'"name":"{life.comm.decode()}","executable":"{life.path.decode()}","args":["{listed}"],'
        f'"command_line":"{" ".join(words)}","start":"{_when(life.begun_ns)}",'
        f'"user":{{"id":"{life.uid}","name":"root"}}'
    )
    return life.fields


def line_of(action: str, life: Life) -> str:
    """Return a JSON line, shaped as the product's."""
    links = []
    above = life.maker
    while above is not None:
        links.append(above.as_link or _link(above))
        above = above.maker
    parent = links[0] if links else "null"
    return (
        f'{{"@timestamp":"{_when(life.ended_ns or life.begun_ns)}","event":{{"kind":"event",'
        f'"category":["process"],"type":["start"],"action":"{action}"}},"process":'
        f'{{{life.fields or _fields(life)},"parent":{parent}}},"proctree":{{"source":"bpf",'
        f'"start_time_ns":{life.begun_ns},"inherited":false,"truncated":false,'
        f'"chain":[{",".join(links)}]}}}}\n'
    )


def apply(records: Iterable[bytes], lives: Lives) -> None:
    """Decode and apply."""
    for data in records:
        kind = data[_KIND_AT]
        if kind == IS_FORK:
            lives.born(data)
        elif kind == IS_EXEC:
            lives.became(data)
        else:
            lives.ended(data)


def write(records: Iterable[bytes], lives: Lives) -> int:
    """Decode, apply, and make a line of each exec and exit; return how many characters."""
    waiting: list[str] = []
    written = 0
    for data in records:
        kind = data[_KIND_AT]
        if kind == IS_FORK:
            lives.born(data)
            continue
        if kind == IS_EXEC:
            waiting.append(line_of("exec", lives.became(data)))
        else:
            waiting.append(line_of("exit", lives.ended(data)))
        if len(waiting) > _MOST_HELD:
            written += len("".join(waiting))
            waiting.clear()
    return written + len("".join(waiting))


def applied_us(records: list[bytes]) -> float:
    """Return the CPU microseconds per event of ``apply``."""
    lives = Lives()
    begun = time.process_time()
    apply(records, lives)
    return (time.process_time() - begun) / len(records) * 1e6


def written_us(records: list[bytes]) -> float:
    """Return the CPU microseconds per event of ``write``."""
    lives = Lives()
    begun = time.process_time()
    write(records, lives)
    return (time.process_time() - begun) / len(records) * 1e6
