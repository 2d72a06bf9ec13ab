"""One process as psutil's users expect one: an object, pinned to PID and start time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from proctree_bpf.core import lineage, subtree
from proctree_bpf.core.identity import Sameness, compare
from proctree_bpf.core.model import UNKNOWN_NAME, Edge
from proctree_bpf.errors import NoSuchProcessError
from proctree_bpf.kernel_parent import (
    is_pinned,
    lives_in,
    parent_in,
    parent_told,
    ppid_in,
    ppid_told,
)
from proctree_bpf.sources.system.clock import wall_offset_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable
    from proctree_bpf.core.tracker import Tracker

T = TypeVar("T")
_SECOND_NS = 1_000_000_000


class Origin:
    """Where processes look what they are asked for.

    Args:
        tracker: keeps the table.
        proc: ``/proc`` if the table tells of this machine, now; else None.

    """

    def __init__(self, tracker: Tracker, proc: str | None) -> None:
        self.tracker = tracker
        self.proc = proc
        self.has_outside = False
        """Whether the first process was created outside of this container, where nobody is seen."""
        self.wall_offset_ns: int | None = None

    @property
    def table(self) -> ProcessTable:
        """The processes that are remembered."""
        return self.tracker.table

    def wall_s(self, time_ns: int) -> float:
        """Return the time of day (seconds since 1970, UTC) of a time since boot."""
        if self.wall_offset_ns is None:
            self.wall_offset_ns = wall_offset_ns()
        return (time_ns + self.wall_offset_ns) / _SECOND_NS


class Process:
    """One process, pinned to its identity: a later one with the same PID is another.

    Made by ``ProcessTree`` and ``Collector``. Two words are kept apart: the *creator* called
    fork, which never changes and survives everybody's death; the *parent* is the kernel's, as
    psutil's, and changes when it ends.

    >>> import os
    >>> from proctree_bpf import ProcessTree
    >>> process = ProcessTree.from_proc().process(os.getpid())
    >>> process.ppid() == os.getppid(), process.is_running(), process.exit_code
    (True, True, None)
    >>> process in process.parent().children()
    True

    Raises:
        NoSuchProcessError: from any method but ``is_running`` once the tree has forgotten the
            process: ten minutes after its end, or for want of room.
        SourceFailedError: from those that ask ``/proc``, if no more files can be open.

    """

    __slots__ = ("_key", "_origin", "_record")

    def __init__(self, origin: Origin, record: TrackedProcess) -> None:
        self._origin = origin
        self._record = record
        self._key = record.key

    def __repr__(self) -> str:
        return f"Process(pid={self.pid}, start_time_ns={self.start_time_ns})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Process):
            return NotImplemented
        same = self._record is other._record
        return same or compare(self.key, other.key) is Sameness.SAME

    def __hash__(self) -> int:
        return hash(self.pid)  # the start time may become known better

    def _known(self) -> TrackedProcess:
        """Return what is known of it.

        Raises:
            NoSuchProcessError: it was forgotten.

        """
        record = self._record
        if not record.is_kept:
            # One that lived when it was forgotten for want of room may have been heard of since.
            again = self._origin.table.find(*record.key) if record.start_time_ns else None
            if again is None:
                raise NoSuchProcessError(record.pid)
            self._record = record = again
        return record

    def within(self, origin: Origin) -> TrackedProcess | None:
        """Return what a tree, this one's or another, keeps of it: for ``ProcessTree``."""
        if origin is self._origin and self._record.is_kept:
            return self._record
        return origin.table.find(*self.key)

    def _at(self, record: TrackedProcess | None) -> Process | None:
        return None if record is None else Process(self._origin, record)

    @property
    def pid(self) -> int:
        """The PID."""
        return self._key.pid

    @property
    def key(self) -> ProcessKey:
        """The identity: PID and start time."""
        return self._record.key

    @property
    def start_time_ns(self) -> int:
        """The start (``CLOCK_BOOTTIME``), in whole ticks of 10 ms if ``/proc`` told; 0: unknown."""
        return self._record.start_time_ns

    @property
    def exited_ns(self) -> int | None:
        """When it ended (``CLOCK_BOOTTIME``), or None while the tree takes it for living."""
        return self._known().exited_ns

    @property
    def exit_code(self) -> int | None:
        """The code passed to exit; None while it lives, if a signal ended it, or if unknown."""
        return self._known().exit_code

    @property
    def exit_signal(self) -> int | None:
        """The number of the signal that ended it, or None."""
        return self._known().exit_signal

    @property
    def creator_is_certain(self) -> bool:
        """Whether the creator is certain to have called fork.

        Of what ran before, and where the source is not certain, it is the parent that the process
        had when it was met: an ancestor, but for an orphan only the one that adopted it.
        """
        return self._known().edge is not Edge.OBSERVED

    def name(self) -> str:
        """Return the name (comm), 15 bytes at most."""
        return self._known().cmd

    def exe(self) -> str | None:
        """Return the path of the file that runs, or None if it is not known."""
        return self._known().executable

    def cmdline(self) -> list[str]:
        """Return the arguments; empty if there are none, or they are not known."""
        return list(self._known().args)

    def username(self) -> str | None:
        """Return the name of the real user, its id if it has no name, or None if not known."""
        user = self._known().user
        return None if user == UNKNOWN_NAME else user

    def uid(self) -> int | None:
        """Return the real user id, or None if it is not known."""
        return self._known().uid

    def create_time(self) -> float | None:
        """Return the start in seconds since 1970 (UTC), or None if it is not known."""
        start_ns = self._known().start_time_ns
        return self._origin.wall_s(start_ns) if start_ns else None

    def is_running(self) -> bool:
        """Tell whether this very process lives.

        ``/proc`` is asked, where the tree tells of this machine. One that has ended does not
        run, also while its parent has not waited for it.
        """
        try:
            record = self._known()
        except NoSuchProcessError:
            return False
        if record.exited_ns is not None:
            return False
        return self._origin.proc is None or lives_in(self._origin.proc, record)

    # Who called fork.

    def creator(self) -> Process | None:
        """Return the process that called fork; it may have ended.

        None if it is not remembered, and for the first processes of all.
        """
        return self._at(self._known().creator)

    def creators(self) -> list[Process]:
        """Return its creator, that one's creator and so on, as far as they are remembered."""
        with self._origin.table.lock:
            line = list(lineage.ancestors(self._known()))
        return [Process(self._origin, record) for record in line[1:]]

    def children(self, *, recursive: bool = False, live_only: bool = False) -> list[Process]:
        """Return those that this one created, oldest first; with ``recursive`` all below it.

        Args:
            recursive: theirs too, breadth first.
            live_only: leave out those that have ended, but still look below them.

        """
        with self._origin.table.lock:
            record = self._known()
            if recursive:
                found = list(subtree.below(record, live_only=live_only))
            else:
                born = sorted(record.children or (), key=lambda child: child.ticks)
                found = [child for child in born if not live_only or child.exited_ns is None]
        return [Process(self._origin, each) for each in found]

    # Who the kernel calls the parent.

    def ppid(self) -> int | None:
        """Return the PID of the kernel's parent; 0 for init and kthreadd, which have none.

        Of a living process it is the one of this moment, as ``/proc`` says. Of one that has
        ended, or in a tree that does not tell of this machine, it is the one that was told
        last, as long as that lived; only BPF tells at once who adopts an orphan. None: not known.
        """
        record, proc = self._asked_in()
        if proc is not None:
            return ppid_in(proc, record)
        with self._origin.table.lock:
            return self._told(record, ppid_told)

    def parent(self) -> Process | None:
        """Return the kernel's parent; None if it has none, or it is not known. See ``ppid``."""
        record, proc = self._asked_in()
        key = None if proc is None else parent_in(proc, record)
        with self._origin.table.lock:
            if proc is None:
                return self._at(self._told(record, parent_told))
            return None if key is None else self._at(self._origin.table.find(*key))

    def parents(self) -> list[Process]:
        """Return the kernel's parent, that one's parent and so on, as far as they are known."""
        found: list[Process] = []
        parent = self.parent()
        while parent is not None and parent not in found:
            found.append(parent)
            parent = parent.parent()
        return found

    def _asked_in(self) -> tuple[TrackedProcess, str | None]:
        """Return what is known, and ``/proc`` if that can tell who its parent is now."""
        record = self._known()
        can_tell = record.exited_ns is None and is_pinned(record)
        return record, self._origin.proc if can_tell else None

    def _told(
        self, record: TrackedProcess, ask: Callable[[ProcessTable, TrackedProcess], T | None]
    ) -> T | None:
        """Ask what events have told; while some are lost, who ended meanwhile is not known."""
        if record.exited_ns is None and self._origin.tracker.uncertain:
            return None
        return ask(self._origin.table, record)
