"""Small trees of processes, by hand."""

from __future__ import annotations

from proctree_bpf.core.identity import TICK_NS
from proctree_bpf.core.model import Edge, PidNode
from proctree_bpf.core.stores import PidTree
from support.values import replace

S = 1_000_000_000
MAX_PID = 2**32 - 1
NOBODY = [0, 99_999, MAX_PID]


def start(pid: int) -> int:
    """Every process of these trees starts a tick after the one with the PID before."""
    return pid * TICK_NS + 1 if pid else 0


def grow(*edges: tuple[int, int, str], edge: Edge = Edge.CREATED) -> PidTree:
    """Make a tree from (pid, ppid, cmd)."""
    tree = PidTree()
    for pid, ppid, cmd in edges:
        tree.insert_node(pid, PidNode(ppid, cmd, start(pid), pid, start(ppid), edge))
    return tree


def end(tree: PidTree, pid: int, at: int = 100 * S) -> None:
    node = tree.get_node(pid)
    assert node is not None
    tree.insert_node(pid, replace(node, exited_ns=at))
