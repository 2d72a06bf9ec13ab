"""What all queries share: the processes of this moment, and how they are shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proctree_bpf.cli.errors import CliError, ExitCode, no_proc
from proctree_bpf.cli.messages import say
from proctree_bpf.cli.output.standard import write_text
from proctree_bpf.core.identity import entity_id
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.text import escape
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.sinks.describe import command_text
from proctree_bpf.sources.system import place, procfs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proctree_bpf.core.model import PidNode


MAX_PID = 4_194_304  # PID_MAX_LIMIT in include/linux/threads.h


class Format(StrEnum):
    """The formats of the queries."""

    TEXT = "text"
    JSON = "json"


Pid = Annotated[int, typer.Argument(min=1, max=MAX_PID, metavar="PID", help="A process ID.")]
Style = Annotated[Format, typer.Option("--format", "-f", help="How to show the answer.")]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The processes of this moment."""

    tree: PidTree
    cache: ProcCache

    @classmethod
    def take(cls) -> Snapshot:
        """Read ``/proc``, if it can be listed and is of this place."""
        tree, cache = PidTree(), ProcCache()
        try:
            place.require(place.proc_trouble())
            Tracker(tree, cache, procfs.uid_to_username).merge_snapshot(procfs.read_snapshot())
        except OSError as error:
            raise no_proc(error) from error
        for trouble in filter(None, (place.hiding(), place.boot_id_trouble())):
            say(f"{trouble.reason}; {trouble.remedy}")
        return cls(tree, cache)

    def require(self, pid: int) -> PidNode:
        """Return the node of a PID, or raise CliError if there is no such process."""
        node = self.tree.get_node(pid)
        if node is None:
            raise CliError(
                f"there is no process with PID {pid} that you may see; "
                "'proctree-bpf tree' shows all that you may.",
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

    def show(self, pids: Iterable[int], style: Format) -> None:
        """Write processes to stdout, a line each."""
        nodes = [node for node in map(self.tree.get_node, pids) if node is not None]
        if style is Format.JSON:
            write_json([self.record(node) for node in nodes])
        elif nodes:
            write_text("\n".join(map(self.line, nodes)))


def write_json(value: Any) -> None:
    """Write an answer as JSON to stdout."""
    write_text(json.dumps(value, indent=2))
