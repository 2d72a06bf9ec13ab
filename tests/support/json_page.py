"""JSON lines of made-up processes, read back as the strictest parser would."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf import Gap, ProcessEvent
from proctree_bpf.sinks.jsonl.json_record import RecordMaker, RecordOptions
from proctree_bpf.sinks.jsonl.jsonl import JsonlSink
from support.made_up_processes import SECOND_NS, MadeUpProcesses

if TYPE_CHECKING:
    from proctree_bpf.core.events import ProcEvent

_BOOT_ID = "a5c418f4-1a7d-4f15-8000-0123456789ab"
WALL_NS = 1_767_323_045 * SECOND_NS


class Page:
    """A sink and the scene that it shows."""

    def __init__(self, source: str = "bpf", max_ancestors: int | None = None) -> None:
        self.scene = MadeUpProcesses()
        self.out = io.StringIO()
        options = RecordOptions(source, _BOOT_ID, WALL_NS, max_ancestors)
        self.sink = JsonlSink(self.out, self.scene.tree, self.scene.cache, options)
        self.records = RecordMaker(self.scene.tracker.table, options)

    def write(self, process_event: ProcessEvent) -> dict[str, Any]:
        """Write one record and read it back as the strictest parser would."""
        begin = self.out.tell()
        self.sink.write(process_event)
        return self._read(begin)

    def check(self, event: ProcEvent) -> None:
        """Apply an event, and compare its line with the encoding of its record."""
        process = self.scene.tracker.take(event)
        if process is None:
            return
        told = ProcessEvent(event, process, self.scene.tracker.uncertain)
        record = self.records.record(told)
        begin = self.out.tell()
        self.sink.write(told)
        expected = json.dumps(record, separators=(",", ":")) + "\n"
        assert self.out.getvalue()[begin:] == expected

    def gap(self, gap: Gap) -> dict[str, Any]:
        begin = self.out.tell()
        self.sink.gap(gap)
        return self._read(begin)

    def _read(self, begin: int) -> dict[str, Any]:
        line = self.out.getvalue()[begin:]
        assert line.isascii()
        assert line.endswith("\n")
        assert line.count("\n") == 1
        record = json.loads(line, parse_constant=pytest.fail, object_pairs_hook=_without_duplicates)
        json.dumps(record, ensure_ascii=False).encode("utf-8")  # fails for a lone surrogate
        assert isinstance(record, dict)
        return record


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)
