"""Compact events stand for the values of ``core.events``, and say the same of all that is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.compact import CompactExec, CompactExit, CompactFork, value_of
from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent, Rename
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.process import TrackedProcess, info_of, node_of
from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.core.tracker import Tracker

SECOND_NS = 10**9
START_NS = 5 * SECOND_NS + 1
SHELL, CHILD = ProcessKey(7, SECOND_NS + 1), ProcessKey(8, START_NS)

parents = st.sampled_from([SHELL, ProcessKey(1, 3), ProcessKey(SHELL.pid, 0)])
# Few, so that they are often what was there before.
ids, names = st.sampled_from([0, 1000]), st.sampled_from(["sh", "true"])
forks = st.builds(
    lambda parent, *more: CompactFork(
        START_NS, *CHILD, *SHELL, None if parent == SHELL else parent, *more
    ),
    parents, st.sampled_from([8, 2]), ids, ids, ids, names,
)  # fmt: skip
execs = st.builds(
    lambda key, parent, *more: CompactExec(START_NS + 5, *key, *parent, *more),
    st.sampled_from([CHILD, SHELL]), parents, ids, ids, ids, names, st.sampled_from([b"", b"x\0"]),
    st.none() | st.just("/bin/x"), st.none() | st.just(b"x\0"), st.booleans(),
)  # fmt: skip
exits = st.builds(
    lambda key, parent, *more: CompactExit(START_NS + 9, *key, *parent, *more),
    st.sampled_from([CHILD, SHELL]), parents, st.sampled_from([0, 9, 256]), ids, ids, names, ids,
    ids,
)  # fmt: skip
compact = forks | execs | exits

FORK = CompactFork(START_NS, *CHILD, *SHELL, None, 8, 0, 0, 1, "sh")
EXEC = CompactExec(
    START_NS, *CHILD, *SHELL, 0, 0, 1, "true", b"./true\0", "/bin/true", b"true\0", truncated=False
)
EXIT = CompactExit(START_NS, *CHILD, *SHELL, 256, 0, 0, "true", 5, 1)


def test_a_fork_stands_for_its_value() -> None:
    assert value_of(FORK) == Fork(START_NS, CHILD, SHELL, SHELL, 8, 0, 0, 1, "sh")


def test_an_exec_stands_for_its_value() -> None:
    assert value_of(EXEC) == Exec(
        START_NS, CHILD, SHELL, 0, 0, 1, "true", "./true", "/bin/true", b"true\0"
    )


def test_an_exit_stands_for_its_value() -> None:
    assert value_of(EXIT) == Exit(START_NS, CHILD, SHELL, 256, 0, 0, "true", 5, 1)


def test_a_value_stands_for_itself() -> None:
    event = Rename(1, CHILD, "x")
    assert value_of(event) is event


def test_an_exec_without_a_file_name_has_none() -> None:
    without = CompactExec(
        START_NS, *CHILD, *SHELL, 0, 0, 1, "x", b"", None, None, truncated=False
    )  # fmt: skip
    value = value_of(without)
    assert isinstance(value, Exec)
    assert value.filename is None


ASKED = {
    "fork": "kind timestamp_ns key child creator pid start_time_ns creator_pid creator_start_ns"
    " other_parent ns_pid uid gid cgroup_id comm observed approximate",
    "exec": "kind timestamp_ns key pid start_time_ns parent parent_pid parent_start_ns uid gid"
    " cgroup_id comm executable args_raw truncated",
    "exit": "kind timestamp_ns key pid start_time_ns parent parent_pid parent_start_ns status uid"
    " gid comm cpu_ns cgroup_id",
}


@given(compact)
def test_it_answers_as_its_value_does(event: CompactFork | CompactExec | CompactExit) -> None:
    value = value_of(event)
    for name in ASKED[event.kind].split():
        assert getattr(event, name) == getattr(value, name), name


def known_of(tracker: Tracker) -> list[object]:
    return [(node_of(process), info_of(process)) for process in tracker.table]


@given(st.lists(compact, max_size=6))
def test_a_tree_becomes_the_same_by_either(events: list[CompactFork]) -> None:
    by_compact, by_value = Tracker(), Tracker()
    shell = Fork(SECOND_NS, SHELL, ProcessKey(0), comm="sh", uid=0)
    for event in (shell, *events):
        first, second = by_compact.take(event), by_value.take(value_of(event))
        assert (first is None) == (second is None)
    assert known_of(by_compact) == known_of(by_value)
    assert by_compact.stats == by_value.stats


@pytest.mark.parametrize("event", [FORK, EXEC, EXIT, Rename(1, CHILD, "x")], ids=lambda e: e.kind)
def test_who_gets_a_record_of_it_gets_its_value(event: CompactFork | ProcEvent) -> None:
    told = ProcessEvent(event, TrackedProcess(*CHILD))
    assert told.event == value_of(event)
    assert told.event is told.event
