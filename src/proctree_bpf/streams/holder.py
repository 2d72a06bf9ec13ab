"""What the proc connector's stream remembers of a process until its end was told. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proctree_bpf.codecs.proc_files import Stat
    from proctree_bpf.core.identity import ProcessKey

# A child's start time is taken in copy_process(), a little before the fork is reported.
_LONGEST_FORK_NS = 2_000_000_000
# So long after another process got its PID, a message about a process is hardly expected any more.
# (The time of a suspend counts, so one may still come.)
_LATEST_WORD_NS = 10_000_000_000
# So long after that, not at all.
_GIVEN_UP_NS = 600_000_000_000


@dataclass(slots=True, eq=False)
class Holder:
    """What is remembered of a process until its end was told."""

    key: ProcessKey
    born_ns: int = 0  # what was sent earlier is about another process of this PID
    threads: int | None = None  # None: not known, ask /proc
    others: bool = False  # it had other threads than the leader
    other_status: int | None = None  # of the last of them to end
    leader_gone: bool = False
    leader_told: bool = False  # the message of that has come
    leader_status: int | None = None
    core_dumped: bool = False  # only the thread that the signal came to tells
    over: bool = False  # /proc said so, but no message did yet
    named: bool = True  # its present name was read, or is its creator's
    approximate: bool = False
    followed_ns: int | None = None  # when its PID was forked again
    maybe_lost: bool = False  # the message of its end may have been lost
    status_unsure: bool = False  # the status that was told may be another's
    parent: Holder | None = None  # if that is known, and has not ended
    children: set[Holder] = field(default_factory=set, repr=False)
    may_have_more: bool = False  # not all its children are known

    def had_pid_at(self, time_ns: int) -> bool:
        """Tell whether the PID was this process's at a time."""
        followed_ns = self.followed_ns
        return self.born_ns <= time_ns and (followed_ns is None or time_ns < followed_ns)

    def is_awaited(self, time_ns: int) -> bool:
        """Tell whether the message of its end is expected: not lost, and not overdue."""
        if self.followed_ns is None:
            return True
        return not self.maybe_lost and time_ns < self.followed_ns + _LATEST_WORD_NS

    def is_possible(self, time_ns: int) -> bool:
        """Tell whether the message of its end may come, though perhaps lost, or overdue."""
        if self.followed_ns is None:
            return True
        limit_ns = _LATEST_WORD_NS if self.maybe_lost else _GIVEN_UP_NS
        return time_ns < self.followed_ns + limit_ns

    def owes_thread(self) -> bool:
        """Tell whether messages of ends of threads that are no leader may be to come."""
        return self.threads is None or self.threads > (not self.leader_gone)


def is_born(stat: Stat, reported_ns: int) -> bool:
    """Tell whether a process read now can be the child whose fork was reported then."""
    return reported_ns - _LONGEST_FORK_NS < stat.start_ns <= reported_ns


def is_same(known: Holder | None, stat: Stat, time_ns: int) -> bool:
    """Tell whether a process read now is the one that an event at ``time_ns`` was about."""
    if known is None or not known.key.start_time_ns:
        return stat.start_ns <= time_ns
    if known.approximate:
        return is_born(stat, known.key.start_time_ns)
    return stat.start_ticks == known.key.ticks
