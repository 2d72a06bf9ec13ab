"""The rules of the tracker for events that come twice, late or without those before."""

from __future__ import annotations

from itertools import permutations

import pytest

from proctree_bpf.core.events import AncestorAnnounced, Exec, Exit, Fork, ProcEvent, Rename, Setid
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.model import Edge
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from support.sample_events import (
    CHILD,
    EXEC,
    EXIT,
    FORK,
    INIT,
    LATER,
    SHELL,
    S,
    apply_all,
    info_of,
    node_of,
    state,
)
from support.values import kind_of, replace


class TestEventsThatComeTwice:
    @pytest.mark.parametrize("twice", [FORK, EXEC, EXIT], ids=kind_of)
    def test_a_second_copy_changes_nothing_and_is_called_known(
        self, tracker: Tracker, twice: ProcEvent
    ) -> None:
        apply_all(tracker, *(event for event in (FORK, EXEC, EXIT)))
        before = state(tracker)
        assert tracker.apply(twice) is None
        assert state(tracker) == before
        assert tracker.stats.duplicates == 1

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_the_whole_story_told_again_changes_nothing(self, tracker: Tracker, count: int) -> None:
        story = (FORK, EXEC, EXIT)[:count]
        apply_all(tracker, *story)
        before = state(tracker)
        apply_all(tracker, *story)
        assert state(tracker) == before

    def test_a_rename_to_the_same_name_is_known(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        assert tracker.apply(Rename(61 * S, CHILD, "ls")) is None

    @pytest.mark.parametrize(
        "event",
        [
            Rename(61 * S, CHILD, "ls"),
            Rename(61 * S, ProcessKey(9999, 5 * S), "stranger"),
            Setid(61 * S, CHILD, uid=1000, gid=1000),
            AncestorAnnounced(61 * S, SHELL, INIT, "bash"),
        ],
        ids=kind_of,
    )
    def test_what_changes_nothing_is_no_second_copy(
        self, tracker: Tracker, event: ProcEvent
    ) -> None:
        apply_all(tracker, FORK, EXEC)
        tracker.apply(event)
        assert (tracker.stats.duplicates, tracker.stats.unchanged) == (0, 1)

    def test_an_exit_brings_the_cpu_time_if_the_source_knows_it(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC, replace(EXIT, cpu_ns=5))
        assert info_of(tracker, CHILD).cpu_ns == 5

    def test_a_second_exit_does_not_take_the_cpu_time_away(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, replace(EXIT, status=None, cpu_ns=5), EXIT)
        assert info_of(tracker, CHILD).cpu_ns == 5

    def test_a_second_exit_may_bring_the_status_that_the_first_lacked(
        self, tracker: Tracker
    ) -> None:
        apply_all(tracker, FORK, replace(EXIT, status=None))
        assert tracker.apply(EXIT) is not None
        assert info_of(tracker, CHILD).exit_code == 3
        assert tracker.apply(replace(EXIT, status=None)) is None
        assert info_of(tracker, CHILD).exit_code == 3

    def test_a_copy_of_a_fork_without_start_times_does_not_undo_the_exec(self) -> None:
        tracker = Tracker(PidTree(), ProcCache())
        fork = Fork(10, ProcessKey(5), ProcessKey(4), comm="bash")
        apply_all(tracker, fork, Exec(11, ProcessKey(5), comm="ls"))
        tracker.apply(fork)
        assert node_of(tracker, 5).cmd == "ls"


class TestEventsThatComeLate:
    @pytest.mark.parametrize(
        "order",
        list(permutations((FORK, EXEC, EXIT))),
        ids=lambda order: "-".join(map(kind_of, order)),
    )
    def test_any_order_tells_the_same_life(
        self, tracker: Tracker, order: tuple[ProcEvent, ...]
    ) -> None:
        apply_all(tracker, *order)
        node, info = node_of(tracker, CHILD), info_of(tracker, CHILD)
        assert (node.creator, node.edge) == (SHELL, Edge.CREATED)
        assert node.exited_ns == EXIT.timestamp_ns
        assert (node.cmd, info.cmd, info.args) == ("ls", "ls", ("ls", "-l"))
        assert (info.exit_code, info.user, info.ppid) == (3, "ada", 100)
        assert not info.inherited

    def test_an_older_exec_does_not_undo_a_newer_one(self, tracker: Tracker) -> None:
        newer = Exec(62 * S, CHILD, comm="vim", args_raw=b"vim\0")
        apply_all(tracker, FORK, newer, EXEC)
        info = info_of(tracker, CHILD)
        assert (info.cmd, info.args, info.exec_ns) == ("vim", ("vim",), 62 * S)

    def test_a_fork_after_the_exit_does_not_bring_the_process_back(self, tracker: Tracker) -> None:
        apply_all(tracker, EXIT, FORK)
        node, info = node_of(tracker, CHILD), info_of(tracker, CHILD)
        assert (node.exited_ns, info.exited_ns, info.exit_code) == (61 * S, 61 * S, 3)
        assert (node.creator, node.edge) == (SHELL, Edge.CREATED)

    def test_a_fork_after_the_exit_does_not_undo_the_name_at_the_end(
        self, tracker: Tracker
    ) -> None:
        apply_all(tracker, EXIT, FORK)
        assert (node_of(tracker, CHILD).cmd, info_of(tracker, CHILD).cmd) == ("ls", "ls")

    def test_an_exec_after_the_exit_does_not_bring_the_process_back(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXIT, EXEC)
        assert node_of(tracker, CHILD).exited_ns == 61 * S
        assert info_of(tracker, CHILD).exit_code == 3

    def test_an_exit_of_the_former_holder_does_not_end_the_present_one(
        self, tracker: Tracker
    ) -> None:
        apply_all(tracker, FORK, Fork(LATER.start_time_ns, LATER, INIT, comm="new"), EXIT)
        assert node_of(tracker, LATER).exited_ns is None
        assert node_of(tracker, CHILD).exited_ns is not None
        assert info_of(tracker, CHILD).exit_code == 3


class TestEventsWithoutThoseBefore:
    def test_an_exec_without_a_fork_makes_a_process_whose_creator_is_only_observed(
        self, tracker: Tracker
    ) -> None:
        assert tracker.apply(replace(EXEC, parent=SHELL)) is not None
        node = node_of(tracker, CHILD)
        assert (node.creator, node.edge) == (SHELL, Edge.OBSERVED)
        assert tracker.stats.orphans == 1

    def test_an_exit_without_a_fork_is_told_with_what_it_carries(self, tracker: Tracker) -> None:
        process_event = tracker.apply(replace(EXIT, parent=SHELL))
        assert process_event is not None
        assert (process_event.info.cmd, process_event.info.user, process_event.info.exit_code) == (
            "ls",
            "ada",
            3,
        )
        assert process_event.node.exited_ns == 61 * S

    def test_an_orphan_without_a_parent_is_a_root(self, tracker: Tracker) -> None:
        tracker.apply(EXEC)
        assert node_of(tracker, CHILD).ppid == 0

    def test_known_facts_are_not_overwritten_by_unknown_ones(self, tracker: Tracker) -> None:
        fork = replace(FORK, cgroup_id=77, ns_pid=5)
        apply_all(tracker, fork, EXEC, Exit(61 * S, CHILD))
        info = info_of(tracker, CHILD)
        assert (info.cmd, info.uid, info.gid) == ("ls", 1000, 1000)
        assert (info.cgroup_id, info.ns_pid, info.user) == (77, 5, "ada")

    def test_an_exec_without_a_user_keeps_the_one_of_the_fork(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, replace(EXEC, uid=None, gid=None))
        info = info_of(tracker, CHILD)
        assert (info.uid, info.gid, info.user) == (1000, 1000, "ada")
