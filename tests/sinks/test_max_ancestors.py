"""Only so many ancestors are written, in every format that has them, and a cut is marked."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from proctree_bpf import build_chain_links, build_chain_string, parse_chain_string
from proctree_bpf.core.lineage import build_chain_links as of_tree
from proctree_bpf.sinks.fields import View
from proctree_bpf.sinks.jsonl.json_record import RecordOptions
from proctree_bpf.sinks.jsonl.jsonl import JsonlSink
from proctree_bpf.sinks.layout import Layout
from proctree_bpf.sinks.lines.chain import ChainSink
from proctree_bpf.sinks.lines.table import TableSink
from proctree_bpf.sinks.wall_time import TraceClock
from support.made_up_processes import MadeUpProcesses

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf import ProcessEvent


@pytest.fixture
def scene() -> MadeUpProcesses:
    return MadeUpProcesses()


def last_of(scene: MadeUpProcesses, depth: int) -> ProcessEvent:
    """Create a line of processes below init; return the record of the last one's exec."""
    pid = scene.line_of(*(f"p{number}" for number in range(1, depth + 1)))
    return scene.exec(pid, "x", comm=f"p{depth}")


def proctree(
    scene: MadeUpProcesses, process_event: ProcessEvent, most: int | None
) -> dict[str, Any]:
    out = io.StringIO()
    sink = JsonlSink(out, scene.tree, scene.cache, RecordOptions("bpf", "", 0, most))
    sink.write(process_event)
    found: dict[str, Any] = json.loads(out.getvalue())["proctree"]
    return found


def chain_line(scene: MadeUpProcesses, process_event: ProcessEvent, most: int | None) -> str:
    out = io.StringIO()
    ChainSink(out, scene.tree, scene.cache, most).write(process_event)
    return out.getvalue().partition("\t")[2].rstrip("\n")


def table_cell(
    scene: MadeUpProcesses,
    process_event: ProcessEvent,
    most: int | None,
    columns: int | None = None,
) -> str:
    out = io.StringIO()
    view = View(TraceClock(0), max_ancestors=most)
    TableSink(out, scene.tree, view, lambda: Layout(columns), ["ancestry"]).write(process_event)
    return out.getvalue().splitlines()[1].strip()


class TestACutIsMarked:
    @pytest.mark.parametrize("most", [0, 1, 3])
    def test_in_json_lines(self, scene: MadeUpProcesses, most: int) -> None:
        found = proctree(scene, last_of(scene, 5), most)
        assert [link["name"] for link in found["chain"]] == ["p4", "p3", "p2"][:most]
        assert found["chain_truncated"] is True

    @pytest.mark.parametrize("most", [0, 1, 3])
    def test_in_a_chain_string(self, scene: MadeUpProcesses, most: int) -> None:
        *links, mark = chain_line(scene, last_of(scene, 5), most).split(";")
        assert [link.split("|")[1] for link in links] == ["p5", "p4", "p3", "p2"][: most + 1]
        assert mark == "…"

    @pytest.mark.parametrize(("most", "expected"), [(0, "…"), (2, "p4 < p3 < …")])
    def test_in_a_table(self, scene: MadeUpProcesses, most: int, expected: str) -> None:
        assert table_cell(scene, last_of(scene, 5), most) == expected

    def test_once_only_in_a_narrow_table(self, scene: MadeUpProcesses) -> None:
        assert table_cell(scene, last_of(scene, 9), 5, columns=14) == "p8 < p7 < …"


class TestAChainThatIsWhole:
    @pytest.mark.parametrize("most", [5, 6, 10**9, None])
    def test_is_not_marked(self, scene: MadeUpProcesses, most: int | None) -> None:
        process_event = last_of(scene, 5)
        found = proctree(scene, process_event, most)
        assert [link["name"] for link in found["chain"]] == ["p4", "p3", "p2", "p1", "init"]
        assert "chain_truncated" not in found
        assert "…" not in chain_line(scene, process_event, most)
        assert table_cell(scene, process_event, most) == "p4 < p3 < p2 < p1 < init"

    def test_of_a_root_is_whole_with_no_ancestors_at_all(self, scene: MadeUpProcesses) -> None:
        found = proctree(scene, scene.exec(1, "init"), 0)
        assert (found["chain"], "chain_truncated" in found) == ([], False)


def test_a_cut_chain_can_be_parsed_and_tells_that_it_was_cut(scene: MadeUpProcesses) -> None:
    last_of(scene, 5)
    text = build_chain_string(scene.tree, scene.cache, 1004, max_ancestors=2)
    links = parse_chain_string(text)
    assert [link.omitted for link in links] == [False, False, False, True]
    assert ";".join(map(str, links)) == text


@pytest.mark.parametrize("text", ["…", "1|a|b;…;2|a|b", "1|a|b;…x", "…;1|a|b"])
def test_a_mark_elsewhere_is_no_chain(text: str) -> None:
    with pytest.raises(ValueError, match="not a chain string"):
        parse_chain_string(text)


def test_no_name_can_pass_for_the_mark(scene: MadeUpProcesses) -> None:
    scene.line_of("…", "…")
    links = parse_chain_string(build_chain_string(scene.tree, scene.cache, 1001))
    assert not any(link.omitted for link in links)


@pytest.mark.parametrize("most", range(7))
def test_a_chain_that_proc_completes_has_as_many(
    scene: MadeUpProcesses, most: int, tmp_path: Path
) -> None:
    last_of(scene, 5)
    links = build_chain_links(scene.tree, scene.cache, 1004, str(tmp_path), max_ancestors=most)
    assert len([link for link in links if not link.omitted]) == min(most, 5) + 1
    assert links[-1].omitted == (most < 5)


def test_fewer_than_none_cannot_be_asked_for(scene: MadeUpProcesses) -> None:
    with pytest.raises(ValueError, match="max_ancestors"):
        build_chain_links(scene.tree, scene.cache, 1, max_ancestors=-1)


def test_what_is_cut_off_costs_nothing(scene: MadeUpProcesses) -> None:
    shallow = scene.line_of(*(["s"] * 70), first_pid=2000)
    deep = scene.line_of(*(["d"] * 20_000), first_pid=100_000)

    def cost(pid: int) -> int:
        begun = time.process_time_ns()
        for _ in range(20):
            of_tree(scene.tree, scene.cache, pid, max_ancestors=64)
        return time.process_time_ns() - begun

    assert min(cost(deep) for _ in range(5)) < 10 * min(cost(shallow) for _ in range(5))
