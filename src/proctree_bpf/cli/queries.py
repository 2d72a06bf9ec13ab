"""The questions that a ``/proc`` snapshot answers: tree, chain, children and so on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.exits import CliError, ExitCode, no_proc, no_source, say
from proctree_bpf.cli.output import write_text
from proctree_bpf.core import lineage, subtree
from proctree_bpf.core.chain import format_chain
from proctree_bpf.core.identity import entity_id
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.text import escape
from proctree_bpf.library import snapshot
from proctree_bpf.sinks.describe import command_text
from proctree_bpf.sources.base import SourceUnavailableError
from proctree_bpf.sources.system import place, procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proctree_bpf.core.model import PidNode


class Format(StrEnum):
    """The formats of the queries."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The processes of this moment."""

    tree: PidTree
    cache: ProcCache

    @classmethod
    def take(cls) -> Snapshot:
        """Read ``/proc``.

        Raises:
            CliError: it cannot be listed, or is of another place.

        """
        tree, cache = PidTree(), ProcCache()
        try:
            place.require_proc()
            snapshot(tree, cache)
        except SourceUnavailableError as error:
            raise no_source([error]) from error
        except OSError as error:
            raise no_proc(error) from error
        for trouble in filter(None, (place.hiding(), place.boot_id_trouble())):
            say(f"{trouble.reason}; {trouble.remedy}")
        return cls(tree, cache)

    def require(self, pid: int) -> PidNode:
        """Return the node of a PID.

        Raises:
            CliError: there is no such process.

        """
        node = self.tree.get_node(pid)
        if node is None:
            raise CliError(
                f"there is no process {pid} that you may see; "
                "'proctree-bpf tree' lists those there are.",
                ExitCode.NO,
            )
        return node

    def record(self, node: PidNode) -> dict[str, Any]:
        """Return a process as JSON; names are escaped as ``core.text.escape`` does."""
        info = self.cache.get_info(node.key)
        record: dict[str, Any] = {
            "pid": node.pid,
            "ppid": node.ppid,
            "name": escape(node.cmd),
            "start_time_ns": node.start_time_ns,
            "entity_id": entity_id(procfs.boot_id(), node.key),
        }
        if info is not None:
            record["user"] = escape(info.user)
            record["executable"] = None if info.executable is None else escape(info.executable)
            record["args"] = [escape(arg) for arg in info.args]
        return record

    def line(self, node: PidNode) -> str:
        """Return a process as a line: PID, user, command."""
        info = self.cache.get_info(node.key)
        if info is None:
            return f"{node.pid:>7}"
        return f"{node.pid:>7} {escape(info.user):<10} {command_text(info)}"


def _write_json(value: Any) -> None:
    write_text(json.dumps(value, indent=2))


def show_tree(pid: int | None, style: Format) -> None:
    """Draw the tree below a process, or of every root."""
    now = Snapshot.take()
    roots = [now.require(pid)] if pid is not None else _roots(now.tree)
    if style is Format.TEXT:
        write_text("\n".join(subtree.display(now.tree, root.key) for root in roots))
        return
    below: Callable[[PidNode], Iterable[PidNode]] = lambda root: subtree.descendant_nodes(  # noqa: E731
        now.tree, root.key
    )
    _write_json([now.record(node) for root in roots for node in (root, *below(root))])


def _roots(tree: PidTree) -> list[PidNode]:
    nodes = sorted(tree.all_nodes(), key=lambda node: node.pid)
    return [node for node in nodes if lineage.creator_of(tree, node) is None]


def show_chain(pid: int, style: Format, max_ancestors: int) -> None:
    """Show who started a process, up to the root or to so many."""
    now = Snapshot.take()
    now.require(pid)
    links = lineage.build_chain_links(now.tree, now.cache, pid, max_ancestors=max_ancestors)
    if style is Format.TEXT:
        write_text(format_chain(links))
        return
    nodes = [now.tree.get_node(link.pid) for link in links if link.known]
    records = [now.record(node) for node in nodes if node is not None]
    if links[-1].omitted:
        records[-1]["chain_truncated"] = True
    _write_json(records)


def show_related(pid: int, find: Callable[[PidTree, int], list[int]], style: Format) -> None:
    """Show processes related to one, a line each."""
    now = Snapshot.take()
    now.require(pid)
    _show_processes(now, find(now.tree, pid), style)


def _show_processes(now: Snapshot, pids: Iterable[int], style: Format) -> None:
    nodes = [node for node in map(now.tree.get_node, pids) if node is not None]
    if style is Format.JSON:
        _write_json([now.record(node) for node in nodes])
    elif nodes:
        write_text("\n".join(map(now.line, nodes)))


def show_found(cmd: str | None, user: str | None, style: Format) -> None:
    """Show the processes with a name and a user.

    Raises:
        CliError: neither was given, or there is no such process.

    """
    if cmd is None and user is None:
        raise CliError("find needs --cmd, --user or both.", ExitCode.USAGE)
    now = Snapshot.take()
    found = set(now.tree.all_pids())
    if cmd is not None:
        found &= set(subtree.find_by_cmd(now.tree, cmd))
    if user is not None:
        found &= set(subtree.find_by_user(now.tree, now.cache, user))
    _show_processes(now, sorted(found), style)
    if not found:
        wanted = [f"name {cmd}"] if cmd is not None else []
        wanted += [f"user {user}"] if user is not None else []
        raise CliError(f"no process has {' and '.join(wanted)}.", ExitCode.NO)


def show_is_descendant(pid: int, name: str, style: Format) -> None:
    """Say whether a process runs under one of this name.

    Raises:
        CliError: the answer is no.

    """
    now = Snapshot.take()
    now.require(pid)
    answer = lineage.is_descendant(now.tree, pid, name)
    if style is Format.JSON:
        _write_json({"pid": pid, "name": name, "is_descendant": answer})
    else:
        write_text("yes" if answer else "no")
    if not answer:
        raise SystemExit(ExitCode.NO)
