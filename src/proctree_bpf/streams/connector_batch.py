"""What the proc connector messages of one poll say of each other. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proctree_bpf.codecs.cn_proc import What

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf.codecs.cn_proc import CnProcEvent

# Of a wait(2) status.
_SIGNAL_MASK = 0x7F
_CORE_DUMP_FLAG = 0x80


class Batch(NamedTuple):
    """What the messages of one poll say of each other."""

    outdated: set[int]
    """Forks and execs whose PID was forked, or called exec, again since: what ``/proc``
    says of it now is about the later event."""
    execed: set[int]
    """Forks whose child has called exec since: one reading answers both."""
    other_status: dict[int, int]
    """With what the last thread to end, leaders apart, ended in each process."""
    forks_ns: dict[int, list[int]]
    """When each PID was forked, the latest first."""
    named_ends_ns: dict[int, list[int]]
    """When a process of this PID ended that had not been waited for. (A leader that ends because
    one of its threads calls exec is no process that ends.)"""


def batch_of(messages: Sequence[CnProcEvent], times_ns: Sequence[int]) -> Batch:
    """Compare the messages of one poll, and their times, with each other."""
    batch = Batch(set(), set(), {}, {}, {})
    forked = batch.forks_ns
    execed: set[int] = set()
    to_exec: set[int] = set()
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        pid = message.tgid
        if message.what == What.FORK and not message.is_thread:
            if pid in forked:
                batch.outdated.add(index)
            elif pid in execed:
                batch.execed.add(index)
            forked.setdefault(pid, []).append(times_ns[index])
            to_exec.discard(pid)
        elif message.what == What.EXEC:
            if pid in forked or pid in execed:
                batch.outdated.add(index)
            execed.add(pid)
            to_exec.add(pid)
        elif message.what == What.EXIT and message.is_thread:
            batch.other_status.setdefault(pid, message.values[0])
        elif message.what == What.EXIT and message.parent_tgid and pid not in to_exec:
            batch.named_ends_ns.setdefault(pid, []).append(times_ns[index])
    return batch


def status_of(leader: int | None, other: int | None) -> int | None:
    """Return the wait(2) status of a process whose leader was not the last to end, perhaps.

    If they disagree, it depends on how the last one ended which of the two it is. A signal
    ends all alike.
    """
    if leader is None:
        return None
    if other is None:
        return leader if leader & _SIGNAL_MASK else None
    if leader & _SIGNAL_MASK and not (leader ^ other) & _SIGNAL_MASK:
        return leader | other
    return leader if leader == other else None


def is_core_dump(status: int) -> bool:
    """Tell whether a signal ended a thread and the kernel wrote a core dump."""
    return bool(status & _SIGNAL_MASK and status & _CORE_DUMP_FLAG)


def with_core_dump(status: int) -> int:
    """Return the status of a process of which one thread told of a core dump."""
    return status | _CORE_DUMP_FLAG if status & _SIGNAL_MASK else status
