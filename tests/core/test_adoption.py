"""Who the parent is once the end of a parent has told who adopts its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proctree_bpf.core.events import Exec, Exit, Fork
from proctree_bpf.core.identity import ProcessKey
from support.sample_events import CHILD, EXEC, FORK, INIT, SHELL, S, apply_all, entry, node_of
from support.values import replace

if TYPE_CHECKING:
    from proctree_bpf.core.tracker import Tracker

REAPER = ProcessKey(70, 40 * S + 9)
GRANDCHILD = ProcessKey(300, 61 * S + 5)
GRANDCHILD_FORK = replace(FORK, timestamp_ns=61 * S + 5, child=GRANDCHILD, creator=CHILD)
GRANDCHILD_FORK = replace(GRANDCHILD_FORK, parent=CHILD)
CHILDS_END = Exit(62 * S, CHILD, SHELL, status=0, reaper=REAPER)


@pytest.fixture
def tracker(tracker: Tracker) -> Tracker:
    """A shell below a subreaper has a child, which has a child."""
    tracker.apply(Fork(REAPER.start_time_ns, REAPER, INIT, INIT, comm="reaper"))
    apply_all(tracker, FORK, EXEC, GRANDCHILD_FORK)
    return tracker


@pytest.fixture(autouse=True)
def everything_agrees(tracker: Tracker) -> None:
    """Check the table after each test."""
    yield
    tracker.table.check_invariants()


def parent(tracker: Tracker, who: ProcessKey = GRANDCHILD) -> ProcessKey:
    return node_of(tracker, who).kernel_parent


def test_an_orphan_has_its_new_parent_from_the_end_of_the_old_one_on(tracker: Tracker) -> None:
    assert parent(tracker) == CHILD
    tracker.apply(CHILDS_END)
    assert parent(tracker) == REAPER
    assert node_of(tracker, GRANDCHILD).creator == CHILD


def test_it_is_not_known_where_the_end_does_not_tell(tracker: Tracker) -> None:
    tracker.apply(replace(CHILDS_END, reaper=None))
    assert node_of(tracker, GRANDCHILD).parent is None


def test_who_has_adopted_hands_over_when_it_ends_itself(tracker: Tracker) -> None:
    apply_all(tracker, CHILDS_END, Exit(63 * S, REAPER, INIT, status=0, reaper=INIT))
    assert parent(tracker) == INIT


def test_of_two_ends_the_order_does_not_matter(tracker: Tracker) -> None:
    """The reaper was still alive when the child's end told of it, or had ended before."""
    apply_all(tracker, Exit(62 * S - 1, REAPER, INIT, status=0, reaper=INIT))
    tracker.apply(replace(CHILDS_END, reaper=INIT))
    assert parent(tracker) == INIT


def test_one_that_had_ended_before_keeps_the_parent_that_it_had(tracker: Tracker) -> None:
    apply_all(tracker, Exit(62 * S - 1, GRANDCHILD, CHILD, status=0), CHILDS_END)
    assert parent(tracker) == CHILD


def test_a_creator_that_adopts_is_the_parent_again(tracker: Tracker) -> None:
    """A subreaper's child forked for it with CLONE_PARENT, or it has adopted its own."""
    other = ProcessKey(301, 61 * S + 6)
    tracker.apply(replace(GRANDCHILD_FORK, child=other, creator=REAPER, timestamp_ns=61 * S + 6))
    assert parent(tracker, other) == CHILD
    tracker.apply(CHILDS_END)
    assert node_of(tracker, other).parent is None
    assert parent(tracker, other) == REAPER


def test_an_exec_before_the_handing_over_still_names_the_old_parent(tracker: Tracker) -> None:
    tracker.apply(CHILDS_END)
    tracker.apply(Exec(62 * S + 1, GRANDCHILD, CHILD, comm="late", args_raw=b""))
    assert parent(tracker) == REAPER


def test_so_does_one_that_was_handed_over_before(tracker: Tracker) -> None:
    """Nobody told what the subreaper's subreaper is, but that it has ended."""
    apply_all(tracker, CHILDS_END, Exit(63 * S, REAPER, INIT, status=0, reaper=INIT))
    tracker.apply(Exec(63 * S + 1, GRANDCHILD, REAPER, comm="late", args_raw=b""))
    assert parent(tracker) == INIT


def test_a_clone_for_a_parent_that_is_about_to_hand_over_goes_with_the_others(
    tracker: Tracker,
) -> None:
    sibling = ProcessKey(302, 62 * S + 1)
    tracker.apply(CHILDS_END)
    tracker.apply(Fork(62 * S + 1, sibling, GRANDCHILD, CHILD, comm="sibling"))
    assert parent(tracker, sibling) == REAPER
    tracker.apply(Exit(63 * S, REAPER, INIT, status=0, reaper=INIT))
    assert parent(tracker, sibling) == parent(tracker) == INIT


def test_what_an_event_says_of_a_living_parent_is_believed(tracker: Tracker) -> None:
    tracker.apply(CHILDS_END)
    tracker.apply(Exec(62 * S + 1, GRANDCHILD, INIT, comm="x", args_raw=b""))
    assert parent(tracker) == INIT


def test_those_of_before_the_start_are_handed_over_too(tracker: Tracker) -> None:
    old = ProcessKey(90, 45 * S)
    tracker.merge_snapshot([entry(old, SHELL, "old")])
    tracker.apply(Exit(64 * S, SHELL, INIT, status=0, reaper=REAPER))
    assert parent(tracker, old) == REAPER
    assert parent(tracker, CHILD) == REAPER


def test_a_look_at_proc_tells_the_parent_where_the_end_was_lost(tracker: Tracker) -> None:
    look = [entry(INIT, ProcessKey(0), "init"), entry(REAPER, INIT, "reaper")]
    look += [entry(GRANDCHILD, REAPER, "ls")]
    tracker.reconcile(look, 65 * S, 66 * S)
    assert node_of(tracker, CHILD).exited_ns is not None
    assert parent(tracker).pid == REAPER.pid
    tracker.apply(Exit(67 * S, REAPER, INIT, status=0, reaper=INIT))
    assert parent(tracker) == INIT


def test_a_look_from_before_an_end_does_not_bring_the_old_parent_back(tracker: Tracker) -> None:
    look = [entry(INIT, ProcessKey(0), "init"), entry(REAPER, INIT, "reaper")]
    look += [entry(SHELL, INIT, "bash"), entry(CHILD, SHELL, "ls")]
    look += [entry(GRANDCHILD, CHILD, "cat")]
    tracker.apply(CHILDS_END)
    tracker.reconcile(look, 61 * S + 9, 66 * S)
    assert parent(tracker) == REAPER


def test_a_later_process_with_the_pid_of_a_parent_takes_nobody_along(tracker: Tracker) -> None:
    later = ProcessKey(REAPER.pid, 63 * S)
    apply_all(tracker, CHILDS_END, Exit(62 * S + 5, REAPER, INIT, status=0, reaper=INIT))
    tracker.apply(Fork(63 * S, later, SHELL, SHELL, comm="later"))
    tracker.apply(Exit(64 * S, later, SHELL, status=0, reaper=SHELL))
    assert parent(tracker) == INIT


def test_a_forgotten_orphan_is_no_longer_handed_over(tracker: Tracker) -> None:
    tracker.apply(CHILDS_END)
    orphan = tracker.table.get(GRANDCHILD)
    assert orphan is not None
    tracker.table.remove(orphan)
    tracker.table.check_invariants()
    assert tracker.table.wards.in_care_of(tracker.table.get(REAPER) or orphan) == []
