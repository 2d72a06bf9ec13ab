"""Who has had each PID, and whose end a message of the proc connector is about. Pure.

do_exit() lets the parent wait before it sends the message (kernel/exit.c), so a PID may have been
had again, more than once, when the message of an end comes. It is stamped first, then it names the
parent if the process has not been waited for, and then it is sent (proc_exit_connector() in
drivers/connector/cn_proc.c). So:

- A message that names a parent is about whoever had the PID at its stamp.
- One that names none is about anybody who had the PID by then and whose end was not told. Where
  that may be several, the first is taken, and no status is told of any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.identity import NOT_KNOWN
from proctree_bpf.streams import kin
from proctree_bpf.streams.holder import Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proctree_bpf.codecs.proc_files import Stat
    from proctree_bpf.core.identity import ProcessKey

# Of holders of one PID of whom no end was told to have ended, the oldest are given up.
_MOST_FORMER = 8


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

    def meet(self, key: ProcessKey, *, may_have_more: bool = True) -> Holder:
        """Take note of a process that was there before anything was told of it; return it."""
        holder = Holder(key, born_ns=key.start_time_ns, may_have_more=may_have_more)
        self._present[key.pid] = holder
        return holder

    def add(self, holder: Holder, *, is_the_same: bool) -> None:
        """Take note of one that was born just now; perhaps it was met already."""
        pid = holder.key.pid
        before = self._present.get(pid)
        self._present[pid] = holder
        if before is None:
            return
        kin.leave(before)
        if is_the_same:
            return
        before.followed_ns = holder.born_ns
        former = [*self._former.get(pid, ()), before][-_MOST_FORMER:]
        self._former[pid] = [other for other in former if other.is_possible(holder.born_ns)]

    def remove(self, holder: Holder) -> None:
        """Forget one whose end has been told."""
        kin.leave(holder)
        pid = holder.key.pid
        if self._present.get(pid) is holder:
            del self._present[pid]
        left = [other for other in self._former.pop(pid, ()) if other is not holder]
        if left:
            self._former[pid] = left

    def parent_of(self, process: Holder, stat: Stat | None = None) -> ProcessKey | None:
        """Return whose child a process is when it is told of; None if that is as it was told.

        ``stat``: what ``/proc`` shows of it, a little later.
        """
        parent = process.parent
        if stat is None or (parent is not None and parent.key.pid == stat.ppid):
            return None if parent is not None else NOT_KNOWN
        adopter = self.present(stat.ppid)
        if parent is not None or adopter is None:
            return NOT_KNOWN  # before or after it was adopted
        kin.have(process, adopter)
        return adopter.key

    def distrust(self) -> None:
        """Take note that messages were lost: no end that is awaited need come."""
        for holders in (self._present.values(), *self._former.values()):
            for holder in holders:
                holder.threads = None
                holder.maybe_lost = holder.may_have_more = True

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
        """Return whose end a message without a parent is about; None if nobody's who is known.

        ``is_there`` tells of the present one whether it has not ended, or will be told to have.
        """
        holders = [holder for holder in self._of(pid, time_ns) if not holder.leader_told]
        present = self._present.get(pid)
        if len(holders) > 1 and present is not None and is_there(present):
            holders = [holder for holder in holders if holder is not present]
        if len(holders) > 1:
            for holder in holders:
                holder.status_unsure = True
        # If nobody's, it was told already, by a message that was about another.
        return _likeliest(holders, time_ns) or self.unsure(pid)

    def of_threads_word(self, pid: int, time_ns: int) -> Holder | None:
        """Return whose thread's end a message is about; None if nobody's who is known."""
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
            assert holder.parent is None or holder in holder.parent.children  # noqa: S101
            assert all(self._present.get(c.key.pid) is c for c in holder.children)  # noqa: S101
        for pid, former in self._former.items():
            assert 0 < len(former) <= _MOST_FORMER  # noqa: S101
            for holder in former:
                assert holder.key.pid == pid  # noqa: S101
                assert holder.followed_ns is not None  # noqa: S101
                assert holder is not self._present.get(pid)  # noqa: S101

    def _of(self, pid: int, time_ns: int) -> list[Holder]:
        """Return those of a PID whom a message with this stamp may be about, the oldest first."""
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
