"""The kernel's parent of a process: what ``/proc`` says now, or what events have told.

The kernel replaces a parent only when that one ends: by init, or by a subreaper. Where its exit
does not say by whom (only BPF does), what is remembered holds as long as that parent lives, and
not longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.identity import TICK_NS, ProcessKey, same_start
from proctree_bpf.core.process import may_have_created
from proctree_bpf.sources.base import MORE_FILES, failing_as
from proctree_bpf.sources.system.procfs import read_stat

if TYPE_CHECKING:
    from proctree_bpf.codecs.proc_files import Stat
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable

# init, and the kernel's own kthreadd: nobody else is without a parent.
_WITHOUT_PARENT = (1, 2)


def is_pinned(process: TrackedProcess) -> bool:
    """Tell whether what is known of the start is what ``/proc`` shows of it."""
    return bool(process.start_time_ns) and not process.approximate


def _read(pid: int, proc: str) -> Stat | None:
    with failing_as(f"{proc} cannot be read", MORE_FILES):
        return read_stat(pid, proc)


def _stat_of(process: TrackedProcess, proc: str) -> Stat | None:
    """Read ``/proc/PID/stat``; None unless it is certain to be of this very process."""
    stat = _read(process.pid, proc)
    if stat is None or not same_start(process.start_time_ns, stat.start_ticks * TICK_NS):
        return None
    return stat


def lives_in(proc: str, process: TrackedProcess) -> bool:
    """Tell whether ``/proc`` shows a process that is not known to have ended."""
    stat = _stat_of(process, proc) if is_pinned(process) else _read(process.pid, proc)
    return stat is not None and not stat.ended


def ppid_in(proc: str, process: TrackedProcess) -> int | None:
    """Return the parent's PID as ``/proc`` has it now; None if the process is not there."""
    stat = _stat_of(process, proc)
    return None if stat is None else stat.ppid


def parent_in(proc: str, process: TrackedProcess) -> ProcessKey | None:
    """Return the parent's identity as ``/proc`` has it now; None if that cannot be had.

    Whose child a process was before and after its parent was read, that one it was meanwhile.
    """
    for _ in range(3):
        ppid = ppid_in(proc, process)
        if not ppid:
            return None
        stat = _read(ppid, proc)
        if stat is not None and ppid_in(proc, process) == ppid:
            return ProcessKey(ppid, stat.start_ticks * TICK_NS)
    return None


def parent_told(table: ProcessTable, process: TrackedProcess) -> TrackedProcess | None:
    """Return the parent that events told, if it has been the parent since.

    Of a process that has ended, it is the one that it had then.
    """
    parent = table.get(process.kernel_parent)
    if parent is None or not may_have_created(parent, process):
        return None
    if parent.exited_ns is None:
        return parent
    # At the same time: both were missed at once, and nobody knows in which order.
    outlived = process.exited_ns is not None and parent.exited_ns > process.exited_ns
    return parent if outlived else None


def ppid_told(table: ProcessTable, process: TrackedProcess) -> int | None:
    """Return the PID of ``parent_told``; 0 for those that the kernel gives no parent."""
    if not process.kernel_parent.pid:
        return 0 if process.pid in _WITHOUT_PARENT else None
    parent = parent_told(table, process)
    return None if parent is None else parent.pid
