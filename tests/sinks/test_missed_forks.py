"""Whom a process was only seen below, because its fork was lost: each format says so."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf.core.chain import parse_chain_string
from proctree_bpf.core.events import Exec, Exit, Fork, Gap, ProcEvent
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import Answer, ancestry, build_chain_string
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter
from proctree_bpf.sinks.fields import View
from proctree_bpf.sinks.jsonl.json_record import RecordMaker, RecordOptions
from proctree_bpf.sinks.jsonl.jsonl import JsonlSink
from proctree_bpf.sinks.layout import Layout
from proctree_bpf.sinks.lines.chain import ChainSink
from proctree_bpf.sinks.lines.table import TableSink
from proctree_bpf.sinks.tree.tree import TreeSink
from proctree_bpf.sinks.wall_time import TraceClock
from support.sample_events import S, entry

if TYPE_CHECKING:
    from proctree_bpf.core.process_event import ProcessEvent

INIT, SHELL = ProcessKey(1, S), ProcessKey(100, 50 * S + 7)
MIDDLE, ORPHAN = ProcessKey(150, 60 * S + 1), ProcessKey(200, 61 * S + 2)
CHILD = ProcessKey(300, 90 * S + 3)
GAP = Gap(70 * S, "test", 1, "fork", 0, 60 * S, 70 * S)
OPTIONS = RecordOptions("test", "boot", 0, None)


class Scene:
    """A shell whose child's child was adopted by init; the fork of that one is lost."""

    def __init__(self) -> None:
        self.tree, self.cache = PidTree(), ProcCache()
        self.tracker = Tracker(self.tree, self.cache, {0: "root"}.get)
        self.out = io.StringIO()
        self.told: list[ProcessEvent] = []
        for event in (
            Fork(S, INIT, ProcessKey(0), comm="init", uid=0),
            Fork(SHELL.start_time_ns, SHELL, INIT, comm="bash", uid=0),
            Fork(MIDDLE.start_time_ns, MIDDLE, SHELL, comm="bash", uid=0),
        ):
            self.tracker.apply(event)
        self.tracker.note_gap(GAP)
        self.tracker.apply(Exit(62 * S, MIDDLE, status=0))

    def mend(self) -> None:
        """Find the orphan, with its fork and its exec lost, below whoever adopted it."""
        shown = [
            entry(INIT, ProcessKey(0), "init", user="root", uid=0),
            entry(SHELL, INIT, "bash", user="root", uid=0),
            entry(ORPHAN, INIT, "daemon", user="root", uid=0),
        ]
        self.tracker.reconcile(shown, 80 * S, 81 * S)

    def write(self, sink: Any, *events: ProcEvent) -> list[str]:
        for event in events:
            told = self.tracker.apply(event)
            assert told is not None
            self.told.append(told)
            sink.write(told)
        sink.flush()
        return self.out.getvalue().splitlines()


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.mend()
    return scene


BIRTH = Fork(CHILD.start_time_ns, CHILD, ORPHAN, comm="daemon", uid=0)
EXEC = Exec(91 * S, ORPHAN, parent=INIT, comm="other", uid=0)
END = Exit(92 * S, ORPHAN, parent=INIT, status=0, comm="other", uid=0)


def clock() -> TraceClock:
    return TraceClock(wall_offset_ns=0, started_ns=0, utc=True)


