"""Questions to a tree: who created whom. Pure, iterative, and safe against cycles.

``pid`` parameters take a bare PID or a ``ProcessKey``; a bare PID means its living
process, else the one that had it last. Ancestry is creation: a process belongs to
whoever called fork, also after its creator has ended. Exited processes that are
still remembered are part of every answer unless ``live_only`` is set.
"""

from __future__ import annotations

from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from proctree_bpf.core.chain import format_chain
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.model import OMITTED, UNKNOWN_NAME, Edge, PidNode, ProcessLink
from proctree_bpf.core.process import TrackedProcess, may_have_created
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.text import COMM_BYTES, as_comm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proctree_bpf.core.stores import CacheStore, TreeStore


T = TypeVar("T")


class Answer(Enum):
    """The answer to a question of ancestry."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """A part of the chain was not seen, so "no" cannot be said."""


Placed: TypeAlias = "TrackedProcess | PidNode"
"""What is known of a process's place: by our own tree, or by one of another make."""


def find(tree: TreeStore, who: int | ProcessKey) -> Placed | None:
    """Return what a tree knows of a process, to be looked at before the tree changes."""
    if not isinstance(tree, PidTree):
        return tree.get_node(who)
    process = tree.table.get(who)
    return process if process is not None and process.has_place else None


def are_joined(tree: TreeStore, cache: CacheStore) -> bool:
    """Tell whether what a tree knows of a process is all that the cache knows, too."""
    return isinstance(tree, PidTree) and isinstance(cache, ProcCache) and cache.table is tree.table


def every(tree: TreeStore) -> Sequence[Placed]:
    """Return all that a tree knows, the exited ones too."""
    return tree.processes() if isinstance(tree, PidTree) else tree.all_nodes()


def creator_of(tree: TreeStore, node: Placed) -> Placed | None:
    """Return a process's creator, or None for a root or an unknown creator."""
    if isinstance(node, TrackedProcess):
        return node.creator
    if isinstance(tree, PidTree):
        process = tree.table.get(node.key)
        return None if process is None else process.creator
    if node.ppid in (0, node.pid):
        return None
    creator = tree.get_node(node.creator)
    if creator is None or not may_have_created(creator, node):
        return None
    return creator


def lineage(tree: TreeStore, pid: int | ProcessKey) -> Iterator[Placed]:
    """Yield the process and then its creators, nearest first, as far as they are known."""
    return _upwards(tree, find(tree, pid))


def _upwards(tree: TreeStore, node: Placed | None) -> Iterator[Placed]:
    if isinstance(node, TrackedProcess):
        yield from ancestors(node)
        return
    seen: set[ProcessKey] = set()
    while node is not None and node.key not in seen:
        yield node
        seen.add(node.key)
        node = creator_of(tree, node)


def ancestors(process: TrackedProcess) -> Iterator[TrackedProcess]:
    """Yield the process and then its creators, nearest first, each once."""
    above = process
    start_ns = process.start_time_ns
    while True:
        yield above
        creator = above.creator
        if creator is None:
            return
        creator_ns = creator.start_time_ns
        if not 0 < creator_ns < start_ns:
            # Only where start times do not tell can two have created each other.
            yield from _unseen_above(creator, set(_up_to(process, above)))
            return
        above, start_ns = creator, creator_ns


def _unseen_above(
    process: TrackedProcess | None, seen: set[TrackedProcess]
) -> Iterator[TrackedProcess]:
    while process is not None and process not in seen:
        yield process
        seen.add(process)
        process = process.creator


def _up_to(process: TrackedProcess, last: TrackedProcess) -> Iterator[TrackedProcess]:
    above: TrackedProcess | None = process
    while above is not None:
        yield above
        above = None if above is last else above.creator


def ancestry(tree: TreeStore, pid: int | ProcessKey, target_cmd: str) -> Answer:
    """Tell whether a process or one of its ancestors is named ``target_cmd``.

    NO is only said if the whole chain was seen as it was made, and no exec of it can
    have been lost; nor is YES of a name that may be out of date. Names are compared as
    ``core.text.as_comm`` cuts them.
    """
    target = as_comm(target_cmd)
    certain = True
    last: Placed | None = None
    for node in lineage(tree, pid):
        if node.name_uncertain:
            certain = False
        elif as_comm(node.cmd) == target:
            return Answer.YES
        if is_perhaps_adopted(node):
            certain = False
        last = node
    if last is None or last.ppid not in (0, last.pid):
        certain = False
    return Answer.NO if certain else Answer.UNKNOWN


