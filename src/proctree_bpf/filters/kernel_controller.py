"""Keeps a filter in the kernel in step with the one here, which has the last word.

The kernel leaves out what surely does not run under the ancestors asked for; of the
rest, everything is sent. How the two take over from each other without losing anything
is told in bpf/filter.bpf.c; this is the reader's side of it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from proctree_bpf.core.lineage import ancestors
from proctree_bpf.core.model import UNKNOWN_NAME, Edge, PidNode, ProcInfo
from proctree_bpf.core.snapshot_merger import Unreported
from proctree_bpf.filters.ancestry import AncestryFilter
from proctree_bpf.filters.kernel_port import FallbackReason, KernelFilter, KernelProcess, Seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.model import Entry
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable
    from proctree_bpf.filters.kernel_port import FilterFallback
    from proctree_bpf.filters.record_filter import BoundFilter

# Two CPUs that fall back at once may each note its own time, microseconds apart.
_FALLBACK_SLACK_NS = 1_000_000
# After that, everything is sent for so long: looking at /proc each time has its price.
_PAUSE_NS = 1_000_000_000


def followed_by(wanted: BoundFilter) -> Callable[[TrackedProcess], bool]:
    """Return what tells, after a survey, whether a process is followed for a filter."""

    def follows(process: TrackedProcess) -> bool:
        ancestry = wanted.ancestry
        if not isinstance(ancestry, AncestryFilter):
            raise TypeError("only a filter by creators can be handed to the kernel")
        return ancestry.marks(process) != 0

    return follows


class Completed(NamedTuple):
    """A snapshot of ``/proc``, and what a filter in the kernel knows."""

    entries: list[Entry]
    unreported: dict[ProcessKey, Unreported]
    """What may not have been sent of those that live. Of others nothing was left out: they have
    done nothing since the filter came."""
    ends: dict[ProcessKey, Unreported]
    """The same of those that have ended; of them, ``entries`` has what was known at their end."""


class KernelFilterController:
    """Decides when the kernel may filter, and what it must be told for that.

    Args:
        kernel: the filter in the kernel.
        follows: tells whether a living process, and all that it creates, is followed.
        user_of: returns the name to show for a uid.

    """

    def __init__(
        self,
        kernel: KernelFilter,
        follows: Callable[[TrackedProcess], bool],
        user_of: Callable[[int], str],
    ) -> None:
        self._kernel = kernel
        self._follows = follows
        self._user_of = user_of
        self._cleared_ns: int | None = None
        self._resume_ns = 0
        self._left_out_from_ns: float = inf
        self._known_generation = 0  # what was left out until then was read from /proc
        self.hold_ns: float = inf
        """Events from here on wait until the tree has caught up."""
        self.given_up: str | None = None
        self.fallbacks: dict[str, int] = {}
        self.times_on = 0

    @property
    def is_on(self) -> bool:
        """Whether the kernel filters now, unless it has just fallen back."""
        return self._kernel.is_on

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be done before the kernel's side sends something."""
        is_decided = self._kernel.is_on or self.given_up is not None
        return is_decided and self.hold_ns == inf and self._left_out_from_ns == inf

    def fell_back(self, fallback: FilterFallback) -> None:
        """Take the news that the kernel's side cannot decide any more."""
        if fallback.reason is FallbackReason.TABLE_FULL and not self.given_up:
            self.given_up = "its table of processes was full (--capacity)"
        if self._kernel.is_on:
            reason = fallback.reason.name.lower()
            self.fallbacks[reason] = self.fallbacks.get(reason, 0) + 1
            self._switch_off()
            self.hold_ns = fallback.since_ns - _FALLBACK_SLACK_NS
        self._cleared_ns = None

    def send_everything(self, now_ns: int) -> None:
        """Have everything sent, because the tree is to be mended."""
        if self._kernel.is_on:
            self._switch_off()
        self._cleared_ns = None
        self._resume_ns = now_ns + _PAUSE_NS

    def _switch_off(self) -> None:
        self._left_out_from_ns = inf
        with self._giving_up():
            self._kernel.switch_off()

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Leave the kernel alone from now on if what is asked of it there fails."""
        try:
            yield
        except OSError as error:
            self.given_up = self.given_up or str(error.strerror)

    def mended(self) -> None:
        """Take note that the tree knows all that was left out."""
        self._known_generation = self._kernel.generation

    def caught_up(self, now_ns: int) -> None:
        """Go on: the tree knows all that was left out."""
        self.hold_ns = inf
        self._resume_ns = now_ns + _PAUSE_NS
        self.mended()
        with self._giving_up():
            self._kernel.clear_fallback()

    def advance(self, table: ProcessTable, watermark_ns: int, clock: Callable[[], int]) -> None:
        """Set the filter when all that happened before has been applied to the tree."""
        if self.given_up or self._kernel.is_on or self.hold_ns < inf or clock() < self._resume_ns:
            return
        with self._giving_up():
            self._hand_over(table, watermark_ns, clock)

    def _hand_over(self, table: ProcessTable, watermark_ns: int, clock: Callable[[], int]) -> None:
        if self._cleared_ns is None:
            self._kernel.clear_fallback()
            self._kernel.sweep()
            self._cleared_ns = clock()
        elif watermark_ns >= self._cleared_ns:
            self._cleared_ns = None
            if self._kernel.switch_on(self._seeds(table)):
                self.times_on += 1
                self._left_out_from_ns = clock()
            else:
                self.given_up = "its table of processes was too small (--capacity)"

    def left_out(self, table: ProcessTable, watermark_ns: int) -> list[TrackedProcess]:
        """Return, once after each hand-over, those of whom nothing is told from then on."""
        if watermark_ns < self._left_out_from_ns:
            return []
        self._left_out_from_ns = inf
        living = [process for process in table if process.exited_ns is None]
        told = _with_those_above(process for process in living if self._follows(process))
        return [process for process in living if process not in told]

    def _seeds(self, table: ProcessTable) -> list[Seed]:
        """Return a seed for each living process and for those above it."""
        living = [process for process in table if process.exited_ns is None]
        followed = {process for process in living if self._follows(process)}
        announced = _with_those_above(followed)
        return [
            Seed(
                process.key,
                _key_of_creator(process),
                process in followed if process.exited_ns is None else None,
                process in announced,
            )
            for process in _with_those_above(living)
        ]

    def complete(self, entries: Iterable[Entry]) -> Completed:
        """Add to a snapshot of ``/proc`` what the kernel's side knows: who created whom."""
        living: dict[tuple[int, int], KernelProcess] = {}
        ended: dict[tuple[int, int], list[KernelProcess]] = {}
        all_known: list[KernelProcess] = []
        with self._giving_up():
            all_known = list(self._kernel.processes())
        for each in all_known:
            place = each.key.pid, each.key.ticks
            if each.exited_ns is None:
                living[place] = each
            else:
                ended.setdefault(place, []).append(each)
        found: list[Entry] = []
        unreported: dict[ProcessKey, Unreported] = {}
        for node, info in entries:
            place = node.pid, node.key.ticks
            known = living.get(place)
            if known is not None:
                found.append(_sharpened(node, self._as_sent(info, known), known))
                unreported[known.key] = self._left_out_of(known)
            elif place not in ended and node.exited_ns is None:
                # Of the dead, only what the kernel knows tells two holders of a PID apart.
                found.append((node, info))
        dead = [each for holders in ended.values() for each in holders]
        # The youngest first: a tree keeps them for their children.
        dead.sort(key=lambda each: each.key.start_time_ns, reverse=True)
        found += [_entry_of(each, self._user_of) for each in dead]
        return Completed(found, unreported, {each.key: self._left_out_of(each) for each in dead})

    def _left_out_of(self, known: KernelProcess) -> Unreported:
        is_new = known.exec_left_out > self._known_generation
        return Unreported.EXEC if is_new else Unreported.NAME

    def _as_sent(self, info: ProcInfo, known: KernelProcess) -> ProcInfo:
        """Return what ``/proc`` shows now as the events would have told it then."""
        if self.hold_ns == inf:
            return info  # a gap: what the events would have told is lost
        if known.comm is not None:
            info = replace(info, cmd=known.comm)
        if known.uid is not None:
            info = replace(info, uid=known.uid, gid=known.gid, user=self._user_of(known.uid))
        limit = self._kernel.max_args_bytes
        if info.args_raw is not None and len(info.args_raw) > limit:
            info = replace(info, args_raw=info.args_raw[:limit], truncated=True)
        return info

    def summary(self) -> dict[str, Any]:
        """Return what the statistics file says of it."""
        fallbacks = dict(self.fallbacks)
        return {"times_on": self.times_on, "fallbacks": fallbacks, "given_up": self.given_up}


