"""One JSON object per line, shaped after the Elastic Common Schema (ECS).

Output is plain ASCII. JSON cannot carry bytes that are not UTF-8; a record with such
bytes has ``proctree.escaped: true``, and then all its names, paths, arguments and users
are written as ``core.text.escape`` does, to be restored with ``unescape``.

A line is put together of texts that are kept; ``sinks.jsonl.json_record`` says what it must be.
"""

from __future__ import annotations

import json
import shlex
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from proctree_bpf.core.events import EVENT_KINDS, dumped_core, exit_code_of, exit_signal_of
from proctree_bpf.core.identity import TICK_NS, ProcessKey, entity_id
from proctree_bpf.core.lineage import End
from proctree_bpf.core.mirror import table_of
from proctree_bpf.sinks.jsonl.json_record import RecordMaker, RecordOptions, event_object
from proctree_bpf.sinks.kept import Kept, KeptTexts
from proctree_bpf.sinks.quoting import plain_args
from proctree_bpf.sinks.wall_time import UtcStamps

if TYPE_CHECKING:
    from proctree_bpf.core.compact import AnyFork
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.process_event import ProcessEvent
    from proctree_bpf.core.stores import CacheStore, TreeStore

_encode = json.JSONEncoder(separators=(",", ":")).encode
_BOOL = ("false", "true")
_FLAGS = [
    [f',"inherited":{inherited},"truncated":{truncated},"chain":' for truncated in _BOOL]
    for inherited in _BOOL
]
_HEADS = {
    action: f'","event":{_encode(event_object(action))},"process":{{'
    for action in EVENT_KINDS.values()
}


class _Own(msgspec.Struct, eq=False, gc=False):
    """A process's own part of its records: what comes before its parent, and what after it."""

    details: str
    state: str
    has_raw: bool
    """Whether there may be bytes in it that are not UTF-8."""


class _Above(msgspec.Struct, eq=False, gc=False):
    """What is above a process: its creator, as its parent, and its chain."""

    parent: str
    chain: str
    has_raw: bool


