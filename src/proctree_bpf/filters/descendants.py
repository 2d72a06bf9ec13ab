"""One process and everything that it creates, followed through a stream of events. Pure.

Belonging means creation, so neither a double fork nor a new parent loses anyone, and the
living are kept by identity, so a reused PID lets nobody in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.compact import value_of
from proctree_bpf.core.events import Exec, Exit, Fork
from proctree_bpf.core.identity import ProcessKey, Sameness, compare, more_exact
from proctree_bpf.core.lineage import ancestors

if TYPE_CHECKING:
    from collections.abc import Collection

    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.events import ProcEvent
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable


class DescendantSet:
    """Recognises a process and its descendants, from events in causal order.

    Args:
        root: a process that has no descendants yet. A recording may tell of a stranger that had
            its PID.

    """

    def __init__(self, root: ProcessKey) -> None:
        self._root = root
        self._living = {root.pid: root}
        self.pids: Collection[int] = self._living.keys()
        """Of the living ones: an event that names none of these PIDs is about none of them."""

    @property
    def living(self) -> tuple[ProcessKey, ...]:
        """Those who are not known to have ended."""
        return tuple(self._living.values())

    def survey(self, table: ProcessTable) -> None:
        """Take in those of a table who came from a member: their forks may not have been told."""
        is_member: dict[TrackedProcess, bool] = {}
        for process in list(table):
            if process.exited_ns is not None:
                continue
            line: list[TrackedProcess] = []
            found = False
            for above in ancestors(process):
                found = is_member.get(above, False) or self._has_had(above)
                if found or above in is_member:
                    break
                line.append(above)
            is_member |= dict.fromkeys(line, found)
            if found:
                self._living[process.pid] = process.key

    def _has_had(self, process: TrackedProcess) -> bool:
        if process.exited_ns is None:
            return process.pid in self._living and self.has(process.key)
        return process.pid == self._root.pid and (
            compare(self._root, process.key) is not Sameness.DIFFERENT
        )

    def includes(self, event: AnyEvent) -> bool:
        """Tell whether an event is about one of them; to be asked once for each event."""
        living = self._living
        above = event.creator_pid if event.kind == "fork" else event.parent_pid
        if event.pid not in living and above not in living:
            return False  # as most are
        return self._decide(value_of(event))

    def _decide(self, event: ProcEvent) -> bool:
        if isinstance(event, Fork):
            return self._take_in(event.child, event.creator)
        key = event.key
        if not (key.pid in self._living and self.has(key)) and not self._is_late_comer(event):
            return False
        if isinstance(event, Exit):
            del self._living[key.pid]
        else:
            self._living[key.pid] = more_exact(self._living[key.pid], key)
        return True

    def has(self, key: ProcessKey) -> bool:
        """Tell whether a living process is one of them."""
        member = self._living.get(key.pid)
        # A PID without a start time is its living owner.
        return member is not None and compare(member, key) is not Sameness.DIFFERENT

    def _take_in(self, child: ProcessKey, creator: ProcessKey) -> bool:
        if creator.pid in self._living and self.has(creator):
            self._living[child.pid] = child
            return True
        self._living.pop(child.pid, None)  # its end was lost: the PID has another owner now
        return False

    def _is_late_comer(self, event: ProcEvent) -> bool:
        """Take in a process whose fork was lost, by the parent that it has now.

        Only descendants ever get a member for their parent: the kernel gives an orphan to
        a subreaper above it.
        """
        if type(event) is not Exec and type(event) is not Exit:
            return False
        parent = event.parent
        if parent is None or parent.pid not in self._living:
            return False
        return self.has(parent) and self._take_in(event.key, parent)
