"""A record as an object after the Elastic Common Schema (ECS): the form that its line encodes.

Lines are put together of texts (``sinks.jsonl.jsonl``), which is faster; this is what they must be
equal to, and what is used where names hold bytes that JSON cannot carry.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from proctree_bpf.core.events import Exit, Fork, Gap
from proctree_bpf.core.identity import ProcessKey, entity_id
from proctree_bpf.core.lineage import End, line_up
from proctree_bpf.core.text import escape
from proctree_bpf.sinks.wall_time import utc_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.table import ProcessTable

# ECS knows start, end, info and change; Elastic's own agents call an exec a start.
_EVENT_TYPE = {
    "fork": "start",
    "exec": "start",
    "exit": "end",
    "rename": "change",
    "setid": "change",
}


def event_object(action: str) -> dict[str, Any]:
    """Return what a record says of its kind."""
    return {
        "kind": "event",
        "category": ["process"],
        "type": [_EVENT_TYPE.get(action, "info")],
        "action": action,
    }


class RecordOptions(NamedTuple):
    """What is the same in all records of a trace."""

    source: str
    """What ``proctree.source`` says."""
    boot_id: str
    """This boot's id, for ``process.entity_id``."""
    wall_offset_ns: int
    """What to add to CLOCK_BOOTTIME to get UTC."""
    max_ancestors: int | None = None
    """How many ancestors a chain may have; None for all."""


class RecordMaker:
    """Makes the objects, of processes that a table keeps."""

    def __init__(self, table: ProcessTable, options: RecordOptions) -> None:
        self._table = table
        self._source, self._boot_id, self._offset, self._max_ancestors = options

    def record(self, told: ProcessEvent) -> dict[str, Any]:
        """Return the object of one record, with all names escaped if any has raw bytes."""
        record = self._record(told, _as_is)
        if has_raw_bytes(record):
            record = self._record(told, escape)
            record["proctree"]["escaped"] = True
        return record

    def gap(self, gap: Gap) -> dict[str, Any]:
        """Return the object of a gap."""
        lost = {
            "count": gap.count,
            "kind": gap.kind,
            "cpu": gap.cpu,
            "from": self.timestamp(gap.from_ns) if gap.from_ns else None,
            "until": self.timestamp(gap.until_ns),
        }
        return {
            "@timestamp": self.timestamp(gap.timestamp_ns),
            "event": event_object("gap"),
            "proctree": {"source": gap.source, "gap": lost},
        }

    def timestamp(self, boottime_ns: int) -> str:
        """Return a time of CLOCK_BOOTTIME in UTC."""
        return utc_timestamp(boottime_ns + self._offset)

    def reference(
        self, process: TrackedProcess | None, key: ProcessKey, text: Callable[[str], str]
    ) -> dict[str, Any] | None:
        """Return what identifies another process, or None for no process."""
        if key.pid == 0:
            return None
        if process is None:
            return self._identity(key, None)
        return self._identity(process.key, text(process.cmd))

    def _identity(self, key: ProcessKey, name: str | None) -> dict[str, Any]:
        return {"pid": key.pid, "entity_id": entity_id(self._boot_id, key), "name": name}

    def _parent(self, process: TrackedProcess, text: Callable[[str], str]) -> dict[str, Any] | None:
        parent = process.parent
        if parent is None:
            return self.reference(process.creator, process.creator_key, text)
        return self.reference(self._table.get(parent), parent, text)

    def link(self, process: TrackedProcess, text: Callable[[str], str]) -> dict[str, Any]:
        """Return a process as a link of a chain."""
        return {**self._identity(process.key, text(process.cmd)), "user": text(process.user)}

    def missing(self, key: ProcessKey) -> dict[str, Any]:
        """Return a creator that is not remembered, as the last link of a chain."""
        return {**self._identity(key, None), "user": None}

    def _chain(self, process: TrackedProcess, text: Callable[[str], str]) -> dict[str, Any]:
        line, end = line_up(process, self._max_ancestors)
        links = [self.link(member, text) for member in line[1:]]
        if end is End.MISSING:
            links.append(self.missing(line[-1].creator_key))
        for below, link in zip(line, links, strict=False):
            if below.fork_missed:
                link["observed"] = True
        chain: dict[str, Any] = {"chain": links}
        if end is End.CUT:
            chain["chain_truncated"] = True
        return chain

    def process(self, process: TrackedProcess, text: Callable[[str], str]) -> dict[str, Any]:
        """Return what is known of a process itself."""
        args = None if process.args_raw is None else [text(arg) for arg in process.args]
        return {
            **self._identity(process.key, text(process.cmd)),
            "executable": None if process.executable is None else text(process.executable),
            "args": args,
            "command_line": None if args is None else shlex.join(args),
            "start": self.timestamp(process.start_time_ns) if process.start_time_ns else None,
            "user": {
                "id": None if process.uid is None else str(process.uid),
                "name": text(process.user),
            },
        }

    def _record(self, told: ProcessEvent, text: Callable[[str], str]) -> dict[str, Any]:
        event, process = told.event, told.process
        about = self.process(process, text)
        about["parent"] = self._parent(process, text)
        proctree: dict[str, Any] = {
            "source": self._source,
            "start_time_ns": process.start_time_ns or None,
            "inherited": process.inherited,
            "truncated": process.truncated,
            **self._chain(process, text),
        }
        if isinstance(event, Fork):
            creator = self.reference(self._table.get(event.creator), event.creator, text)
            if creator is not None and event.observed:
                creator["observed"] = True
            proctree["creator"] = creator
        if isinstance(event, Exit):
            about["end"] = self.timestamp(event.timestamp_ns)
            about["exit_code"] = event.exit_code
            proctree["exit_signal"] = event.signal
            proctree["core_dumped"] = event.core_dumped
        if told.uncertain:
            proctree["uncertain"] = True
        return {
            "@timestamp": self.timestamp(event.timestamp_ns),
            "event": event_object(event.kind),
            "process": about,
            "proctree": proctree,
        }


def _as_is(text: str) -> str:
    return text


def has_raw_bytes(record: dict[str, Any]) -> bool:
    """Tell whether a record has text that no JSON can carry."""
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