class TestEachFormatSaysSo:
    def test_a_json_line_does_in_the_link(self, scene: Scene) -> None:
        sink = JsonlSink(scene.out, scene.tree, scene.cache, OPTIONS)
        lines = [json.loads(line) for line in scene.write(sink, BIRTH, EXEC, END)]
        chains = [line["proctree"]["chain"] for line in lines]
        assert [[link.get("observed") for link in chain] for chain in chains] == [
            [None, True], [True], [True],
        ]  # fmt: skip
        assert [[link["pid"] for link in chain] for chain in chains] == [[200, 1], [1], [1]]
        records = RecordMaker(scene.tracker.table, OPTIONS)
        assert lines[-1] == records.record(scene.told[-1])

    def test_a_chain_does_before_the_link(self, scene: Scene) -> None:
        sink = ChainSink(scene.out, scene.tree, scene.cache)
        lines = scene.write(sink, BIRTH, EXEC)
        assert lines == [
            "fork\t300|daemon|root;200|daemon|root;~1|init|root",
            "exec\t200|other|root;~1|init|root",
        ]

    def test_so_does_the_chain_that_a_program_asks_for_and_it_can_be_read(
        self, scene: Scene
    ) -> None:
        scene.tracker.apply(BIRTH)
        text = build_chain_string(scene.tree, scene.cache, CHILD)
        assert text == "300|daemon|root;200|daemon|root;~1|init|root"
        links = parse_chain_string(text)
        assert [(link.pid, link.observed) for link in links] == [
            (300, False), (200, False), (1, True),
        ]  # fmt: skip
        assert build_chain_string(scene.tree, scene.cache, CHILD, max_ancestors=1).endswith(";…")

    def test_a_table_does_before_the_name(self, scene: Scene) -> None:
        sink = TableSink(scene.out, scene.tree, View(clock()), Layout)
        lines = scene.write(sink, BIRTH, EXEC)
        assert [line.rsplit("  ", 1)[1].strip() for line in lines[1:]] == [
            "daemon < ~init",
            "~init",
        ]

    def test_a_name_in_a_table_cannot_mark_itself(self, scene: Scene) -> None:
        scene.tracker.apply(Exec(70 * S, SHELL, comm="~bash", uid=0))
        sink = TableSink(scene.out, scene.tree, View(clock()), Layout)
        late = ProcessKey(301, 90 * S)
        lines = scene.write(sink, Fork(90 * S, late, SHELL, comm="x", uid=0))
        assert lines[1].endswith(r" \x7ebash < init")

    def test_a_tree_does_behind_the_command(self, scene: Scene) -> None:
        sink = TreeSink(scene.out, scene.tree, View(clock()), Layout)
        scene.write(sink, Exec(85 * S, INIT, comm="init", args_raw=b"init\0", uid=0), EXEC)
        sink.finish()
        lines = scene.out.getvalue().splitlines()
        assert [line.split("  ")[-1].strip() for line in lines if "[other]" in line] == [
            "[other] < ~init 1", "└─ [other] < ~init 1",
        ]  # fmt: skip

    def test_all_are_silent_once_the_fork_is_told(self, scene: Scene) -> None:
        scene.tracker.apply(Fork(ORPHAN.start_time_ns, ORPHAN, MIDDLE, comm="bash", uid=0))
        assert "~" not in build_chain_string(scene.tree, scene.cache, ORPHAN)


def test_one_that_is_first_heard_of_by_its_exec_is_marked_too() -> None:
    scene = Scene()
    scene.tracker.apply(Exec(75 * S, ORPHAN, parent=INIT, comm="daemon", uid=0))
    assert build_chain_string(scene.tree, scene.cache, ORPHAN) == "200|daemon|root;~1|init|root"


class TestWhatHangsOnIt:
    def test_nobody_says_that_it_did_not_come_from_another(self, scene: Scene) -> None:
        scene.tracker.apply(BIRTH)
        for key in (ORPHAN, CHILD):
            assert ancestry(scene.tree, key, "bash") is Answer.UNKNOWN
            assert ancestry(scene.tree, key, "init") is Answer.YES

    @pytest.mark.parametrize("terms", ["not-ancestor=bash", "ancestor=bash"])
    @pytest.mark.parametrize("is_surveyed", [True, False])
    def test_a_filter_admits_neither_for_being_under_a_name_nor_for_not(
        self, terms: str, *, is_surveyed: bool
    ) -> None:
        scene = Scene()
        wanted = BoundFilter(Filter.parse(terms), scene.tree, scene.cache)
        wanted.survey()
        if is_surveyed:
            scene.mend()
            wanted.survey()
        for event in (EXEC, BIRTH, END):
            told = scene.tracker.apply(event)
            assert told is not None
            assert not wanted.admits(told)
