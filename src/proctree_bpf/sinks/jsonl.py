"""One JSON object per line, shaped after the Elastic Common Schema (ECS).

Output is plain ASCII. JSON cannot carry bytes that are not UTF-8; a record with such
bytes has ``proctree.escaped: true``, and then all its names, paths, arguments and users
are written as ``core.text.escape`` does, to be restored with ``unescape``.

A line is put together of texts that are kept; ``sinks.json_record`` says what it must be.
"""

from __future__ import annotations

import json
import re
import shlex
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, TextIO

from proctree_bpf.core.events import EVENT_KINDS, Exit, Fork
from proctree_bpf.core.identity import ProcessKey, entity_id
from proctree_bpf.core.lineage import End
from proctree_bpf.core.mirror import table_of
from proctree_bpf.sinks.json_record import RecordMaker, event_object
from proctree_bpf.sinks.kept import KeptTexts
from proctree_bpf.sinks.wall_time import UtcStamps

if TYPE_CHECKING:
    from proctree_bpf.core.events import Gap, ProcEvent
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.stores import CacheStore, TreeStore
    from proctree_bpf.core.tracker import ProcessEvent

_encode = json.JSONEncoder(separators=(",", ":")).encode
_BOOL = ("false", "true")
_HEADS = {kind: _encode(event_object(action)) for kind, action in EVENT_KINDS.items()}
# What shlex.quote leaves as it is; JSON does, too.
_is_unsafe = re.compile(r"[^\w@%+=:,./-]", re.ASCII).search


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
        self._table, _ = table_of(tree, cache)
        self._boot_id = boot_id
        self._records = RecordMaker(self._table, source, boot_id, wall_offset_ns, max_ancestors)
        self._kept = KeptTexts(self._table, self._link, self._missing, _join, max_ancestors)
        self._stamp = UtcStamps(wall_offset_ns)
        self._source = f'"proctree":{{"source":{_encode(source)},"start_time_ns":'
        self._endings: dict[int | None, tuple[str, str]] = {}

    def write(self, told: ProcessEvent) -> None:
        """Write one record."""
        line = self._line(told)
        if "\\udc" in line:  # perhaps a byte that is not UTF-8
            line = _encode(self._records.record(told)) + "\n"
        self._out.write(line)

    def gap(self, gap: Gap) -> None:
        """Write a gap record."""
        self._out.write(_encode(self._records.gap(gap)) + "\n")

    def flush(self) -> None:
        """Flush the file."""
        self._out.flush()

    def finish(self) -> None:
        """Owe nothing at the end."""

    def _line(self, told: ProcessEvent) -> str:
        """Return the line of a record in which all bytes are UTF-8."""
        event, process = told.event, told.process
        kind = type(event)
        kept = self._kept.of(process)
        details = kept.details
        if details is None:
            details = self._kept.keep_details(kept, self._details(process))
        stamp = self._stamp[event.timestamp_ns]
        end = more = ""
        if kind is Exit:
            ending, more = self._ending(event)
            end = f',"end":"{stamp}"{ending}'
            kept.details = None  # nothing comes after it
        elif kind is Fork:
            more = f',"creator":{self._creator(process, event)}'
        if told.uncertain:
            more += ',"uncertain":true'
        return (
            f'{{"@timestamp":"{stamp}","event":{_HEADS[kind]},"process":{{{details},"parent":'
            f"{self._parent(process)}{end}}},{self._source}{process.start_time_ns or 'null'},"
            f'"inherited":{_BOOL[process.inherited]},"truncated":{_BOOL[process.truncated]},'
            f'"chain":{self._kept.chain(process)}{more}}}}}\n'
        )

    def _entity_id(self, pid: int, start_time_ns: int) -> str:
        named = entity_id(self._boot_id, ProcessKey(pid, start_time_ns))
        return "null" if named is None else f'"{named}"'

    def _details(self, process: TrackedProcess) -> str:
        pid, start_ns = process.pid, process.start_time_ns
        executable, uid = process.executable, process.uid
        args, command_line = _command(process)
        start = f'"{self._stamp[start_ns]}"' if start_ns else "null"
        return (
            f'"pid":{pid},"entity_id":{self._entity_id(pid, start_ns)},"name":{quote(process.cmd)},'
            f'"executable":{"null" if executable is None else quote(executable)},'
            f'"args":{args},"command_line":{command_line},"start":{start},'
            f'"user":{{"id":{"null" if uid is None else _in_quotes(uid)},'
            f'"name":{quote(process.user)}}}'
        )

    def _ending(self, event: ProcEvent) -> tuple[str, str]:
        assert isinstance(event, Exit)  # noqa: S101 - for the type checker
        texts = self._endings.get(event.status)
        if texts is None:
            texts = self._endings[event.status] = (
                f',"exit_code":{_encode(event.exit_code)}',
                f',"exit_signal":{_encode(event.signal)},"core_dumped":{_BOOL[event.core_dumped]}',
            )
        return texts

    def _parent(self, process: TrackedProcess) -> str:
        parent = process.parent
        if parent is None:
            return self._reference(process.creator, process.ppid, process.creator_start_ns)
        return self._reference(self._table.get(parent), *parent)

    def _creator(self, process: TrackedProcess, event: ProcEvent) -> str:
        assert isinstance(event, Fork)  # noqa: S101 - for the type checker
        creator = process.creator or self._table.get(event.creator)
        return self._reference(creator, *event.creator)

    def _reference(self, process: TrackedProcess | None, pid: int, start_time_ns: int) -> str:
        if process is None:
            if not pid:
                return "null"
            named = self._entity_id(pid, start_time_ns)
            return f'{{"pid":{pid},"entity_id":{named},"name":null}}'
        kept = self._kept.of(process)
        if kept.reference is None:
            named = self._entity_id(process.pid, process.start_time_ns)
            name = quote(process.cmd)
            kept.reference = f'{{"pid":{process.pid},"entity_id":{named},"name":{name}}}'
        return kept.reference

    def _link(self, process: TrackedProcess) -> str:
        pid = process.pid
        named = self._entity_id(pid, process.start_time_ns)
        name, user = quote(process.cmd), quote(process.user)
        return f'{{"pid":{pid},"entity_id":{named},"name":{name},"user":{user}}}'

    def _missing(self, key: ProcessKey) -> str:
        return _encode(self._records.missing(key))


def _join(links: list[str], end: End) -> str:
    text = f"[{','.join(links)}]"
    return text + ',"chain_truncated":true' if end is End.CUT else text


def _in_quotes(number: int) -> str:
    return f'"{number}"'


def _command(process: TrackedProcess) -> tuple[str, str]:
    """Return the arguments as a list, and quoted for a shell as one text."""
    args_raw = process.args_raw
    if args_raw is None:
        return "null", "null"
    args = process.args
    if not args:
        return "[]", '""'
    if "" not in args and not _is_unsafe("".join(args)):
        return '["' + '","'.join(args) + '"]', f'"{" ".join(args)}"'
    return "[" + ",".join(map(quote, args)) + "]", quote(shlex.join(args))