def is_perhaps_adopted(node: Placed) -> bool:
    """Tell whether a process may have more ancestors than are known: its creator is not certain."""
    return node.edge is Edge.OBSERVED and bool(node.ppid or node.fork_missed)


def is_descendant(tree: TreeStore, pid: int | ProcessKey, target_cmd: str) -> bool:
    """Tell whether a process, or one of its ancestors, is known to be named ``target_cmd``.

    Names are compared as ``core.text.as_comm`` cuts them. An unknown PID is nobody's
    descendant. See ``ancestry`` for an answer that tells
    "no" from "not known".
    """
    target = as_comm(target_cmd)
    node = find(tree, pid)
    line = ancestors(node) if isinstance(node, TrackedProcess) else _upwards(tree, node)
    for each in line:
        name = each.cmd
        if name == target:
            return True
        if len(name) > COMM_BYTES and as_comm(name) == target:
            return True
    return False


class End(Enum):
    """How a line of creators ends."""

    ROOT = "root"
    MISSING = "missing"
    """The next one is not remembered."""
    CUT = "cut"
    """There are more than were asked for."""


def line_of(
    tree: TreeStore, node: Placed, max_ancestors: int | None = None
) -> tuple[list[Placed], End]:
    """Return a process and then its creators, nearest first and so many at most.

    The process itself need not be remembered. The cost is that of what is returned, not of
    how deep the tree is: a chain of thousands is made without privilege.
    """
    line, most = _at_most(_upwards(tree, node), max_ancestors)
    return line, _end_of(line, most, closes_circle=creator_of(tree, line[-1]) is not None)


def line_up(
    process: TrackedProcess, max_ancestors: int | None = None
) -> tuple[list[TrackedProcess], End]:
    """Return a process of a table and then its creators; see ``line_of``."""
    line, most = _at_most(ancestors(process), max_ancestors)
    return line, _end_of(line, most, closes_circle=line[-1].creator is not None)


def _at_most(upwards: Iterator[T], max_ancestors: int | None) -> tuple[list[T], int | None]:
    if max_ancestors is not None and max_ancestors < 0:
        raise ValueError(f"max_ancestors must not be negative, but is {max_ancestors}")
    most = None if max_ancestors is None else max_ancestors + 1
    return list(islice(upwards, most)), most


def _end_of(line: Sequence[Placed], most: int | None, *, closes_circle: bool) -> End:
    last = line[-1]
    if last.ppid in (0, last.pid):
        return End.ROOT
    if len(line) == most:
        return End.CUT
    return End.ROOT if closes_circle else End.MISSING


def build_chain_links(
    tree: TreeStore,
    cache: CacheStore,
    pid: int | ProcessKey | Placed,
    *,
    max_ancestors: int | None = None,
) -> list[ProcessLink]:
    """Return the chain of a process: itself first, then its creators.

    A creator that is not remembered ends the chain with a link whose ``known`` is False;
    so does ``OMITTED``, where there are more than ``max_ancestors``.
    """
    if isinstance(pid, PidNode | TrackedProcess):
        node: Placed = pid
    elif (found := find(tree, pid)) is not None:
        node = found
    else:
        return [_unknown(_as_key(pid))]
    line, end = line_of(tree, node, max_ancestors)
    joined = are_joined(tree, cache)
    links = []
    for member in line:
        info = None if joined else cache.get_info(member.key)
        user = info.user if info is not None else member.user
        links.append(ProcessLink(member.pid, member.cmd, user, member.start_time_ns))
    if end is End.MISSING:
        links.append(_unknown(line[-1].creator_key))
    for index, (below, link) in enumerate(zip(line, links[1:], strict=False), start=1):
        if below.fork_missed:
            links[index] = msgspec.structs.replace(link, observed=True)
    if end is End.CUT:
        links.append(OMITTED)
    return links


def _unknown(key: ProcessKey) -> ProcessLink:
    return ProcessLink(key.pid, UNKNOWN_NAME, UNKNOWN_NAME, key.start_time_ns, known=False)


def _as_key(pid: int | ProcessKey) -> ProcessKey:
    return pid if isinstance(pid, ProcessKey) else ProcessKey(pid)


def build_chain_string(
    tree: TreeStore,
    cache: CacheStore,
    pid: int | ProcessKey | Placed,
    *,
    max_ancestors: int | None = None,
) -> str:
    """Return the chain as ``pid|cmd|user;pid|cmd|user``, the process first."""
    return format_chain(build_chain_links(tree, cache, pid, max_ancestors=max_ancestors))
