"""The tree that people use: asked by PID, name or process, it answers with processes."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Self, TypeAlias

from proctree_bpf.core import lineage, subtree
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import Answer
from proctree_bpf.core.model import PROC_CACHE_CAP, PROC_CACHE_TTL_SECS, CacheParams
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.text import as_comm
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.errors import NoSuchProcessError, Refusal, SourceUnavailableError
from proctree_bpf.filter_plan import FilterPlan
from proctree_bpf.filters.terms import Filter
from proctree_bpf.process import Origin, Process
from proctree_bpf.sources.base import MOUNT_PROC
from proctree_bpf.sources.system import place, procfs
from proctree_bpf.sources.system.forks import owned_by
from proctree_bpf.sources.system.privilege import in_initial_pid_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from proctree_bpf.core.events import Gap, ProcEvent
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent

Who: TypeAlias = int | ProcessKey | Process
"""A process: a bare PID (who has it now, else who had it last), its identity, or itself."""


class ProcessTree:
    """Who created whom, also after they are gone.

    There are three ways to have one: ``Collector`` keeps one up to date from the kernel's
    events (``Collector.tree``), ``ProcessTree.from_proc()`` is a snapshot, and one that was made
    empty is fed with ``apply`` and ``apply_all``.

    >>> from proctree_bpf import Exec, Exit, Fork, ProcessKey
    >>> tree = ProcessTree()
    >>> init, sshd, git = ProcessKey(1, 10), ProcessKey(70, 20), ProcessKey(80, 30)
    >>> told = tree.apply_all([
    ...     Exec(15, init, comm="init"),
    ...     Fork(20, sshd, creator=init), Exec(25, sshd, comm="sshd"),
    ...     Fork(30, git, creator=sshd), Exec(35, git, comm="git"), Exit(40, sshd, status=0),
    ... ])
    >>> tree.process(80).creators()
    [Process(pid=70, start_time_ns=20), Process(pid=1, start_time_ns=10)]
    >>> tree.is_descendant(80, "sshd"), tree.is_descendant(80, "cron")
    (<Answer.YES: 'yes'>, <Answer.NO: 'no'>)
    >>> print(tree.display(1))
    init(1)
    └─ sshd(70) [exited]
       └─ git(80)

    All methods may be called from any thread.

    Args:
        capacity: so many processes are remembered; beyond that, ended ones go first.
        ttl_s: seconds that a process is remembered after its end; as long as something that it
            created is remembered, it is, too.

    Raises:
        ValueError: a bound that is none.

    """

    def __init__(
        self, *, capacity: int = PROC_CACHE_CAP, ttl_s: float = PROC_CACHE_TTL_SECS
    ) -> None:
        params = CacheParams(capacity, ttl_s)
        self.pid_tree = PidTree(params)
        """The places of processes, as the functions of ``proctree_bpf.compat`` want them."""
        self.proc_cache = ProcCache(params)
        """The details of processes, for the same functions."""
        self.tracker = Tracker(self.pid_tree, self.proc_cache, procfs.uid_to_username)
        """What applies events; for whoever runs a ``Pipeline``."""
        self.origin = Origin(self.tracker, None)
        """Where its processes look; for ``Collector``."""
        self._table = self.tracker.table
        owned_by(self)

    @classmethod
    def from_proc(
        cls,
        proc: str = procfs.PROC,
        *,
        capacity: int = PROC_CACHE_CAP,
        ttl_s: float = PROC_CACHE_TTL_SECS,
    ) -> Self:
        """Return a snapshot of what runs now. It needs no privilege.

        The creator of a process is taken to be its present parent, which for an orphan is who
        adopted it: ``is_descendant`` says UNKNOWN where that matters.

        Args:
            proc: where ``/proc`` is mounted.
            capacity: see the class.
            ttl_s: see the class.

        Raises:
            SourceUnavailableError: there is no ``/proc``, or it is of another PID namespace.

        """
        if proc == procfs.PROC:
            place.require(place.proc_trouble())
        tree = cls(capacity=capacity, ttl_s=ttl_s)
        try:
            tree.tracker.merge_snapshot(procfs.read_snapshot(proc))
        except OSError as error:
            reason = f"{proc} cannot be listed ({error.strerror or error})"
            raise SourceUnavailableError(reason, MOUNT_PROC, Refusal.UNSUPPORTED) from error
        tree.origin.proc = proc
        tree.origin.has_outside = proc == procfs.PROC and not in_initial_pid_namespace()
        return tree

    # Feeding it

    def apply(self, event: ProcEvent) -> ProcessEvent | None:
        """Take one event; return it and its process as it was then, or None if nothing was new.

        Events may come twice, or late: a known fact is never overwritten by an unknown one.
        """
        return self.tracker.apply(event)

    def apply_all(self, events: Iterable[ProcEvent]) -> list[ProcessEvent]:
        """Take events in their order; return those that told something new, as ``apply`` does."""
        return [told for event in events if (told := self.tracker.apply(event)) is not None]

    def note_gap(self, gap: Gap) -> None:
        """Take note that events were lost: what may have changed meanwhile is UNKNOWN now."""
        with self._table.lock:
            self.tracker.note_gap(gap)

    def leave_to_parent(self) -> None:
        """Let it be read in a child of this process: our lock may be held by a thread it lacks."""
        self._table.lock = RLock()

    def matching(self, wanted: str | Filter) -> Callable[[ProcessEvent], bool]:
        """Return what tells whether an event that ``apply`` returned is wanted.

        It must be asked of each, before the next is applied: it follows who creates whom.

        >>> from proctree_bpf import Exec, ProcessKey
        >>> tree = ProcessTree()
        >>> is_wanted = tree.matching("name=git,ssh")
        >>> is_wanted(tree.apply(Exec(1, ProcessKey(7, 1), comm="git")))
        True

        Raises:
            FilterError: it cannot be understood, or names who is not there.

        """
        if not isinstance(wanted, Filter):
            wanted = Filter.parse(wanted)
        plan = FilterPlan(wanted, self.pid_tree.params.capacity, is_of_here=False)
        chosen = plan.filter_for(self.pid_tree, self.proc_cache)
        if chosen is None:
            return lambda _event: True
        with self._table.lock:
            chosen.survey()
        return chosen.admits

    # Asking it

    def __len__(self) -> int:
        return len(self.pid_tree)

    def __iter__(self) -> Iterator[Process]:
        return iter([self._at(record) for record in self._records()])

    def __contains__(self, who: object) -> bool:
        if not isinstance(who, int | ProcessKey | Process):
            return False
        return self._find(who) is not None

    def process(self, who: Who) -> Process:
        """Return a process; a bare PID means who has it now, else who had it last.

        Raises:
            NoSuchProcessError: the tree knows no such process.

        """
        return self._at(self._need(who))

    def find(
        self,
        *,
        name: str | None = None,
        user: str | int | None = None,
        exe: str | None = None,
        live_only: bool = False,
    ) -> list[Process]:
        """Return the processes to which all of this applies, by PID.

        Args:
            name: the name (comm); of a longer one the first 15 bytes count, as for the kernel.
            user: the real user's name, or a uid.
            exe: the path of the file that runs.
            live_only: leave out those that have ended.

        """
        comm = None if name is None else as_comm(name)
        found = [
            record
            for record in self._records()
            if (comm is None or as_comm(record.cmd) == comm)
            and (user is None or user in (record.user, record.uid))
            and (exe is None or record.executable == exe)
            and (not live_only or record.exited_ns is None)
        ]
        return [self._at(record) for record in sorted(found, key=lambda record: record.key)]

    def children(
        self, who: Who, *, recursive: bool = False, live_only: bool = False
    ) -> list[Process]:
        """Return those that a process created; see ``Process.children``.

        Raises:
            NoSuchProcessError: the tree knows no such process.

        """
        return self.process(who).children(recursive=recursive, live_only=live_only)

    def is_descendant(self, who: Who, ancestor: str | Who) -> Answer:
        """Tell whether a process is, or came from, an ancestor: by creation, whoever adopted it.

        Args:
            who: the process; that which is not known gives UNKNOWN.
            ancestor: a name (comm), which any process may have; or one process.

        Returns:
            NO only if every creator up to the first process was seen, and no exec of them can
            have been lost; else UNKNOWN. In a container with PIDs of its own, any name may be
            that of one outside.

        """
        with self._table.lock:
            record = self._find(who)
            if record is None:
                return Answer.UNKNOWN
            if isinstance(ancestor, str):
                answer = lineage.ancestry(self.pid_tree, record.key, ancestor)
                is_seen = answer is not Answer.NO or not self.origin.has_outside
                return answer if is_seen else Answer.UNKNOWN
            above = self._find(ancestor)
            return Answer.UNKNOWN if above is None else _came_from(record, above)

    def chain(self, who: Who, *, max_ancestors: int | None = None) -> str:
        """Return a process and its creators as ``pid|name|user;pid|name|user;…``.

        ``|``, ``;`` and what does not print are escaped in names; ``parse_chain_string`` of
        ``proctree_bpf.compat`` reads it back. A creator that is not remembered is
        ``pid|unknown|unknown``; ``…`` stands for those beyond ``max_ancestors``, and ``~`` before
        one that was only seen as the parent of one whose fork was missed.

        Raises:
            NoSuchProcessError: the tree knows no such process.

        """
        with self._table.lock:
            return lineage.build_chain_string(
                self.pid_tree, self.proc_cache, self._need(who), max_ancestors=max_ancestors
            )

    def display(self, who: Who | None = None, *, live_only: bool = False) -> str:
        """Draw a process and all below it, a line each, or everything there is.

        Raises:
            NoSuchProcessError: the tree knows no such process.

        """
        with self._table.lock:
            if who is not None:
                tops = [self._need(who)]
            else:
                tops = [record for record in self._records() if record.creator is None]
                tops.sort(key=lambda record: record.key)
            drawn = [
                subtree.display(self.pid_tree, top.key, live_only=live_only)
                for top in tops
                if who is not None or not live_only or top.exited_ns is None
            ]
        return "\n".join(drawn)

    def _at(self, record: TrackedProcess) -> Process:
        return Process(self.origin, record)

    def _records(self) -> list[TrackedProcess]:
        return self.pid_tree.processes()

    def _find(self, who: Who) -> TrackedProcess | None:
        with self._table.lock:
            record = who.within(self.origin) if isinstance(who, Process) else self._table.get(who)
        return record if record is not None and record.has_place else None

    def _need(self, who: Who) -> TrackedProcess:
        record = self._find(who)
        if record is None:
            raise NoSuchProcessError(who if isinstance(who, int) else who.pid)
        return record


def _came_from(record: TrackedProcess, above: TrackedProcess) -> Answer:
    """Tell whether one process is, or was created by or below, another one."""
    certain = True
    last = record
    for each in lineage.ancestors(record):
        if each is above:
            return Answer.YES
        if lineage.is_perhaps_adopted(each) and _may_be_above(above, each):
            certain = False
        last = each
    if last.ppid not in (0, last.pid) and _may_be_above(above, last):
        certain = False
    return Answer.NO if certain else Answer.UNKNOWN


def _may_be_above(above: TrackedProcess, record: TrackedProcess) -> bool:
    """Tell whether one is no younger than the other, as far as is known."""
    known = above.start_time_ns and record.start_time_ns
    return not known or above.ticks <= record.ticks