class JsonlSink:
    """Writes records as JSON lines.

    Args:
        out: where to; text is ASCII.
        tree, cache: for the chain.
        options: what is the same in all records.

    """

    def __init__(
        self,
        out: TextIO,
        tree: TreeStore,
        cache: CacheStore,
        options: RecordOptions,
    ) -> None:
        self._out = out
        self._table, _ = table_of(tree, cache)
        named = entity_id(options.boot_id, ProcessKey(1, TICK_NS))
        self._boot = None if named is None else named.removesuffix("1-1")
        self._records = RecordMaker(self._table, options)
        self._kept = KeptTexts(
            self._table, self._link, self._above, options.max_ancestors, mark=_observed
        )
        self._owner = self._kept.owner
        self._stamps = UtcStamps(options.wall_offset_ns)
        self._source = f'}},"proctree":{{"source":{_encode(options.source)},"start_time_ns":'
        self._endings: dict[int | None, tuple[str, str]] = {}

    def write(self, told: ProcessEvent) -> None:
        """Write one record."""
        event, process = told.as_received, told.process
        kept: Any = process.link
        if type(kept) is not Kept or kept.owner is not self._owner:
            kept = process.link = Kept(self._owner)
        own: _Own = kept.own
        if own is None:
            own = self._own(process)
            self._kept.keep_own(kept, own)
        above = self._kept.above(process)
        has_raw = own.has_raw or above.has_raw
        parent = above.parent
        if process.parent is not None:
            key = process.parent
            parent = self._reference(self._table.get(key), key.pid, key.start_time_ns)
            has_raw = has_raw or _may_have_raw(parent)
        stamp = self._stamps.of(event.timestamp_ns)
        end = more = ""
        if event.kind == "exit":
            ending, more = self._endings.get(event.status) or self._ending(event.status)
            end = f',"end":"{stamp}{ending}'
            self._kept.let_go(process, kept)
        elif event.kind == "fork":
            creator = self._creator(process, event)
            more = f',"creator":{creator}'
            has_raw = has_raw or _may_have_raw(creator)
        if told.uncertain:
            more += ',"uncertain":true'
        if has_raw:
            self._out.write(_encode(self._records.record(told)) + "\n")
            return
        self._out.write(
            f'{{"@timestamp":"{stamp}{_HEADS[event.kind]}{own.details}{parent}{end}'
            f"{own.state}{above.chain}{more}}}}}\n"
        )

    def gap(self, gap: Gap) -> None:
        """Write a gap record."""
        self._out.write(_encode(self._records.gap(gap)) + "\n")

    def flush(self) -> None:
        """Flush the file."""
        self._out.flush()

    def finish(self) -> None:
        """Owe nothing at the end."""

    def _entity_id(self, pid: int, start_time_ns: int) -> str:
        if not start_time_ns or self._boot is None:
            return "null"
        return f'"{self._boot}{pid}-{start_time_ns // TICK_NS}"'

    def _own(self, process: TrackedProcess) -> _Own:
        pid, start_ns, cmd, user = process.pid, process.start_time_ns, process.cmd, process.user
        command_line = plain_args(process.args_raw)
        has_raw = False
        if command_line is not None:
            args = command_line.replace(" ", '","')
            command = f'"args":["{args}"],"command_line":"{command_line}"'
        else:
            command = _quoted(process)
            has_raw = _may_have_raw(command)
        program, program_has_raw = _program(cmd, process.executable)
        owner, owner_has_raw = _user(process.uid, user)
        start = f'"{self._stamps.of(start_ns)}"' if start_ns else "null"
        return _Own(
            f'"pid":{pid},"entity_id":{self._entity_id(pid, start_ns)},{program}{command},'
            f'"start":{start},{owner}',
            f"{self._source}{start_ns or 'null'}{_FLAGS[process.inherited][process.truncated]}",
            has_raw or program_has_raw or owner_has_raw,
        )

    def _ending(self, status: int | None) -> tuple[str, str]:
        """Return how it ended: for the process, and for what we say of it."""
        texts = self._endings[status] = (
            f'","exit_code":{_encode(exit_code_of(status))}',
            (
                f',"exit_signal":{_encode(exit_signal_of(status))},'
                f'"core_dumped":{_BOOL[dumped_core(status)]}'
            ),
        )
        return texts

    def _creator(self, process: TrackedProcess, event: AnyFork) -> str:
        creator = process.creator or self._table.get(event.creator)
        reference = self._reference(creator, *event.creator)
        return _observed(reference) if event.observed and event.creator.pid else reference

    def _reference(self, process: TrackedProcess | None, pid: int, start_time_ns: int) -> str:
        if process is None:
            if not pid:
                return "null"
            named = self._entity_id(pid, start_time_ns)
            return f'{{"pid":{pid},"entity_id":{named},"name":null}}'
        named = self._entity_id(process.pid, process.start_time_ns)
        return f'{{"pid":{process.pid},"entity_id":{named},"name":{quote(process.cmd)}}}'

    def _link(self, process: TrackedProcess) -> str:
        pid = process.pid
        named = self._entity_id(pid, process.start_time_ns)
        name, user = quote(process.cmd), quote(process.user)
        return f'{{"pid":{pid},"entity_id":{named},"name":{name},"user":{user}}}'

    def _above(self, line: list[TrackedProcess], links: list[str], end: End) -> _Above:
        if end is End.MISSING:
            missing = _encode(self._records.missing(line[-1].creator_key))
            links.append(_observed(missing) if line[-1].fork_missed else missing)
        process = line[0]
        parent = self._reference(process.creator, process.ppid, process.creator_start_ns)
        chain = f"[{','.join(links)}]"
        if end is End.CUT:
            chain += ',"chain_truncated":true'
        return _Above(parent, chain, _may_have_raw(parent) or _may_have_raw(chain))


def _observed(encoded: str) -> str:
    """Mark one that was only seen as the parent, and may not be the creator."""
    return encoded[:-1] + ',"observed":true}'


def _may_have_raw(text: str) -> bool:
    """Tell whether quoted text may have had bytes that are not UTF-8."""
    return "\\udc" in text


@lru_cache(maxsize=4096)
def _program(cmd: str, executable: str | None) -> tuple[str, bool]:
    path = "null" if executable is None else quote(executable)
    text = f'"name":{quote(cmd)},"executable":{path},'
    return text, _may_have_raw(text)


@lru_cache(maxsize=1024)
def _user(uid: int | None, user: str) -> tuple[str, bool]:
    number = "null" if uid is None else f'"{uid}"'
    text = f'"user":{{"id":{number},"name":{quote(user)}}},"parent":'
    return text, _may_have_raw(text)


def _quoted(process: TrackedProcess) -> str:
    """Return the arguments as a list, and quoted for a shell as one text."""
    if process.args_raw is None:
        return '"args":null,"command_line":null'
    args = process.args
    return f'"args":[{",".join(map(quote, args))}],"command_line":{quote(shlex.join(args))}'
