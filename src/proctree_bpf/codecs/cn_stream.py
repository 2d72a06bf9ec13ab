"""Proc connector messages -> process events. Pure: looking at ``/proc`` is passed in.

The connector speaks of threads and says nothing of names, arguments or start times.
This folds threads into their process, asks for what is missing at once, and takes an
answer only if its start time shows that it is about the process that was meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from proctree_bpf.codecs.cn_proc import CnProcEvent, NetlinkMessageIter, Overrun, What
from proctree_bpf.codecs.errors import DecodeError
from proctree_bpf.codecs.proc_files import decode_name
from proctree_bpf.core.events import Exec, Exit, Fork, Gap, ProcEvent, Rename, Setid
from proctree_bpf.core.identity import TICK_NS, ProcessKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proctree_bpf.codecs.proc_files import Stat
    from proctree_bpf.core.model import ProcInfo

SOURCE = "proc-connector"

# Messages of different CPUs reach the socket in a slightly different order than their
# times: a sender stamps and queues with preemption off, so microseconds apart. A virtual
# CPU can be stolen in between, which this covers for all but the longest.
_SLACK_NS = 10_000_000
# A child's start time is taken in copy_process(), a little before the fork is reported.
_LONGEST_FORK_NS = 2_000_000_000
_SIGNAL_MASK = 0x7F  # of a wait(2) status
# How far the offset between the clocks may wander without a suspend.
_CLOCK_JUMP_NS = 5_000_000


class Look(Protocol):
    """Looks at ``/proc``, now; None if the process is not there."""

    def stat(self, pid: int) -> Stat | None:
        """Read one process's stat file."""

    def entry(self, pid: int) -> tuple[Stat, ProcInfo] | None:
        """Read all that is known of one process, from one opening of its directory."""


class Received(NamedTuple):
    """What one poll read: datagrams, whether the socket overran, and both clocks before it."""

    datagrams: Sequence[bytes]
    overrun: bool
    monotonic_ns: int
    boottime_ns: int


@dataclass(slots=True)
class _Process:
    """What the stream remembers of a living process."""

    key: ProcessKey
    threads: int | None = None  # None: not known, ask /proc
    leader_gone: bool = False
    leader_status: int = 0
    named: bool = True  # its present name was read, or is its creator's
    approximate: bool = False


