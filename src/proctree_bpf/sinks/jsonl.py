"""One JSON object per line, shaped after the Elastic Common Schema (ECS).

Output is plain ASCII. JSON cannot carry bytes that are not UTF-8; a record with such
bytes has ``proctree.escaped: true``, and then all its names, paths, arguments and users
are written as ``core.text.escape`` does, to be restored with ``unescape``.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, TextIO

from proctree_bpf.core.events import EVENT_KINDS, Exit, Fork, Gap
from proctree_bpf.core.identity import ProcessKey, entity_id
from proctree_bpf.core.lineage import build_chain_links
from proctree_bpf.core.text import escape
from proctree_bpf.sinks.wall_time import utc_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.model import ProcessLink
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.core.tracker import Applied

# ECS knows start, end, info and change; Elastic's own agents call an exec a start.
_EVENT_TYPE = {
    "fork": "start",
    "exec": "start",
    "exit": "end",
    "rename": "change",
    "setid": "change",
}

_encode = json.JSONEncoder(separators=(",", ":")).encode


def _as_is(text: str) -> str:
    return text


class JsonlSink:
    """Writes records as JSON lines.

    Args:
        out: where to; text is ASCII.
        tree, cache: for the chain.
        source: what ``proctree.source`` says.
        boot_id: this boot's id, for ``process.entity_id``.
        wall_offset_ns: what to add to CLOCK_BOOTTIME to get UTC.
        max_ancestors: how many ancestors a chain may have; None for all.

    """

    def __init__(
        self,
        out: TextIO,
        tree: TreeStore,
        cache: CacheStore,
        *,
        source: str,
        boot_id: str,
        wall_offset_ns: int,
        max_ancestors: int | None = None,
    ) -> None:
        self._out = out
        self._tree = tree
        self._cache = cache
        self._source = source
        self._boot_id = boot_id
        self._offset = wall_offset_ns
        self._max_ancestors = max_ancestors

    def write(self, applied: Applied) -> None:
        """Write one record."""
        chain = build_chain_links(
            self._tree, self._cache, applied.node, max_ancestors=self._max_ancestors
        )[1:]
        record = self._record(applied, chain, _as_is)
        line = _encode(record)
        if "\\udc" in line and _has_raw_bytes(record):
            record = self._record(applied, chain, escape)
            record["proctree"]["escaped"] = True
            line = _encode(record)
        self._out.write(line + "\n")

    def gap(self, gap: Gap) -> None:
        """Write a gap record."""
        lost = {
            "count": gap.count,
            "kind": gap.kind,
            "cpu": gap.cpu,
            "from": self._timestamp(gap.from_ns) if gap.from_ns else None,
            "until": self._timestamp(gap.until_ns),
        }
        record = {
            "@timestamp": self._timestamp(gap.timestamp_ns),
            "event": {
                "kind": "event", "category": ["process"], "type": ["info"], "action": "gap"
            },
            "proctree": {"source": gap.source, "gap": lost},
        }  # fmt: skip
        self._out.write(_encode(record) + "\n")

    def flush(self) -> None:
        """Flush the file."""
        self._out.flush()

    def finish(self) -> None:
        """Owe nothing at the end."""

    def _timestamp(self, boottime_ns: int) -> str:
        return utc_timestamp(boottime_ns + self._offset)

    def _reference(self, key: ProcessKey, text: Callable[[str], str]) -> dict[str, Any] | None:
        """Return what identifies another process, or None for no process."""
        if key.pid == 0:
            return None
        node = self._tree.get_node(key)
        if node is not None:
            key = node.key
        return {
            "pid": key.pid,
            "entity_id": entity_id(self._boot_id, key),
            "name": text(node.cmd) if node is not None else None,
        }

    def _link(self, link: ProcessLink, text: Callable[[str], str]) -> dict[str, Any]:
        key = ProcessKey(link.pid, link.start_time_ns)
        return {
            "pid": link.pid,
            "entity_id": entity_id(self._boot_id, key),
            "name": text(link.cmd) if link.known else None,
            "user": text(link.user) if link.known else None,
        }

    def _record(
        self, applied: Applied, chain: list[ProcessLink], text: Callable[[str], str]
    ) -> dict[str, Any]:
        event, node, info = applied.event, applied.node, applied.info
        action = EVENT_KINDS[type(event)]
        args = None if info.args_raw is None else [text(arg) for arg in info.args]
        process: dict[str, Any] = {
            "pid": node.pid,
            "entity_id": entity_id(self._boot_id, node.key),
            "name": text(info.cmd),
            "executable": None if info.executable is None else text(info.executable),
            "args": args,
            "command_line": None if args is None else shlex.join(args),
            "start": self._timestamp(node.start_time_ns) if node.start_time_ns else None,
            "user": {
                "id": None if info.uid is None else str(info.uid),
                "name": text(info.user),
            },
            "parent": self._reference(node.kernel_parent, text),
        }
        proctree: dict[str, Any] = {
            "source": self._source,
            "start_time_ns": node.start_time_ns or None,
            "inherited": info.inherited,
            "truncated": info.truncated,
            "chain": [self._link(link, text) for link in chain if not link.omitted],
        }
        if chain and chain[-1].omitted:
            proctree["chain_truncated"] = True
        if isinstance(event, Fork):
            proctree["creator"] = self._reference(event.creator, text)
        if isinstance(event, Exit):
            process["end"] = self._timestamp(event.timestamp_ns)
            process["exit_code"] = event.exit_code
            proctree["exit_signal"] = event.signal
            proctree["core_dumped"] = event.core_dumped
        if applied.uncertain:
            proctree["uncertain"] = True
        return {
            "@timestamp": self._timestamp(event.timestamp_ns),
            "event": {
                "kind": "event",
                "category": ["process"],
                "type": [_EVENT_TYPE[action]],
                "action": action,
            },
            "process": process,
            "proctree": proctree,
        }


def _has_raw_bytes(record: dict[str, Any]) -> bool:
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