def _with_those_above(processes: Iterable[TrackedProcess]) -> dict[TrackedProcess, None]:
    found: dict[TrackedProcess, None] = {}
    for process in processes:
        for member in ancestors(process):
            if member in found:
                break
            found[member] = None
    return found


def _key_of_creator(process: TrackedProcess) -> ProcessKey:
    """Return the creator's key as its own seed has it, not as it was known at the birth."""
    creator = process.creator if process.creator_start_ns else None
    return creator.key if creator is not None else process.creator_key


def _sharpened(node: PidNode, info: ProcInfo, known: KernelProcess) -> Entry:
    info = replace(info, start_time_ns=known.key.start_time_ns)
    node = replace(node, cmd=info.cmd, start_time_ns=known.key.start_time_ns)
    creator = known.creator
    if not creator.pid:
        return node, info
    node = replace(
        node,
        ppid=creator.pid,
        creator_start_ns=creator.start_time_ns,
        edge=Edge.LEARNT,
        parent=node.creator if node.ppid != creator.pid else None,
    )
    return node, replace(info, ppid=creator.pid)


def _entry_of(known: KernelProcess, user_of: Callable[[int], str]) -> Entry:
    """Make an entry of a process that has ended but created some that live."""
    creator = known.creator
    node = PidNode(
        ppid=creator.pid,
        cmd=known.comm or "",
        start_time_ns=known.key.start_time_ns,
        pid=known.key.pid,
        creator_start_ns=creator.start_time_ns,
        edge=Edge.LEARNT if creator.pid else Edge.OBSERVED,
        exited_ns=known.exited_ns,
        name_uncertain=known.comm is None,
    )
    info = ProcInfo(
        cmd=node.cmd,
        user=UNKNOWN_NAME if known.uid is None else user_of(known.uid),
        ppid=creator.pid,
        tgid=known.key.pid,
        start_time_ns=known.key.start_time_ns,
        uid=known.uid,
        gid=known.gid,
        exited_ns=known.exited_ns,
    )
    return node, info