class ConnectorStream:
    """Turns what was received into events; keeps count of what was not."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._processes: dict[int, _Process] = {}
        self._last_ticks: dict[int, int] = {}  # by PID, so never more than pid_max
        self._next_seq: dict[int, int] = {}
        self._last_ns: dict[int, int] = {}
        self._offset_ns: int | None = None
        self._sampled_ns = 0
        self._overrun_since_ns: int | None = None
        self._may_look = True
        self.counts: dict[str, int] = {}
        self.received_by_cpu: dict[int, int] = {}
        self.lost_by_cpu: dict[int, int] = {}
        self.overruns = 0
        self.undecodable = 0
        self.execs_named = 0
        self.execs_unnamed = 0
        self._handlers: dict[int, Callable[[CnProcEvent, int], ProcEvent | None]] = {
            What.FORK: self._fork,
            What.EXEC: self._exec,
            What.EXIT: self._exit,
            What.COMM: self._comm,
            What.UID: self._uid,
            What.GID: self._gid,
        }

    def feed(self, received: Received) -> tuple[list[ProcEvent], list[Gap], int]:
        """Return events in the order of arrival, gaps, and the watermark (CLOCK_BOOTTIME)."""
        before_ns = self._offset_ns
        offset_ns = received.boottime_ns - received.monotonic_ns
        if before_ns is None or abs(offset_ns - before_ns) < _CLOCK_JUMP_NS:
            before_ns = offset_ns
        events: list[ProcEvent] = []
        gaps: list[Gap] = []
        if received.overrun:
            self._note_overrun(received.boottime_ns)
        messages = [
            message
            for datagram in received.datagrams
            for message in self._messages(datagram, received.boottime_ns)
        ]
        outdated = _outdated(messages)
        for index, message in enumerate(messages):
            # What was sent before a suspend keeps the offset from before it.
            slept = message.timestamp_ns > self._sampled_ns
            time_ns = message.timestamp_ns + (offset_ns if slept else before_ns)
            self._count(message, time_ns, gaps)
            self._may_look = index not in outdated
            handler = self._handlers.get(message.what)
            event = handler(message, time_ns) if handler is not None else None
            if event is not None:
                events.append(event)
        self._offset_ns = offset_ns
        self._sampled_ns = received.monotonic_ns
        return events, gaps, received.boottime_ns - _SLACK_NS

    def _messages(self, datagram: bytes, now_ns: int) -> list[CnProcEvent]:
        found: list[CnProcEvent] = []
        iterator = NetlinkMessageIter(datagram)
        while True:
            try:
                message = next(iterator, iterator)
            except Overrun:
                self._note_overrun(now_ns)
                continue
            except DecodeError:
                self.undecodable += 1
                continue
            if message is iterator:
                return found
            if isinstance(message, CnProcEvent):
                found.append(message)

    def _note_overrun(self, now_ns: int) -> None:
        self.overruns += 1
        self._overrun_since_ns = now_ns
        self._distrust_thread_counts()

    def _distrust_thread_counts(self) -> None:
        for process in self._processes.values():
            process.threads = None

    def _count(self, message: CnProcEvent, time_ns: int, gaps: list[Gap]) -> None:
        """Compare the sequence number with its predecessor on the same CPU."""
        cpu = message.cpu
        kind = message.what.name.lower() if isinstance(message.what, What) else "other"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.received_by_cpu[cpu] = self.received_by_cpu.get(cpu, 0) + 1
        expected = self._next_seq.get(cpu)
        missing = (message.seq - expected) & 0xFFFFFFFF if expected is not None else 0
        # More than half the range is a message from the past, not a loss.
        if missing < 1 << 31:
            self._next_seq[cpu] = (message.seq + 1) & 0xFFFFFFFF
            if missing:
                self.lost_by_cpu[cpu] = self.lost_by_cpu.get(cpu, 0) + missing
                self._overrun_since_ns = None
                self._distrust_thread_counts()
                since_ns = self._last_ns.get(cpu, 0)
                gaps.append(Gap(time_ns, SOURCE, missing, None, cpu, since_ns, time_ns))
        self._last_ns[cpu] = time_ns

    def unexplained_overrun(self) -> Gap | None:
        """Return a gap of unknown size for an overrun that no sequence number has shown yet."""
        since_ns, self._overrun_since_ns = self._overrun_since_ns, None
        if since_ns is None:
            return None
        return Gap(since_ns, SOURCE, None, until_ns=since_ns)

    # What each kind of message means.

    def _identify(self, pid: int, time_ns: int) -> _Process:
        """Return what is known of a process, asking ``/proc`` if it was not met before."""
        process = self._processes.get(pid)
        if process is None:
            stat = self._look.stat(pid)
            start_ns = stat.start_ticks * TICK_NS if stat is not None else 0
            if start_ns > time_ns:
                start_ns = 0  # a later process has this PID now
            process = self._processes[pid] = _Process(ProcessKey(pid, start_ns))
        return process

    def _fork(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        if message.is_thread:
            process = self._processes.get(message.tgid)
            if process is not None and process.threads is not None:
                process.threads += 1
            return None
        creator = self._identify(message.parent_tgid, time_ns)
        stat = self._look.stat(message.pid) if self._may_look else None
        exact = stat is not None and _is_born(stat, time_ns)
        if exact and stat is not None:
            # Two lives of one PID in one tick look alike: only the time of the fork differs.
            exact = self._last_ticks.get(message.pid) != stat.start_ticks
            self._last_ticks[message.pid] = stat.start_ticks
        start_ns = stat.start_ticks * TICK_NS if stat is not None and exact else time_ns
        child = _Process(ProcessKey(message.pid, start_ns), threads=1, approximate=not exact)
        child.named = creator.named
        self._processes[message.pid] = child
        return Fork(time_ns, child.key, creator.key, approximate=not exact)

    def _exec(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        # A thread that calls exec becomes the leader; all others are gone.
        known = self._processes.get(message.tgid)
        read = self._look.entry(message.tgid) if self._may_look else None
        if read is not None and not _is_same(known, read[0], time_ns):
            read = None
        process = known
        if process is None:
            start_ns = read[0].start_ticks * TICK_NS if read is not None else 0
            process = self._processes[message.tgid] = _Process(ProcessKey(message.tgid, start_ns))
        process.threads = 1
        process.leader_gone = False
        process.named = read is not None
        if read is None:
            self.execs_unnamed += 1
            return Exec(time_ns, process.key)
        self.execs_named += 1
        _, info = read
        return Exec(
            timestamp_ns=time_ns,
            key=process.key,
            uid=info.uid,
            gid=info.gid,
            comm=info.cmd,
            executable=info.executable,
            args_raw=info.args_raw,
            truncated=info.truncated,
        )

    def _exit(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        if message.is_thread and message.tgid not in self._processes:
            return None
        process = self._identify(message.tgid, time_ns)
        status = message.values[0]
        if not message.is_thread:
            process.leader_gone = True
            process.leader_status = status
        if process.threads is not None:
            process.threads -= 1
        elif process.leader_gone:
            process.threads = self._count_threads(process)
        if process.threads is None or process.threads > 0 or not process.leader_gone:
            return None
        comm = None if process.named else self._last_name(process)
        del self._processes[message.tgid]
        # If the last thread was another one and said something else, it depends on the
        # kernel and on how it ended which of the two wait(2) returns. A signal ends all
        # alike, but only the thread that it came to tells of a core dump.
        agreed = status == process.leader_status
        if status & _SIGNAL_MASK and not (status ^ process.leader_status) & _SIGNAL_MASK:
            status |= process.leader_status
            agreed = True
        return Exit(
            timestamp_ns=time_ns,
            key=process.key,
            parent=self._parent(message),
            status=status if agreed else None,
            comm=comm,
        )

    def _count_threads(self, process: _Process) -> int | None:
        """Ask ``/proc`` how many threads a process has left after its leader's exit."""
        stat = self._look.stat(process.key.pid)
        if stat is None or stat.start_ticks != process.key.ticks or stat.ended:
            return 0
        if not stat.leader_ended:
            # A thread called exec and is the leader now; its message is on the way.
            process.leader_gone = False
            return None
        return stat.num_threads - 1

    def _last_name(self, process: _Process) -> str | None:
        """Read the name of a process that is dead but not yet waited for."""
        stat = self._look.stat(process.key.pid)
        if stat is None or process.approximate or stat.start_ticks != process.key.ticks:
            return None
        return stat.comm

    def _parent(self, message: CnProcEvent) -> ProcessKey | None:
        if not message.parent_tgid:
            return None
        parent = self._processes.get(message.parent_tgid)
        return parent.key if parent is not None else ProcessKey(message.parent_tgid)

    def _comm(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        if message.is_thread:
            return None
        process = self._identify(message.tgid, time_ns)
        process.named = True
        return Rename(time_ns, process.key, decode_name(message.comm))

    def _uid(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        if message.is_thread:
            return None
        return Setid(time_ns, self._identify(message.tgid, time_ns).key, uid=message.values[0])

    def _gid(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        if message.is_thread:
            return None
        return Setid(time_ns, self._identify(message.tgid, time_ns).key, gid=message.values[0])

    def summary(self) -> dict[str, Any]:
        """Return received and lost messages, in all, by CPU and by kind."""
        cpus = sorted(self.received_by_cpu)
        return {
            "received": sum(self.received_by_cpu.values()),
            "lost": sum(self.lost_by_cpu.values()) + self.undecodable,
            "undecodable": self.undecodable,
            "overruns": self.overruns,
            "execs_named": self.execs_named,
            "execs_unnamed": self.execs_unnamed,
            "by_kind": {kind: {"received": count} for kind, count in self.counts.items()},
            "by_cpu": [
                {
                    "cpu": cpu,
                    "received": self.received_by_cpu[cpu],
                    "lost": self.lost_by_cpu.get(cpu, 0),
                }
                for cpu in cpus
            ],
        }


def _outdated(messages: Sequence[CnProcEvent]) -> set[int]:
    """Find the forks and execs whose PID was forked, or called exec, again since.

    What ``/proc`` says of such a PID now is about the later event.
    """
    found = set()
    seen: set[int] = set()
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.what == What.FORK and not message.is_thread:
            if message.pid in seen:
                found.add(index)
            seen.add(message.pid)
        elif message.what == What.EXEC:
            if message.tgid in seen:
                found.add(index)
            seen.add(message.tgid)
    return found


def _is_born(stat: Stat, reported_ns: int) -> bool:
    """Tell whether a process read now can be the child whose fork was reported then."""
    start_ns = stat.start_ticks * TICK_NS
    return reported_ns - _LONGEST_FORK_NS < start_ns <= reported_ns


def _is_same(known: _Process | None, stat: Stat, time_ns: int) -> bool:
    """Tell whether a process read now is the one that an event at ``time_ns`` was about."""
    if known is None or not known.key.start_time_ns:
        return stat.start_ticks * TICK_NS <= time_ns
    if known.approximate:
        return _is_born(stat, known.key.start_time_ns)
    return stat.start_ticks == known.key.ticks
