"""What a look at /proc adds to what events have told, and what it leaves alone."""

from __future__ import annotations

import pytest

from proctree_bpf.core.events import AncestorAnnounced, Exec, Fork, Gap, ProcEvent, Rename
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.model import Edge, PidNode, ProcInfo
from proctree_bpf.core.snapshot_merger import InFlight
from proctree_bpf.core.stores import PidTree, ProcCache
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
    S,
    apply_all,
    entry,
    info_of,
    node_of,
    state,
)
from support.values import replace


class TestTheSnapshot:
    def test_it_adds_what_the_stream_has_not_told(self) -> None:
        tracker = Tracker(PidTree(), ProcCache())
        assert tracker.merge_snapshot(SNAPSHOT) == 2
        assert tracker.tree.all_pids() == [1, 100]
        assert node_of(tracker, 100).edge is Edge.OBSERVED

    def test_taken_twice_it_adds_nothing(self, tracker: Tracker) -> None:
        before = state(tracker)
        assert tracker.merge_snapshot(SNAPSHOT) == 0
        assert state(tracker) == before

    def test_it_never_overwrites_the_stream(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        before = state(tracker)
        assert tracker.merge_snapshot([entry(CHILD, INIT, "stale")]) == 0
        assert state(tracker) == before

    def test_it_never_overwrites_a_stream_without_start_times(self) -> None:
        tracker = Tracker(PidTree(), ProcCache())
        apply_all(
            tracker,
            Fork(10, ProcessKey(200), ProcessKey(100), comm="bash"),
            Exec(11, ProcessKey(200), comm="ls", args_raw=b"ls\0"),
        )
        tracker.merge_snapshot([entry(CHILD, INIT, "stale")])
        node, info = node_of(tracker, 200), info_of(tracker, 200)
        assert (node.ppid, node.edge, node.cmd) == (100, Edge.CREATED, "ls")
        assert info.args == ("ls",)

    def test_it_does_not_bring_back_what_the_stream_saw_ending(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXIT)
        tracker.merge_snapshot([entry(CHILD, SHELL, "ls")])
        assert node_of(tracker, CHILD).exited_ns == 61 * S

    def test_a_later_process_in_it_proves_that_the_former_holder_has_ended(
        self, tracker: Tracker
    ) -> None:
        apply_all(tracker, FORK, EXEC)
        tracker.merge_snapshot([entry(LATER, INIT, "new")])
        assert node_of(tracker, 200).cmd == "new"
        assert node_of(tracker, CHILD).exited_ns is not None
        assert info_of(tracker, CHILD).exited_ns is not None

    def test_a_fork_replayed_after_it_makes_the_edge_certain(self, tracker: Tracker) -> None:
        tracker.merge_snapshot([entry(CHILD, INIT, "ls")])
        tracker.apply(FORK)
        node = node_of(tracker, CHILD)
        assert (node.creator, node.edge) == (SHELL, Edge.CREATED)
        assert len(tracker.tree) == 3

    def test_a_fork_and_exec_replayed_after_it_end_with_the_exec(self, tracker: Tracker) -> None:
        tracker.merge_snapshot([entry(CHILD, SHELL, "ls")], InFlight([EXEC]))
        apply_all(tracker, FORK, EXEC)
        info = info_of(tracker, CHILD)
        assert (info.args, info.inherited) == (("ls", "-l"), False)

    def test_what_it_read_after_a_pending_exec_is_not_given_to_earlier_children(
        self, tracker: Tracker
    ) -> None:
        parent = entry(CHILD, SHELL, "ls", args_raw=b"ls\0-l\0")
        tracker.merge_snapshot([parent], InFlight([EXEC]))
        grandchild = ProcessKey(300, 60 * S + 500)
        tracker.apply(Fork(grandchild.start_time_ns, grandchild, CHILD, comm="bash"))
        info = info_of(tracker, grandchild)
        assert (info.args_raw, info.executable) == (None, None)

    def test_it_fills_a_cache_that_a_full_tree_left_empty(self) -> None:
        tree = PidTree()
        Tracker(tree, ProcCache()).merge_snapshot(SNAPSHOT)
        fresh = Tracker(tree, ProcCache())
        fresh.merge_snapshot(SNAPSHOT)
        assert info_of(fresh, 100).user == "ada"


class TestRepairAfterAGap:
    NOW = 90 * S
    BEGUN = 89 * S

    def reconcile(self, tracker: Tracker, *entries: tuple[PidNode, ProcInfo]) -> None:
        tracker.uncertain = True
        tracker.reconcile([*SNAPSHOT, *entries], self.BEGUN, self.NOW)

    def test_what_is_applied_during_a_gap_is_marked_uncertain(self, tracker: Tracker) -> None:
        tracker.uncertain = True
        process_event = tracker.apply(FORK)
        assert process_event is not None
        assert process_event.uncertain

    def test_the_repair_ends_the_uncertainty(self, tracker: Tracker) -> None:
        self.reconcile(tracker)
        process_event = tracker.apply(FORK)
        assert process_event is not None
        assert not process_event.uncertain

    def test_a_process_whose_fork_was_lost_is_added(self, tracker: Tracker) -> None:
        self.reconcile(tracker, entry(CHILD, SHELL, "ls"))
        assert node_of(tracker, CHILD).cmd == "ls"

    def test_a_process_whose_exit_was_lost_has_ended(self, tracker: Tracker) -> None:
        tracker.apply(FORK)
        self.reconcile(tracker)
        assert node_of(tracker, CHILD).exited_ns == self.NOW
        assert info_of(tracker, CHILD).exited_ns == self.NOW
        assert info_of(tracker, CHILD).status is None
        assert tracker.stats.presumed_exits == 1

    def test_a_process_whose_exec_was_lost_gets_its_name(self, tracker: Tracker) -> None:
        tracker.apply(FORK)
        self.reconcile(tracker, entry(CHILD, SHELL, "ls", args_raw=b"ls\0"))
        node, info = node_of(tracker, CHILD), info_of(tracker, CHILD)
        assert (node.cmd, info.args, info.inherited) == ("ls", ("ls",), False)
        assert (node.creator, node.edge, node.key) == (SHELL, Edge.CREATED, CHILD)

    def test_a_process_born_after_the_look_began_has_not_ended(self, tracker: Tracker) -> None:
        young = ProcessKey(300, self.BEGUN + 1)
        tracker.apply(Fork(young.start_time_ns, young, SHELL))
        self.reconcile(tracker)
        assert node_of(tracker, young).exited_ns is None

    def test_a_process_that_was_seen_again_still_lives(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        self.reconcile(tracker, entry(CHILD, SHELL, "ls"))
        assert node_of(tracker, CHILD).exited_ns is None
        assert tracker.stats.presumed_exits == 0

    def test_a_pid_that_was_reused_during_the_gap_is_two_processes(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        self.reconcile(tracker, entry(LATER, INIT, "new"))
        assert node_of(tracker, CHILD).exited_ns is not None
        assert (node_of(tracker, 200).cmd, node_of(tracker, 200).exited_ns) == ("new", None)

    def test_an_ended_process_is_left_as_it_was(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC, EXIT)
        before = info_of(tracker, CHILD)
        self.reconcile(tracker)
        assert info_of(tracker, CHILD) == before

    def test_what_did_not_change_is_left_as_it_was(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK, EXEC)
        before = state(tracker)
        self.reconcile(tracker, entry(CHILD, SHELL, "ls", args_raw=b"ls\0-l\0"))
        assert state(tracker) == before

    def test_an_orphan_keeps_its_creator_beside_whoever_adopted_it(self, tracker: Tracker) -> None:
        apply_all(tracker, FORK)
        self.reconcile(tracker, entry(CHILD, INIT, "ls"))
        node = node_of(tracker, CHILD)
        assert node.creator == SHELL
        assert node.kernel_parent.pid == 1

    def test_a_change_of_user_keeps_the_rest(self, tracker: Tracker) -> None:
        apply_all(tracker, replace(FORK, cgroup_id=77), EXEC)
        self.reconcile(
            tracker,
            entry(CHILD, SHELL, "ls", uid=1001, user="bob", args_raw=b"ls\0-l\0"),
        )
        info = info_of(tracker, CHILD)
        assert (info.uid, info.user) == (1001, "bob")
        assert (info.exec_ns, info.cgroup_id) == (EXEC.timestamp_ns, 77)

    def test_learning_the_path_of_an_inherited_program_is_no_exec(self, tracker: Tracker) -> None:
        nameless = replace(SNAPSHOT[1][1], executable=None)
        tracker.cache.insert_info(100, nameless)
        tracker.apply(FORK)
        assert info_of(tracker, CHILD).executable is None
        self.reconcile(tracker, entry(CHILD, SHELL, "bash", args_raw=b"-bash\0"))
        assert info_of(tracker, CHILD).inherited


class TestWhatTheKernelHasNoted:
    """A filter in the kernel tells who created whom, also of what it had left out."""

    @pytest.fixture
    def orphan(self, tracker: Tracker) -> Tracker:
        tracker.merge_snapshot([entry(CHILD, INIT, "ls")])
        assert node_of(tracker, CHILD).edge is Edge.OBSERVED
        return tracker

    def met(self, creator: ProcessKey) -> AncestorAnnounced:
        return AncestorAnnounced(62 * S, CHILD, creator, "ls", 1000, 1000)

    def look(self, creator: ProcessKey) -> list[tuple[PidNode, ProcInfo]]:
        node, info = entry(CHILD, INIT, "ls")
        start_ns = creator.start_time_ns
        node = replace(node, ppid=creator.pid, creator_start_ns=start_ns, edge=Edge.LEARNT)
        return [*SNAPSHOT, (node, replace(info, ppid=creator.pid))]

    def is_of_the_shell(self, tracker: Tracker) -> bool:
        node, info = node_of(tracker, CHILD), info_of(tracker, CHILD)
        assert node.edge is Edge.LEARNT
        return (node.creator, node.kernel_parent, info.ppid) == (SHELL, INIT, SHELL.pid)

    def test_a_creator_that_is_met_replaces_a_parent_that_was_seen(self, orphan: Tracker) -> None:
        orphan.apply(self.met(SHELL))
        assert self.is_of_the_shell(orphan)

    def test_so_does_one_that_a_look_brings(self, orphan: Tracker) -> None:
        orphan.reconcile(self.look(SHELL), 62 * S, 63 * S)
        assert self.is_of_the_shell(orphan)

    def test_it_does_so_where_an_exec_was_the_first_that_was_heard(self, tracker: Tracker) -> None:
        tracker.apply(replace(EXEC, parent=INIT))
        tracker.merge_snapshot(self.look(SHELL))
        assert self.is_of_the_shell(tracker)
        assert info_of(tracker, CHILD).args == ("ls", "-l")

    def test_the_same_parent_again_is_not_more_certain(self, orphan: Tracker) -> None:
        """The kernel may have it from us."""
        orphan.apply(self.met(INIT))
        orphan.merge_snapshot(self.look(INIT))
        assert node_of(orphan, CHILD).edge is Edge.OBSERVED

    def test_what_was_not_noted_stays_as_it_is_known(self, orphan: Tracker) -> None:
        orphan.apply(replace(self.met(SHELL), comm=None, uid=None, gid=None))
        info = info_of(orphan, CHILD)
        assert (info.cmd, info.uid, info.user) == ("ls", 1000, "ada")

    def test_a_name_that_is_still_to_come_is_not_taken_from_a_look(self, orphan: Tracker) -> None:
        look = self.look(SHELL)
        look[-1] = (replace(look[-1][0], cmd="new"), replace(look[-1][1], cmd="new", uid=1001))
        orphan.reconcile(look, 62 * S, 63 * S, InFlight([Rename(62 * S, CHILD, "new")]))
        info = info_of(orphan, CHILD)
        assert (info.cmd, info.uid) == ("ls", 1001)
        orphan.apply(Rename(62 * S, CHILD, "new"))
        assert info_of(orphan, CHILD).cmd == "new"

    @pytest.mark.parametrize("event", [EXEC, Rename(62 * S, CHILD, "ls")])
    def test_who_was_left_out_had_its_creators_name_until_then(
        self, tracker: Tracker, event: ProcEvent
    ) -> None:
        tracker.reconcile(self.look(SHELL), 62 * S, 63 * S, InFlight([event]))
        assert (node_of(tracker, CHILD).cmd, info_of(tracker, CHILD).cmd) == ("bash", "bash")
        assert node_of(tracker, CHILD).name_uncertain

    def test_a_creator_that_was_seen_to_fork_stays(self, tracker: Tracker) -> None:
        tracker.apply(FORK)
        tracker.apply(self.met(INIT))
        tracker.merge_snapshot(self.look(INIT))
        assert node_of(tracker, CHILD).creator == SHELL
        assert node_of(tracker, CHILD).edge is Edge.CREATED


def test_one_that_is_ending_keeps_what_it_ran_though_proc_no_longer_tells(
    tracker: Tracker,
) -> None:
    tracker.apply(FORK)
    tracker.apply(EXEC)
    ending = entry(CHILD_TICK, SHELL, "ls", args_raw=None, executable=None)
    tracker.reconcile([*SNAPSHOT, ending], 62 * S, 62 * S)
    info = info_of(tracker, CHILD)
    assert (info.args, info.executable) == (("ls", "-l"), "/usr/bin/ls")


def test_after_an_exec_that_may_be_lost_it_does_not(tracker: Tracker) -> None:
    apply_all(tracker, FORK, EXEC)
    tracker.note_gap(Gap(62 * S, "test", 1, "exec", from_ns=61 * S, until_ns=62 * S))
    ending = entry(CHILD_TICK, SHELL, "ls", args_raw=None, executable=None)
    tracker.reconcile([*SNAPSHOT, ending], 63 * S, 63 * S)
    info = info_of(tracker, CHILD)
    assert (info.args_raw, info.executable) == (None, None)
