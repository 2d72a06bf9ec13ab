"""Who the kernel's parent is at any moment, from events alone: told when a parent ends.

The truth is what the orphans themselves get from getppid(2).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from support.live_collector import as_identity
from support.proc_truth import Identity, identity, is_ending, parent_pid
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.actor import Actor, Report, Stage
    from support.live_collector import LiveCollector


def parent_told(live: LiveCollector, orphan: Report) -> Identity:
    """Return the parent that events have told of a process that did nothing since its birth."""
    live.fence()
    assert live.kinds(orphan.who) == ["Fork"]
    return as_identity(live.node(orphan.who).kernel_parent)


def assert_adopted(live: LiveCollector, child: Report, parent: Report) -> None:
    """Assert that the parent is the one that the child itself sees, and that events tell it."""
    assert child.ppid == parent.pid
    assert parent_told(live, child) == parent.who


def parents_of(processes: list[Report]) -> list[Identity] | None:
    """Return whose children the kernel has processes as; None if one of those is ending."""
    parents = [parent_pid(process.pid) for process in processes]
    with suppress(FileNotFoundError, ProcessLookupError):
        if not any(map(is_ending, parents)):
            return list(map(identity, parents))
    return None


def write_line(actor: Actor) -> None:
    assert actor.popen.stdin is not None
    actor.popen.stdin.write(b"\n")


def test_a_daemon_has_a_new_parent_as_soon_as_its_creator_has_ended(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("daemon") as actor:
        middle, daemon = actor.await_report("middle"), actor.await_report("daemon")
        assert daemon.ppid != middle.pid
        assert parent_told(live, daemon) == identity(daemon.ppid)
        assert as_identity(live.node(daemon.who).creator) == middle.who


def test_the_end_of_a_parent_names_the_subreaper_that_adopts(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("adopted") as actor:
        middle, orphan = actor.await_report("middle"), actor.await_report("orphan")
        subreaper = actor.await_report("subreaper")
        assert_adopted(live, orphan, subreaper)
        reaper = live.the_exit(middle.who).reaper
        assert reaper is not None
        assert as_identity(reaper) == subreaper.who


def test_an_orphan_goes_to_the_nearest_subreaper_and_to_the_next_when_that_ends(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("nested-subreapers") as actor:
        orphan, inner = actor.await_report("orphan"), actor.await_report("inner")
        assert_adopted(live, orphan, inner)
        write_line(actor)
        again, outer = actor.await_report("again"), actor.await_report("outer")
        assert again.ppid == outer.pid
        assert parent_told(live, orphan) == outer.who


def test_who_is_a_subreaper_no_more_adopts_nobody(live: LiveCollector, stage: Stage) -> None:
    with stage.play("former-subreaper") as actor:
        orphan, outer = actor.await_report("orphan"), actor.await_report("outer")
        assert_adopted(live, orphan, outer)


def test_in_a_pid_namespace_its_init_adopts_and_no_subreaper_outside(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("namespace") as actor:
        orphan, init = actor.await_report("orphan"), actor.await_report("init")
        assert_adopted(live, orphan, init)


@pytest.mark.parametrize("levels", [3, 40, 128])
def test_the_subreaper_may_be_far_above(live: LiveCollector, stage: Stage, levels: int) -> None:
    with stage.play("deep", str(levels)) as actor:
        orphan, outer = actor.await_report("orphan"), actor.await_report("outer")
        assert_adopted(live, orphan, outer)


def test_of_a_subreaper_that_is_too_far_above_nothing_is_said(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("deep", "130") as actor:
        orphan, middle = actor.await_report("orphan"), actor.await_report("middle")
        assert live.the_exit(middle.who).reaper is None
        assert orphan.ppid == actor.await_report("outer").pid


def test_a_process_stays_the_parent_when_the_thread_that_forked_ends(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("thread-ends-first", "3") as actor:
        middle, outer = actor.await_report("middle"), actor.await_report("outer")
        actor.await_report("child", 3)
        for child in actor.all_of("child"):
            assert_adopted(live, child, middle)
        write_line(actor)
        actor.await_report("orphan", 3)
        for child in actor.all_of("orphan"):
            assert_adopted(live, child, outer)


def test_the_children_of_all_threads_are_handed_over_with_their_process(
    live: LiveCollector, stage: Stage
) -> None:
    count = 20
    with stage.play("threads-end-together", str(count)) as actor:
        actor.await_report("child", count)
        write_line(actor)
        actor.await_report("orphan", count)
        outer = actor.await_report("outer")
        for child in actor.all_of("orphan"):
            assert_adopted(live, child, outer)


def test_what_a_child_has_cloned_for_its_parent_is_handed_over_with_it(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("clone-parent-orphan") as actor:
        middle, sibling = actor.await_report("middle"), actor.await_report("sibling")
        caller = actor.await_report("caller")
        assert_adopted(live, sibling, middle)
        write_line(actor)
        orphan, again = actor.await_report("orphan"), actor.await_report("again")
        outer = actor.await_report("outer")
        assert orphan.ppid == again.ppid == outer.pid
        assert parent_told(live, sibling) == parent_told(live, caller) == outer.who
        assert as_identity(live.node(sibling.who).creator) == caller.who


@pytest.mark.parametrize("seed", range(5))
def test_where_most_end_at_once_and_subreapers_too_all_that_are_left_have_their_parents(
    live: LiveCollector, stage: Stage, seed: int
) -> None:
    with stage.play("storm", str(seed)) as actor:
        actor.await_report("quiet")
        survivors = actor.all_of("survivor")
        assert len(survivors) > 20

        # Who held the pipe is still on its way out when that is closed.
        truth = wait_until("all to be handed over", lambda: parents_of(survivors))
        live.fence()
        assert all(live.kinds(each.who) == ["Fork"] for each in survivors)
        told = [as_identity(live.node(each.who).kernel_parent) for each in survivors]
        assert told == truth
