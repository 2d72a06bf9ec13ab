"""Proc connector messages -> process events. Pure: looking at ``/proc`` is passed in.

The connector speaks of threads and says nothing of names, arguments or start times.
This folds threads into their process, asks for what is missing at once, and takes an
answer only if its start time shows that it is about the process that was meant.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from proctree_bpf.codecs.cn_proc import CnProcEvent, NetlinkMessageIter, Overrun, What
from proctree_bpf.codecs.proc_files import decode_name
from proctree_bpf.core.events import Exec, Exit, Fork, Gap, ProcEvent, Rename, Setid
from proctree_bpf.core.identity import TICK_NS, ProcessKey, Sameness, compare
from proctree_bpf.errors import DecodeError
from proctree_bpf.streams import kin
from proctree_bpf.streams.connector_batch import batch_of, is_core_dump, status_of, with_core_dump
from proctree_bpf.streams.connector_count import ConnectorCount
from proctree_bpf.streams.held_execs import HeldExecs
from proctree_bpf.streams.holder import Holder, is_born, is_same
from proctree_bpf.streams.pid_history import PidHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctree_bpf.codecs.inputs import Received
    from proctree_bpf.codecs.proc_files import Stat
    from proctree_bpf.core.model import ProcInfo
    from proctree_bpf.streams.proc_reader import ProcReader

# Messages of different CPUs reach the socket in a slightly different order than their
# times: a sender stamps and queues with preemption off, so microseconds apart. A virtual
# CPU can be stolen in between, which this covers for all but the longest.
_SLACK_NS = 10_000_000
# The clocks differ by the time slept. What is less is the time between reading the two.
_CLOCK_JUMP_NS = 5_000_000
# How often /proc is asked whether a process without a leader is still there.
_LEADERLESS_EVERY_NS = 100_000_000


class ConnectorStream:
    """Turns what was received into events; keeps count of what was not."""

    def __init__(self, reader: ProcReader) -> None:
        self._reader = reader
        self._history = PidHistory()
        self._meeting = kin.Meeting(self._history.present)
        self._held = HeldExecs()
        # Execs from then on are held: those from before, a snapshot must know.
        self._holds_from_ns: float = inf
        self._has_met = False
        self._now_ns = 0
        self._offset_ns: int | None = None
        self._sampled_ns = 0
        self._next_leaderless_ns = 0
        self._batch = batch_of((), ())
        self._index = 0
        self._ahead: dict[int, tuple[Stat, ProcInfo] | None] = {}
        self._count = ConnectorCount()
        self.execs_named = 0
        self.execs_unnamed = 0
        self._handlers: dict[int, Callable[[CnProcEvent, int], ProcEvent | None]] = {
            What.FORK: self._fork,
            What.EXEC: self._exec,
            What.EXIT: self._exit,
            What.COMM: self._comm,
            What.UID: self._setid,
            What.GID: self._setid,
        }

    def feed(self, received: Received) -> tuple[list[ProcEvent], list[Gap], int]:
        """Return events in the order of arrival, gaps, and the watermark (CLOCK_BOOTTIME)."""
        before_ns = self._offset_ns
        offset_ns = received.boottime_ns - received.monotonic_ns
        if before_ns is None:
            before_ns = offset_ns
        elif abs(offset_ns - before_ns) < _CLOCK_JUMP_NS:
            offset_ns = before_ns
        events: list[ProcEvent] = []
        gaps: list[Gap] = []
        self._now_ns = received.boottime_ns
        self._held.begin(received.boottime_ns)
        if self._has_met:
            self._has_met, self._holds_from_ns = False, received.boottime_ns
        if received.overrun:
            self._note_overrun(received.boottime_ns)
        messages = [
            message
            for datagram in received.datagrams
            for message in self._messages(datagram, received.boottime_ns)
        ]
        # What was sent before a suspend keeps the offset from before it.
        times_ns = [
            message.timestamp_ns
            + (offset_ns if message.timestamp_ns > self._sampled_ns else before_ns)
            for message in messages
        ]
        self._batch = batch_of(messages, times_ns)
        for self._index, (message, time_ns) in enumerate(zip(messages, times_ns, strict=True)):
            gap = self._count.message(message, time_ns)
            if gap is not None:
                gaps.append(gap)
                self._history.distrust()
            handler = self._handlers.get(message.what)
            event = handler(message, time_ns) if handler is not None else None
            if event is not None:
                events.append(event)
        self._ahead.clear()
        self._offset_ns = offset_ns
        self._sampled_ns = received.monotonic_ns
        if not received.complete:
            return events, gaps, 0
        events += self._leaderless(received.boottime_ns)
        gap = self._count.unexplained_overrun() if not received.overrun else None
        if gap is not None:
            gaps.append(gap)
        complete_ns = received.boottime_ns - _SLACK_NS
        events += self._held.release(complete_ns)
        return events, gaps, int(min(complete_ns, self._held.first_ns()))

    def flush(self) -> list[ProcEvent]:
        """Return what is held back, for nothing more will come."""
        return [*self._held.release(inf)]

    def meet(self, stats: Iterable[Stat]) -> None:
        """Get to know processes that ``/proc`` shows, before anything else is fed.

        Nobody would ever tell that one has lost its leader already, or has threads. They come in
        parts, the last of which is empty.
        """
        is_last = True
        for stat in stats:
            is_last, self._has_met = False, True
            process = self._history.present(stat.pid)
            if stat.ended or (process is not None and not is_same(process, stat, 0)):
                continue
            if process is None:
                process = self._history.meet(stat.key, may_have_more=False)
                self._meeting.add(process, stat.ppid)
            if process.threads is None:
                process.others = stat.num_threads > 1
                process.leader_gone = stat.leader_ended
        self._meeting.link(is_last=is_last)

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
                self._count.undecodable += 1
                continue
            if message is iterator:
                return found
            if isinstance(message, CnProcEvent):
                found.append(message)

    def _note_overrun(self, now_ns: int) -> None:
        self._count.overrun(now_ns)
        self._history.distrust()

    # What each kind of message means.

    def _identify(self, pid: int, time_ns: int) -> Holder:
        """Return what is known of a process, asking ``/proc`` if it was not met before."""
        present = self._history.present(pid)
        if present is not None:
            return self._history.at(pid, time_ns) or Holder(ProcessKey(pid))
        stat = self._reader.stat(pid)
        start_ns = stat.start_ns if stat is not None else 0
        if start_ns > time_ns:
            start_ns = 0  # a later process has this PID now
        return self._history.meet(ProcessKey(pid, start_ns))

    def _fork(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        pid = message.pid
        if message.is_thread:
            process = self._history.present(message.tgid)
            if process is not None:
                process.others = True
                if process.threads is not None:
                    process.threads += 1
            return None
        creator = self._identify(message.parent_tgid, time_ns)
        start_ns = self._start(pid, time_ns)
        key = ProcessKey(pid, start_ns or time_ns)
        met = self._history.present(pid)
        child = Holder(
            key, born_ns=time_ns, threads=1, named=creator.named, approximate=not start_ns
        )
        self._history.add(
            child, is_the_same=met is not None and compare(met.key, key) is Sameness.SAME
        )
        is_certain = kin.is_born(child, creator) and creator not in self._meeting
        return Fork(
            time_ns, child.key, creator.key,
            observed=not is_certain, approximate=child.approximate,
            name_unsure=creator.others or not is_certain,
        )  # fmt: skip

    def _start(self, pid: int, time_ns: int) -> int:
        """Return when a child started, whose fork was reported at ``time_ns``; 0 if unknown.

        ``/proc`` knows the tick. Within it the time of the report is the best guess, and it
        tells two holders of one PID apart.
        """
        if self._index in self._batch.outdated:
            return 0
        if self._index in self._batch.execed:
            read = self._ahead[pid] = self._reader.entry(pid)
            stat = read[0] if read is not None else None
        else:
            stat = self._reader.stat(pid)
        if stat is None or not is_born(stat, time_ns):
            return 0
        begin_ns = stat.start_ns
        return min(max(time_ns, begin_ns + 1), begin_ns + TICK_NS - 1)

    def _exec(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        # A thread that calls exec becomes the leader; all others are gone.
        pid = message.tgid
        known = self._history.present(pid)
        read = None
        if self._index not in self._batch.outdated:
            read = self._ahead[pid] if pid in self._ahead else self._reader.entry(pid)
        if read is not None and not is_same(known, read[0], time_ns):
            read = None
        process = known
        if process is None:
            start_ns = read[0].start_ns if read is not None else 0
            process = self._history.meet(ProcessKey(pid, start_ns))
        process.threads = 1
        process.others = process.leader_gone = process.leader_told = process.over = False
        process.other_status = None
        process.named = read is not None
        self._held.execed(process.key, time_ns, read)
        is_adopted = process.parent is None
        parent = self._history.parent_of(process, read[0] if read is not None else None)
        if read is None:
            self.execs_unnamed += 1
            return Exec(time_ns, process.key, parent)
        self.execs_named += 1
        event = read[1].as_exec(time_ns, process.key, parent)
        if time_ns < self._holds_from_ns:
            return event
        self._held.hold(event, read[0], is_adopted=is_adopted)
        return None

    def _exit(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        process = self._whose_end(message, time_ns)
        if process is None:
            return None
        status = message.values[0]
        process.core_dumped |= is_core_dump(status)
        if message.is_thread:
            process.others = True
            process.other_status = status
        else:
            process.leader_gone = process.leader_told = True
            process.leader_status = status
        if process.threads is not None:
            process.threads -= 1
        if not process.leader_gone or (process.threads or 0) > 0:
            return None
        if process.threads is None and not self._is_over(process, time_ns):
            return None
        last_is_leader = process.threads is not None and not message.is_thread
        parent = self._parent(message) or self._history.parent_of(process)
        return self._end(process, time_ns, parent, last_is_leader=last_is_leader)

    def _whose_end(self, message: CnProcEvent, time_ns: int) -> Holder | None:
        """Return the process whose end this is about; None if nobody knows whose it was."""
        pid = message.tgid
        if message.is_thread:
            return self._history.of_threads_word(pid, time_ns)
        if not self._history.knows(pid):
            return self._identify(pid, time_ns)
        if not message.parent_tgid:
            return self._history.of_leaders_word(pid, time_ns, self._is_there)
        process = self._history.at(pid, time_ns)
        if process is None:  # told already, by a message that was about another
            return self._history.unsure(pid)
        process.status_unsure = False
        return process

    def _is_there(self, present: Holder) -> bool:
        """Tell whether one lives, or a message of its own end comes later in this poll."""
        pid = present.key.pid
        forks_ns = [at for at in self._batch.forks_ns.get(pid, ()) if at > present.born_ns]
        until_ns = min(forks_ns, default=None)
        for end_ns in self._batch.named_ends_ns.get(pid, ()):
            if end_ns >= present.born_ns and (until_ns is None or end_ns < until_ns):
                return True
        stat = self._reader.stat(pid) if until_ns is None else None
        return stat is not None and not stat.ended and is_same(present, stat, self._now_ns)

    def _end(
        self, process: Holder, time_ns: int, parent: ProcessKey | None, *, last_is_leader: bool
    ) -> Exit:
        pid = process.key.pid
        comm = None if process.named else self._last_name(process)
        if process.children or process.may_have_more:
            self._held.parent_ended(time_ns)
        self._history.remove(process)
        status = process.leader_status
        if not last_is_leader and process.others:
            other = self._batch.other_status.get(pid, process.other_status)
            status = status_of(status, other)
        if status is not None and process.core_dumped:
            status = with_core_dump(status)
        if process.status_unsure:
            status = None
        return Exit(time_ns, process.key, parent, status, comm=comm)

    def _is_over(self, process: Holder, time_ns: int) -> bool:
        """Ask ``/proc`` whether a process without a leader has no thread left."""
        if process.followed_ns is not None:
            return True
        stat = self._reader.stat(process.key.pid)
        if stat is None or stat.ended or not is_same(process, stat, time_ns):
            return True
        if not stat.leader_ended:
            # A thread called exec and is the leader now; its message is on the way.
            process.leader_gone = False
        return False

    def _leaderless(self, now_ns: int) -> list[ProcEvent]:
        """Look now and then for the end of processes whose threads could not be counted.

        It is told if it is still so at the next reading, because the message that tells it
        better may be on its way.
        """
        if now_ns < self._next_leaderless_ns:
            return []
        self._next_leaderless_ns = now_ns + _LEADERLESS_EVERY_NS
        found = [p for p in self._history.all_present() if p.leader_gone and p.threads is None]
        ends: list[ProcEvent] = []
        for process in found:
            if not self._is_over(process, now_ns):
                process.over = False
            elif process.over:
                parent = self._history.parent_of(process)
                ends.append(self._end(process, now_ns, parent, last_is_leader=False))
            else:
                process.over = True
        return ends

    def _last_name(self, process: Holder) -> str | None:
        """Read the name of a process that is dead but not yet waited for."""
        stat = self._reader.stat(process.key.pid)
        if stat is None or process.approximate or stat.start_ticks != process.key.ticks:
            return None
        return stat.comm

    def _parent(self, message: CnProcEvent) -> ProcessKey | None:
        if not message.parent_tgid:
            return None
        parent = self._history.present(message.parent_tgid)
        return parent.key if parent is not None else ProcessKey(message.parent_tgid)

    def _comm(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        if message.is_thread:
            return None
        process = self._identify(message.tgid, time_ns)
        name = decode_name(message.comm)
        self._held.renamed(process.key, time_ns, name)
        process.named = True
        return Rename(time_ns, process.key, name)

    def _setid(self, message: CnProcEvent, time_ns: int) -> ProcEvent | None:
        if message.is_thread:
            return None
        key, real = self._identify(message.tgid, time_ns).key, message.values[0]
        self._held.has_new_user(key, time_ns)
        return Setid(time_ns, key, **{"uid" if message.what == What.UID else "gid": real})

    def knows(self, pid: int) -> bool:
        """Tell whether anything is remembered of who has a PID or had it."""
        return self._history.knows(pid)

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` unless what is remembered is bounded; for tests."""
        self._history.check_invariants()

    def summary(self) -> dict[str, Any]:
        """Return received and lost messages, in all, by CPU and by kind."""
        named = {"execs_named": self.execs_named, "execs_unnamed": self.execs_unnamed}
        return self._count.summary() | named
