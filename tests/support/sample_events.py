"""Events of one short story: a shell forks a child that runs ls and ends with 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent
from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import PidNode, ProcInfo
from support.values import replace

if TYPE_CHECKING:
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.tracker import Tracker

S = 1_000_000_000
USERS = {0: "root", 1000: "ada", 1001: "bob"}

INIT = ProcessKey(1, TICK_NS)
SHELL = ProcessKey(100, 50 * S + 7)
CHILD = ProcessKey(200, 60 * S + 123)
CHILD_TICK = ProcessKey(200, 60 * S)
LATER = ProcessKey(200, 70 * S + 456)  # another process with the PID of CHILD

FORK = Fork(CHILD.start_time_ns, CHILD, SHELL, parent=SHELL, uid=1000, gid=1000, comm="bash")
EXEC = Exec(
    60 * S + 1_000,
    CHILD,
    uid=1000,
    gid=1000,
    comm="ls",
    executable="/usr/bin/ls",
    args_raw=b"ls\0-l\0",
)
EXIT = Exit(61 * S, CHILD, status=3 << 8, uid=1000, gid=1000, comm="ls")


def entry(
    key: ProcessKey, creator: ProcessKey, cmd: str, **details: object
) -> tuple[PidNode, ProcInfo]:
    """One process as a look at ``/proc`` gives it: ticks, and a parent."""
    start = key.ticks * TICK_NS
    node = PidNode(creator.pid, cmd, start, key.pid, creator.ticks * TICK_NS)
    info = ProcInfo(
        cmd, "ada", creator.pid, key.pid, start, uid=1000, gid=1000, executable=f"/usr/bin/{cmd}"
    )
    return node, replace(info, **details)  # type: ignore[arg-type]


SNAPSHOT = [
    entry(INIT, ProcessKey(0), "init", user="root", uid=0),
    entry(SHELL, INIT, "bash", args_raw=b"-bash\0"),
]


def node_of(tracker: Tracker, who: int | ProcessKey) -> PidNode:
    node = tracker.tree.get_node(who)
    assert node is not None
    return node


def info_of(tracker: Tracker, who: int | ProcessKey) -> ProcInfo:
    info = tracker.cache.get_info(who)
    assert info is not None
    return info


def state(tracker: Tracker) -> tuple[dict[ProcessKey, PidNode], dict[ProcessKey, ProcInfo]]:
    nodes = tracker.tree.all_nodes()
    infos = {node.key: info_of(tracker, node.key) for node in nodes}
    return {node.key: node for node in nodes}, infos


def apply_all(tracker: Tracker, *events: ProcEvent) -> list[ProcessEvent | None]:
    return [tracker.apply(event) for event in events]
