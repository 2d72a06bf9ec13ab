"""What is below a process, and what a whole tree holds. Pure, iterative, and safe against cycles.

Parameters and answers are as in ``core.lineage``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proctree_bpf.core.lineage import _as_key, creator_of, every, find
from proctree_bpf.core.model import UNKNOWN_NAME
from proctree_bpf.core.process import TrackedProcess, node_of
from proctree_bpf.core.stores import PidTree
from proctree_bpf.core.text import as_comm, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proctree_bpf.core.identity import ProcessKey
    from proctree_bpf.core.lineage import Placed
    from proctree_bpf.core.model import PidNode
    from proctree_bpf.core.stores import CacheStore, TreeStore

_DEEPEST_INDENT = 64


def child_nodes(
    tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False
) -> list[PidNode]:
    """Return the nodes of the processes that this one created, oldest first."""
    return [_as_node(child) for child in _children(tree, pid, live_only=live_only)]


def _children(
    tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False
) -> Sequence[Placed]:
    node = find(tree, pid)
    found = _brood(tree, node.key if node is not None else _as_key(pid))
    return [child for child in found if not live_only or child.exited_ns is None]


def _as_node(placed: Placed) -> PidNode:
    return node_of(placed) if isinstance(placed, TrackedProcess) else placed


def _brood(tree: TreeStore, key: ProcessKey) -> Sequence[Placed]:
    """Return what a process created, oldest first; insertion decides between equals."""
    if not isinstance(tree, PidTree):
        return sorted(tree.child_nodes(key), key=_by_start)
    with tree.table.lock:
        found = tree.table.children(key)
    return sorted(found, key=_by_start)


def children(tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False) -> list[int]:
    """Return the PIDs of the processes that this one created."""
    return [child.pid for child in _children(tree, pid, live_only=live_only)]


def descendant_nodes(
    tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False
) -> Iterator[PidNode]:
    """Yield the nodes below a process, breadth first.

    ``live_only`` leaves out the exited ones but still looks below them.
    """
    return map(_as_node, _below(tree, pid, live_only=live_only))


def below(process: TrackedProcess, *, live_only: bool = False) -> Iterator[TrackedProcess]:
    """Yield those that came from a process, breadth first; see ``descendant_nodes``."""
    queue = deque([process])
    seen = {process}
    while queue:
        for child in sorted(queue.popleft().children or (), key=_by_start):
            if child in seen:
                continue
            seen.add(child)
            queue.append(child)
            if not live_only or child.exited_ns is None:
                yield child


def _by_start(placed: Placed) -> int:
    return placed.ticks


def _below(tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False) -> Iterator[Placed]:
    root = find(tree, pid)
    if isinstance(root, TrackedProcess):
        yield from below(root, live_only=live_only)
        return
    start = root.key if root is not None else _as_key(pid)
    queue = deque([start])
    seen = {start}
    while queue:
        for child in _brood(tree, queue.popleft()):
            if child.key in seen:
                continue
            seen.add(child.key)
            queue.append(child.key)
            if not live_only or child.exited_ns is None:
                yield child


def descendants(tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False) -> list[int]:
    """Return the PIDs below a process, breadth first."""
    return [node.pid for node in _below(tree, pid, live_only=live_only)]


def siblings(tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False) -> list[int]:
    """Return the PIDs that the same process created, without this one."""
    node = find(tree, pid)
    if node is None or node.ppid in (0, node.pid):
        return []
    creator = creator_of(tree, node)
    brood = _brood(tree, creator.key if creator is not None else node.creator_key)
    return [
        other.pid
        for other in brood
        if other.key != node.key and (not live_only or other.exited_ns is None)
    ]


def find_by_cmd(tree: TreeStore, cmd: str, *, live_only: bool = False) -> list[int]:
    """Return the PIDs of the processes with this name (comm), in ascending order.

    Names are compared as ``core.text.as_comm`` cuts them.
    """
    target = as_comm(cmd)
    return sorted(
        node.pid
        for node in every(tree)
        if as_comm(node.cmd) == target and (not live_only or node.exited_ns is None)
    )


def find_by_user(
    tree: TreeStore, cache: CacheStore, user: str, *, live_only: bool = False
) -> list[int]:
    """Return the PIDs of the processes of this user, in ascending order."""
    found = []
    for node in every(tree):
        info = cache.get_info(node.key)
        if info is not None and info.user == user and (not live_only or node.exited_ns is None):
            found.append(node.pid)
    return sorted(found)


def display(tree: TreeStore, pid: int | ProcessKey, *, live_only: bool = False) -> str:
    """Draw a process and all below it in the style of pstree, one process a line.

    An exited process is marked, or with ``live_only`` left out with all below it; an
    unknown PID is drawn as ``unknown(PID)``. Names are shown with their control
    characters escaped. Below 64 levels the indentation
    stops and the depth is written. The last line has no newline.
    """
    root = find(tree, pid)
    if root is None:
        return f"{UNKNOWN_NAME}({_as_key(pid).pid})"
    lines = []
    seen = {root.key}
    # Depth first with a stack of its own: node, depth, prefix of its line, prefix below it.
    stack = [(root, 0, "", "")]
    while stack:
        node, depth, own, below = stack.pop()
        mark = "" if node.exited_ns is None else " [exited]"
        lines.append(f"{own}{visible(node.cmd) or UNKNOWN_NAME}({node.pid}){mark}")
        kids = []
        for child in _brood(tree, node.key):
            if child.key not in seen and (not live_only or child.exited_ns is None):
                seen.add(child.key)
                kids.append(child)
        for index, child in enumerate(reversed(kids)):
            branch, bar = ("└─ ", "   ") if index == 0 else ("├─ ", "│  ")
            if depth < _DEEPEST_INDENT:
                stack.append((child, depth + 1, below + branch, below + bar))
            else:  # or the drawing of a long chain would grow with its square
                stack.append((child, depth + 1, f"{below}{branch}[depth {depth + 1}] ", below))
    return "\n".join(lines)


def tree_len(tree: TreeStore) -> int:
    """Count the processes in the tree, the exited ones too."""
    return len(tree)
