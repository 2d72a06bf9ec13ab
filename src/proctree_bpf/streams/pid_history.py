"""Who has had each PID, and whose end a word of the proc connector is of. Pure.

do_exit() lets the parent wait before it sends word (kernel/exit.c), so a PID may have been had
again, more than once, when word of an end comes. It is stamped first, then it names the parent if
the process has not been waited for, and then it is sent (proc_exit_connector() in
drivers/connector/cn_proc.c). So:

- Word that names a parent is of whoever had the PID at its stamp.
- Word that names none is of anybody who had the PID by then and whose end was not told. Where that
  may be several, the first is taken, and of none of them the status is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proctree_bpf.core.identity import ProcessKey

# Of holders of one PID of whom no end was told to have ended, the oldest are given up.
_MOST_FORMER = 8
# So long after its PID was had again word of a process is hardly expected any more. (A suspend
# counts, so it may come still.)
_LATEST_WORD_NS = 10_000_000_000
# And then not at all.
_GIVEN_UP_NS = 600_000_000_000


@dataclass(slots=True)
class Holder:
    """What is remembered of a process until its end was told."""

    key: ProcessKey
    born_ns: int = 0  # what was sent earlier is about another process of this PID
    threads: int | None = None  # None: not known, ask /proc
    others: bool = False  # it had other threads than the leader
    other_status: int | None = None  # of the last of them to end
    leader_gone: bool = False
    leader_told: bool = False  # word of that has come
    leader_status: int | None = None
    core_dumped: bool = False  # only the thread that the signal came to tells
    over: bool = False  # /proc said so, but no message did yet
    named: bool = True  # its present name was read, or is its creator's
    approximate: bool = False
    followed_ns: int | None = None  # when its PID was forked again
    maybe_lost: bool = False  # word of its end may have been lost
    status_unsure: bool = False  # the status that was told may be another's

    def had_pid_at(self, time_ns: int) -> bool:
        """Tell whether the PID was this process's at a time."""
        followed_ns = self.followed_ns
        return self.born_ns <= time_ns and (followed_ns is None or time_ns < followed_ns)

    def is_awaited(self, time_ns: int) -> bool:
        """Tell whether word of its end is expected: it was not lost, and is not overdue."""
        if self.followed_ns is None:
            return True
        return not self.maybe_lost and time_ns < self.followed_ns + _LATEST_WORD_NS

    def is_possible(self, time_ns: int) -> bool:
        """Tell whether word of its end may come, though perhaps it was lost, or is overdue."""
        if self.followed_ns is None:
            return True
        limit_ns = _LATEST_WORD_NS if self.maybe_lost else _GIVEN_UP_NS
        return time_ns < self.followed_ns + limit_ns

    def owes_thread(self) -> bool:
        """Tell whether word of the end of a thread that is no leader may be to come."""
        return self.threads is None or self.threads > (not self.leader_gone)


class PidHistory:
    """Those who have PIDs now, and those who had them and whose end was not told."""

    def __init__(self) -> None:
        self._present: dict[int, Holder] = {}
        self._former: dict[int, list[Holder]] = {}

    def present(self, pid: int) -> Holder | None:
        """Return who has a PID, as far as is known."""
        return self._present.get(pid)

    def all_present(self) -> Iterable[Holder]:
        """Return all who have a PID."""
        return self._present.values()

    def meet(self, key: ProcessKey) -> Holder:
        """Take note of a process that was there before anything was told of it; return it."""
        holder = self._present[key.pid] = Holder(key, born_ns=key.start_time_ns)
        return holder

    def add(self, holder: Holder, *, is_the_same: bool) -> None:
        """Take note of one that was born just now; perhaps it was met already."""
        pid = holder.key.pid
        before = self._present.get(pid)
        self._present[pid] = holder
        if before is None or is_the_same:
            return
        before.followed_ns = holder.born_ns
        former = [*self._former.get(pid, ()), before][-_MOST_FORMER:]
        self._former[pid] = [other for other in former if other.is_possible(holder.born_ns)]

    def remove(self, holder: Holder) -> None:
        """Forget one whose end has been told."""
        pid = holder.key.pid
        if self._present.get(pid) is holder:
            del self._present[pid]
        left = [other for other in self._former.pop(pid, ()) if other is not holder]
        if left:
            self._former[pid] = left

    def distrust(self) -> None:
        """Take note that messages were lost: no end that is awaited need come."""
        for holders in (self._present.values(), *self._former.values()):
            for holder in holders:
                holder.threads = None
                holder.maybe_lost = True

    def at(self, pid: int, time_ns: int) -> Holder | None:
        """Return who had a PID at a time."""
        present = self._present.get(pid)
        if present is not None and present.born_ns <= time_ns:
            return present
        return next(
            (holder for holder in self._of(pid, time_ns) if holder.had_pid_at(time_ns)), None
        )

    def unsure(self, pid: int) -> Holder | None:
        """Return the first of a PID whose end may have been told as another's."""
        return next((holder for holder in self._all(pid) if holder.status_unsure), None)

    def knows(self, pid: int) -> bool:
        """Tell whether anybody is known to have a PID, or to have had it."""
        return pid in self._present or pid in self._former

    def of_leaders_word(
        self, pid: int, time_ns: int, is_there: Callable[[Holder], bool]
    ) -> Holder | None:
        """Return whose end word is of that names no parent; None if of nobody who is known.

        ``is_there`` tells of the present one whether it has not ended, or will be told to have.
        """
        holders = [holder for holder in self._of(pid, time_ns) if not holder.leader_told]
        present = self._present.get(pid)
        if len(holders) > 1 and present is not None and is_there(present):
            holders = [holder for holder in holders if holder is not present]
        if len(holders) > 1:
            for holder in holders:
                holder.status_unsure = True
        # If of nobody, it was told already, with word that was of another.
        return _likeliest(holders, time_ns) or self.unsure(pid)

    def of_threads_word(self, pid: int, time_ns: int) -> Holder | None:
        """Return whose thread's end word is of; None if of nobody who is known."""
        holders = [holder for holder in self._of(pid, time_ns) if holder.owes_thread()]
        holders = [holder for holder in holders if holder.is_awaited(time_ns)] or holders
        if len(holders) > 1:
            for holder in holders:
                holder.threads = None
                holder.others = holder.status_unsure = True
        return holders[0] if holders else None

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` unless what is kept is bounded and in order; for tests."""
        for pid, holder in self._present.items():
            assert holder.key.pid == pid  # noqa: S101
        for pid, former in self._former.items():
            assert 0 < len(former) <= _MOST_FORMER  # noqa: S101
            for holder in former:
                assert holder.key.pid == pid  # noqa: S101
                assert holder.followed_ns is not None  # noqa: S101
                assert holder is not self._present.get(pid)  # noqa: S101

    def _of(self, pid: int, time_ns: int) -> list[Holder]:
        """Return those of a PID of whom word with this stamp may be, the oldest first."""
        return [
            holder
            for holder in self._all(pid)
            if holder.born_ns <= time_ns and holder.is_possible(time_ns)
        ]

    def _all(self, pid: int) -> list[Holder]:
        """Return who had a PID and who has it, the oldest first."""
        return [*self._former.get(pid, ()), *filter(None, [self._present.get(pid)])]


def _likeliest(holders: Sequence[Holder], time_ns: int) -> Holder | None:
    awaited = (holder for holder in holders if holder.is_awaited(time_ns))
    return next(awaited, holders[0] if holders else None)
