"""Each rule of the tracker, one test a sentence; events come from no kernel here."""

from __future__ import annotations

import pytest

from proctree_bpf.core.events import AncestorAnnounced, Exec, Exit, Fork, ProcEvent, Rename
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import Answer, ancestry, build_chain_string
from proctree_bpf.core.model import CacheParams, Edge
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.subtree import children
from proctree_bpf.core.tracker import Tracker
from support.sample_events import (
    CHILD,
    CHILD_TICK,
    EXEC,
    EXIT,
    FORK,
    INIT,
    LATER,
    SHELL,
    SNAPSHOT,
    USERS,
    S,
    apply_all,
    info_of,
    node_of,
)
from support.values import kind_of, replace


class TestALifeInOrder:
    def test_a_forked_process_carries_its_creators_name_and_arguments(
        self, tracker: Tracker
    ) -> None:
        tracker.apply(replace(FORK, comm=None))
        info = info_of(tracker, CHILD)
        assert (info.cmd, info.args, info.executable) == ("bash", ("-bash",), "/usr/bin/bash")
        assert info.inherited

    def test_a_forked_process_has_the_name_that_the_kernel_gave_it(self, tracker: Tracker) -> None:
        tracker.apply(replace(FORK, comm="worker"))
        assert node_of(tracker, CHILD).cmd == "worker"

    def test_the_name_of_its_creator_is_unsure_if_a_thread_may_have_given_another(
        self, tracker: Tracker
    ) -> None:
        tracker.apply(replace(FORK, comm=None))
        assert ancestry(tracker.tree, CHILD, "bash") is Answer.YES
        late = ProcessKey(300, 62 * S + 1)
        tracker.apply(Fork(late.start_time_ns, late, INIT, name_unsure=True))
        assert node_of(tracker, late).cmd == "init"
        assert node_of(tracker, late).name_uncertain
        assert not node_of(tracker, CHILD).name_uncertain

    def test_a_forked_process_knows_who_created_it_for_certain(self, tracker: Tracker) -> None:
        tracker.apply(FORK)
        node = node_of(tracker, CHILD)
        assert node.creator == SHELL
        assert node.edge is Edge.CREATED
        assert node.kernel_parent == SHELL

    def test_a_forked_process_runs_as_the_user_of_the_event(self, tracker: Tracker) -> None:
        tracker.apply(replace(FORK, uid=1001))
        assert info_of(tracker, CHILD).user == "bob"

    def test_a_forked_process_without_a_user_runs_as_its_creator(self, tracker: Tracker) -> None:
        tracker.apply(replace(FORK, uid=None))
        assert (info_of(tracker, CHILD).uid, info_of(tracker, CHILD).user) == (1000, "ada")

    def test_the_parent_is_kept_beside_the_creator_where_they_differ(
        self, tracker: Tracker
    ) -> None:
        tracker.apply(replace(FORK, parent=INIT))
        node = node_of(tracker, CHILD)
        assert (node.creator, node.kernel_parent) == (SHELL, INIT)

    def test_a_fork_of_an_unknown_creator_still_makes_a_process(self) -> None:
        tracker = Tracker(PidTree(), ProcCache())
        process_event = tracker.apply(replace(FORK, comm=None, uid=None))
        assert process_event is not None
        assert (process_event.info.user, process_event.info.args) == ("unknown", ())
        assert node_of(tracker, CHILD).creator == SHELL

    def test_an_exec_ends_the_inheritance(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        info = info_of(tracker, CHILD)
        assert (info.cmd, info.args, info.executable) == ("ls", ("ls", "-l"), "/usr/bin/ls")
        assert not info.inherited
        assert info.exec_ns == EXEC.timestamp_ns

    def test_an_exec_does_not_change_who_the_creator_is(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, replace(EXEC, parent=INIT))
        node = node_of(tracker, CHILD)
        assert (node.creator, node.edge, node.kernel_parent) == (SHELL, Edge.CREATED, INIT)

    def test_an_exec_whose_program_is_not_known_does_not_keep_the_old_one(
        self, tracker: Tracker
    ) -> None:
        apply_all(
            tracker,
            FORK,
            EXEC,
            Exec(62 * S, CHILD, comm="sh", args_raw=None, executable=None),
        )
        info = info_of(tracker, CHILD)
        assert (info.cmd, info.executable, info.args_raw) == ("sh", None, None)

    def test_what_a_creator_execs_later_is_not_inherited(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, Exec(62 * S, SHELL, comm="vim", args_raw=b"vim\0"))
        assert info_of(tracker, CHILD).args == ("-bash",)

    def test_inherited_arguments_stay_marked_as_truncated(self, tracker: Tracker) -> None:
        apply_all(tracker, Exec(59 * S, SHELL, comm="sh", args_raw=b"sh", truncated=True), FORK)
        assert info_of(tracker, CHILD).truncated

    def test_an_exit_keeps_the_process_with_its_status(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC, EXIT)
        info = info_of(tracker, CHILD)
        assert (info.exit_code, info.exit_signal, info.exited_ns) == (3, None, 61 * S)
        assert info.args == ("ls", "-l")
        assert node_of(tracker, CHILD).exited_ns == 61 * S

    def test_every_event_hands_back_what_is_known_after_it(self, tracker: Tracker) -> None:
        for event in (FORK, EXEC, EXIT):
            process_event = tracker.apply(event)
            assert process_event is not None
            assert process_event.event is event
            assert process_event.node == node_of(tracker, CHILD)
            assert process_event.info == info_of(tracker, CHILD)

    def test_a_rename_changes_the_name_alone(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        before = info_of(tracker, CHILD)
        assert tracker.apply(Rename(61 * S, CHILD, "renamed")) is not None
        assert info_of(tracker, CHILD) == replace(before, cmd="renamed")
        assert node_of(tracker, CHILD).cmd == "renamed"

    def test_a_rename_of_an_unknown_process_makes_nothing(self, tracker: Tracker) -> None:
        assert tracker.apply(Rename(1, LATER, "ghost")) is None
        assert tracker.tree.get_node(200) is None

    def test_a_uid_without_a_name_is_shown_as_a_number(self, tracker: Tracker) -> None:
        tracker.apply(replace(FORK, uid=4_294_967_294))
        assert info_of(tracker, CHILD).user == "4294967294"

    def test_a_change_of_user_at_exec_is_seen(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, replace(EXEC, uid=0))
        assert (info_of(tracker, CHILD).uid, info_of(tracker, CHILD).user) == (0, "root")

    def test_a_chain_holds_after_its_middle_has_exited(self, tracker: Tracker) -> None:
        grandchild = ProcessKey(300, 61 * S + 1)
        apply_all(
            tracker,
            FORK,
            EXEC,
            Fork(61 * S + 1, grandchild, CHILD, uid=1000, comm="ls"),
            EXIT,
            Exec(62 * S, grandchild, parent=INIT, comm="daemon", args_raw=b"daemon\0"),
        )
        assert (
            build_chain_string(tracker.tree, tracker.cache, 300)
            == "300|daemon|ada;200|ls|ada;100|bash|ada;1|init|root"
        )


class TestAges:
    def test_a_process_is_as_old_as_its_start_is_ago(self, tracker: Tracker) -> None:
        told = apply_all(tracker, FORK, EXEC, EXIT)
        assert [process_event and process_event.age_ns for process_event in told] == [
            None,
            None,
            S - 123,
        ]

    def test_the_time_for_which_a_command_was_held_does_not_count(self, tracker: Tracker) -> None:
        tracker.apply(FORK)
        tracker.note_release(CHILD, 60 * S + 1_000)
        told = apply_all(tracker, EXEC, EXIT)
        assert [process_event and process_event.age_ns for process_event in told] == [
            None,
            S - 1_000,
        ]

    def test_without_a_start_nobody_knows(self, tracker: Tracker) -> None:
        process_event = tracker.apply(replace(EXIT, key=ProcessKey(9)))
        assert process_event is not None
        assert process_event.age_ns is None


class TestIdentity:
    def test_a_later_start_proves_that_the_former_holder_has_ended(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, Fork(LATER.start_time_ns, LATER, INIT, comm="new"))
        assert node_of(tracker, CHILD).exited_ns is not None
        assert info_of(tracker, CHILD).exited_ns is not None
        assert node_of(tracker, 200).key == LATER
        assert tracker.stats.presumed_exits == 1

    @pytest.mark.parametrize(
        "event",
        [Exec(71 * S, LATER, comm="new"), Exit(71 * S, LATER, status=0)],
        ids=kind_of,
    )
    def test_so_does_any_event_of_a_later_process(self, tracker: Tracker, event: ProcEvent) -> None:
        apply_all(tracker, FORK, event)
        assert node_of(tracker, CHILD).exited_ns is not None
        assert info_of(tracker, LATER).args == ()

    def test_a_presumed_end_is_not_a_known_status(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, Fork(LATER.start_time_ns, LATER, INIT))
        assert info_of(tracker, CHILD).status is None

    def test_a_presumed_end_is_corrected_by_the_exit_itself(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, Fork(LATER.start_time_ns, LATER, INIT))
        assert tracker.apply(EXIT) is not None
        assert info_of(tracker, CHILD).exit_code == 3
        assert node_of(tracker, CHILD).exited_ns == 61 * S

    def test_an_earlier_start_ends_nobody(self, tracker: Tracker) -> None:
        apply_all(tracker, Fork(LATER.start_time_ns, LATER, INIT, comm="new"), FORK)
        assert node_of(tracker, LATER).exited_ns is None
        assert node_of(tracker, 200).key == LATER

    def test_a_reused_pid_does_not_inherit_from_its_former_holder(self, tracker: Tracker) -> None:
        apply_all(
            tracker,
            FORK,
            EXEC,
            Fork(65 * S, ProcessKey(300, 65 * S), CHILD, comm="ls"),
            EXIT,
            Fork(LATER.start_time_ns, LATER, INIT, comm="new"),
        )
        assert children(tracker.tree, LATER) == []
        assert children(tracker.tree, CHILD) == [300]
        assert node_of(tracker, LATER).creator == INIT

    def test_an_exact_sighting_upgrades_what_the_snapshot_read(self, tracker: Tracker) -> None:
        process_event = tracker.apply(Exec(61 * S, SHELL, comm="zsh"))
        assert process_event is not None
        assert process_event.node.start_time_ns == SHELL.start_time_ns
        assert node_of(tracker, 100).key == SHELL
        assert len(tracker.tree) == 2

    @pytest.mark.parametrize("event", [EXEC, EXIT], ids=kind_of)
    def test_a_tick_reading_never_downgrades_an_exact_one(
        self, tracker: Tracker, event: Exec | Exit
    ) -> None:
        apply_all(tracker, FORK)
        process_event = tracker.apply(replace(event, key=CHILD_TICK))
        assert process_event is not None
        assert node_of(tracker, 200).key == CHILD
        assert info_of(tracker, 200).key == CHILD
        assert (process_event.node.key, process_event.info.key) == (CHILD, CHILD)

    def test_an_event_without_a_start_time_is_about_the_living_process(
        self, tracker: Tracker
    ) -> None:
        apply_all(tracker, FORK, replace(EXEC, key=ProcessKey(200)))
        assert info_of(tracker, CHILD).cmd == "ls"
        assert node_of(tracker, 200).key == CHILD
        tracker.apply(replace(EXIT, key=ProcessKey(200)))
        assert node_of(tracker, CHILD).exited_ns == 61 * S

    def test_an_exec_after_the_end_is_of_another_process_if_no_start_time_says_otherwise(
        self, tracker: Tracker
    ) -> None:
        apply_all(tracker, FORK, EXEC, EXIT, Exec(80 * S, ProcessKey(200), comm="new"))
        assert info_of(tracker, CHILD).cmd == "ls"
        newest = node_of(tracker, 200)
        assert (newest.cmd, newest.exited_ns) == ("new", None)

    def test_events_without_start_times_make_two_lives_of_one_pid(self) -> None:
        tracker = Tracker(PidTree(), ProcCache())
        key, creator = ProcessKey(5), ProcessKey(4)
        apply_all(
            tracker,
            Fork(10, key, creator, comm="one"),
            Exit(20, key, status=0),
            Fork(30, key, creator, comm="two"),
        )
        node = node_of(tracker, 5)
        assert (node.cmd, node.exited_ns) == ("two", None)
        tracker.expire(20 + 601 * S)
        assert tracker.tree.get_node(5) == node
        assert tracker.tree.all_pids() == [5]


class TestForgetting:
    def test_time_moves_with_the_events(self) -> None:
        tracker = Tracker(PidTree(CacheParams(ttl_secs=5)), ProcCache(CacheParams(ttl_secs=5)))
        apply_all(tracker, FORK, EXIT)
        tracker.apply(Exec(EXIT.timestamp_ns + 4 * S, SHELL, comm="sh"))
        assert tracker.tree.get_node(CHILD) is not None
        tracker.apply(Exec(EXIT.timestamp_ns + 6 * S, SHELL, comm="sh"))
        assert tracker.tree.get_node(CHILD) is None
        assert tracker.cache.get_info(CHILD) is None
        assert tracker.stats.expired == 1

    def test_the_living_outlast_any_time(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        tracker.expire(10**9 * S)
        assert build_chain_string(tracker.tree, tracker.cache, 200) == (
            "200|ls|ada;100|bash|ada;1|init|root"
        )

    def test_the_user_of_the_dead_is_remembered_as_long_as_they_are(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, Fork(61 * S - 1, ProcessKey(300, 61 * S - 1), CHILD, comm="ls"))
        apply_all(tracker, EXIT)
        tracker.expire(EXIT.timestamp_ns + 601 * S)
        assert tracker.cache.get_info(CHILD) is None
        assert build_chain_string(tracker.tree, tracker.cache, 300) == (
            "300|ls|ada;200|ls|ada;100|bash|ada;1|init|root"
        )

    def test_so_is_that_of_one_that_is_met_when_it_is_long_dead(self, tracker: Tracker) -> None:
        now_ns = EXIT.timestamp_ns + 700 * S
        late = ProcessKey(300, 61 * S - 1)
        tracker.apply(AncestorAnnounced(now_ns, late, CHILD, "ls", 1000, 1000))
        tracker.apply(
            AncestorAnnounced(now_ns, CHILD, SHELL, "ls", 1000, 1000, exited_ns=EXIT.timestamp_ns)
        )
        assert build_chain_string(tracker.tree, tracker.cache, 300) == (
            "300|ls|ada;200|ls|ada;100|bash|ada;1|init|root"
        )

    def test_evictions_are_counted(self) -> None:
        tracker = Tracker(PidTree(CacheParams(capacity=1)), ProcCache(CacheParams(capacity=1)))
        apply_all(tracker, FORK, EXIT, Exec(62 * S, SHELL, comm="sh"))
        assert tracker.stats.evicted == 1
        assert tracker.tree.all_pids() == [100]

    def test_a_process_whose_details_are_lost_is_still_told(self) -> None:
        tracker = Tracker(PidTree(), ProcCache(CacheParams(capacity=1)))
        apply_all(tracker, Exec(59 * S, SHELL, comm="sh", uid=0), FORK)
        process_event = tracker.apply(EXIT)
        assert process_event is not None
        process_event = tracker.apply(Exit(62 * S, SHELL, status=0))
        assert process_event is not None
        assert (process_event.info.cmd, process_event.info.exit_code) == ("sh", 0)


class TestATtlOfNothing:
    def test_an_end_is_written_while_it_and_those_above_it_are_known(self) -> None:
        bounds = CacheParams(ttl_secs=0)
        tracker = Tracker(PidTree(bounds), ProcCache(bounds), USERS.get)
        tracker.merge_snapshot(SNAPSHOT)
        for pid in range(300, 310):  # whenever the tracker chooses to forget
            born_ns = pid * 3 * S
            child = ProcessKey(pid, born_ns)
            tracker.apply(Fork(born_ns, child, SHELL, comm="x"))
            tracker.apply(Exit(born_ns + 2 * S, child, status=0))
            chain = build_chain_string(tracker.tree, tracker.cache, child)
            assert chain == f"{child.pid}|x|ada;100|bash|ada;1|init|root"
        assert len(tracker.tree) <= 2 + len(SNAPSHOT)
