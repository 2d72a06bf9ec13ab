"""What sinks keep of processes: a line is the same as if nothing had been kept."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf import Exec, Exit, Fork, ProcessKey, Rename, build_chain_string
from proctree_bpf.core.events import Setid
from proctree_bpf.core.model import CacheParams
from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.sinks.fields import FIELDS, View
from proctree_bpf.sinks.layout import Layout
from proctree_bpf.sinks.lines.chain import ChainSink
from proctree_bpf.sinks.lines.table import TableSink
from proctree_bpf.sinks.wall_time import TraceClock
from support.hostile_names import comms, unhurried
from support.made_up_processes import MadeUpProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.core.events import ProcEvent

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fork", "exec", "rename", "setid", "exit"]),
        st.integers(20, 23),
        st.integers(20, 23),
        comms(),
        st.booleans(),
    ),
    max_size=12,
)
Steps = list[tuple[str, int, int, str, bool]]


def told(scene: MadeUpProcesses, steps: Steps) -> Iterator[ProcessEvent]:
    """Let a few processes do this; yield each record while it is true."""
    scene.line_of("a", "b", "c", "d", first_pid=20)
    for number, (kind, pid, other, name, flag) in enumerate(steps):
        now_ns, key = scene.now_ns + 2_000_000 * (number + 1), scene.key(pid)
        parent = scene.key(other) if flag else None
        events: dict[str, ProcEvent] = {
            "fork": Fork(now_ns, ProcessKey(30 + number, now_ns), key, parent, comm=name, uid=0),
            "exec": Exec(
                now_ns,
                key,
                parent,
                uid=0,
                comm=name,
                args_raw=name.encode("utf-8", "surrogateescape") + b"\0x\0",
            ),
            "rename": Rename(now_ns, key, name),
            "setid": Setid(now_ns, key, 1000 * flag),
            "exit": Exit(now_ns, key, parent, number),
        }
        process = scene.tracker.take(events[kind])
        if process is not None:
            yield ProcessEvent(events[kind], process, uncertain=flag and number % 3 == 0)


@unhurried
@given(steps=_STEPS, columns=st.sampled_from([None, 80, 140]))
def test_a_row_of_any_columns_is_the_same_as_without(steps: Steps, columns: int | None) -> None:
    scene, kept = MadeUpProcesses(), io.StringIO()

    def sink(out: io.StringIO) -> TableSink:
        view = View(TraceClock(0, utc=True, started_ns=1))
        return TableSink(
            out, scene.tree, view, lambda: Layout(columns), tuple(FIELDS), may_drop=False
        )

    keeping = sink(kept)
    keeping.flush()
    for record in told(scene, steps):
        begin, anew = kept.tell(), io.StringIO()
        keeping.write(record)
        before = record.process.link
        sink(anew).write(record)
        record.process.link = before
        assert kept.getvalue()[begin:] == anew.getvalue().partition("\n")[2]


@unhurried
@given(steps=_STEPS, most=st.sampled_from([None, 0, 1, 3]))
def test_a_chain_is_what_the_tree_says(steps: Steps, most: int | None) -> None:
    scene, out = MadeUpProcesses(), io.StringIO()
    sink = ChainSink(out, scene.tree, scene.cache, most)
    for record in told(scene, steps):
        begin = out.tell()
        sink.write(record)
        chain = build_chain_string(scene.tree, scene.cache, record.node.key, max_ancestors=most)
        assert out.getvalue()[begin:].partition("\t")[2] == f"{chain}\n"


@pytest.mark.parametrize("most", [None, 1])
def test_a_chain_goes_with_the_name_of_an_ancestor(most: int | None) -> None:
    steps: Steps = [("exec", 21, 20, "x", False), ("rename", 20, 20, "new", False)]
    scene, out = MadeUpProcesses(), io.StringIO()
    sink = ChainSink(out, scene.tree, scene.cache, most)
    for record in told(scene, [*steps, ("exec", 21, 20, "y", False)]):
        sink.write(record)
    before, _, after = out.getvalue().splitlines()
    assert "20|a|" in before
    assert "20|new|" in after


def test_a_process_that_there_is_no_room_for_has_those_above_it_all_the_same() -> None:
    params, chains, table = CacheParams(2), io.StringIO(), io.StringIO()
    tracker = Tracker(PidTree(params), ProcCache(params), {0: "root"}.get)
    view = View(TraceClock(0, utc=True, started_ns=1))
    sinks = (
        ChainSink(chains, tracker.tree, tracker.cache),
        TableSink(table, tracker.tree, view, Layout, ("comm", "ancestry")),
    )
    creator = ProcessKey(0)
    for pid in (1, 2, 3):
        key = ProcessKey(pid, pid * 1_000_000_000)
        told = tracker.apply(Fork(key.start_time_ns, key, creator, comm=f"p{pid}", uid=0))
        assert told is not None
        creator = key
        for sink in sinks:
            sink.write(told)
    assert tracker.tree.get_node(creator) is None
    assert chains.getvalue().splitlines()[-1] == "fork\t3|p3|root;2|p2|root;1|p1|root"
    assert table.getvalue().splitlines()[-1].split() == ["p3", "p2", "<", "p1"]
