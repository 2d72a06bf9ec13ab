"""What the tree knows of those of whom a filter in the kernel leaves something out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proctree_bpf.core.events import AncestorAnnounced, Rename
from proctree_bpf.core.lineage import Answer, ancestry
from proctree_bpf.core.model import Edge
from proctree_bpf.core.snapshot_merger import InFlight, Unreported
from proctree_bpf.core.tracker import Tracker
from support.sample_events import (
    CHILD,
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

if TYPE_CHECKING:
    from proctree_bpf.core.model import PidNode, ProcInfo


def ended_at(time_ns: int, node: PidNode, info: ProcInfo) -> tuple[PidNode, ProcInfo]:
    return replace(node, exited_ns=time_ns), replace(info, exited_ns=time_ns)


class TestALookAfterTheKernelHasLeftOutSome:
    """``unreported`` says of whom; what was told of the others stays, whatever is there now."""

    @pytest.fixture
    def look(self, tracker: Tracker) -> list[tuple[PidNode, ProcInfo]]:
        apply_all(tracker, FORK, EXEC)
        node, info = entry(CHILD, SHELL, "now", args_raw=b"title\0")
        node = replace(node, start_time_ns=CHILD.start_time_ns)  # as noted
        return [*SNAPSHOT, (node, replace(info, uid=1001, gid=1001, user="bob", inherited=True))]

    def test_nothing_is_taken_where_nothing_was_left_out(
        self, tracker: Tracker, look: list[tuple[PidNode, ProcInfo]]
    ) -> None:
        before = state(tracker)
        tracker.reconcile(look, 62 * S, 63 * S, unreported={})
        assert state(tracker) == before

    def test_a_name_alone_is_taken_where_there_was_no_exec(
        self, tracker: Tracker, look: list[tuple[PidNode, ProcInfo]]
    ) -> None:
        before = info_of(tracker, CHILD)
        tracker.reconcile(look, 62 * S, 63 * S, unreported={CHILD: Unreported.NAME})
        assert info_of(tracker, CHILD) == replace(before, cmd="now")

    def test_all_is_taken_where_an_exec_was_left_out(
        self, tracker: Tracker, look: list[tuple[PidNode, ProcInfo]]
    ) -> None:
        tracker.reconcile(look, 62 * S, 63 * S, unreported={CHILD: Unreported.EXEC})
        info = info_of(tracker, CHILD)
        assert (info.cmd, info.args, info.user, info.inherited) == ("now", ("title",), "bob", True)

    @pytest.mark.parametrize("in_flight", [InFlight(), InFlight([EXEC])])
    def test_what_it_ran_before_is_not_told_if_nobody_can_tell_what_it_runs(
        self,
        tracker: Tracker,
        look: list[tuple[PidNode, ProcInfo]],
        in_flight: InFlight,
    ) -> None:
        node, info = look[-1]
        ending = (node, replace(info, args_raw=None, executable=None, inherited=False))
        left_out = {CHILD: Unreported.EXEC}
        tracker.reconcile([*SNAPSHOT, ending], 62 * S, 63 * S, in_flight, unreported=left_out)
        info = info_of(tracker, CHILD)
        assert (info.args_raw, info.executable, info.inherited) == (None, None, False)

    @pytest.mark.parametrize("in_flight", [InFlight(), InFlight([EXIT])])
    def test_nor_is_it_of_one_that_has_ended(
        self,
        tracker: Tracker,
        look: list[tuple[PidNode, ProcInfo]],
        in_flight: InFlight,
    ) -> None:
        ended = ended_at(61 * S, *look[-1])
        left_out = {CHILD: Unreported.EXEC}
        tracker.reconcile(
            [*SNAPSHOT, ended], 62 * S, 63 * S, in_flight, unreported={}, ends=left_out
        )
        info = info_of(tracker, CHILD)
        assert (info.args_raw, info.executable, info.inherited) == (None, None, False)

    def test_one_that_has_ended_is_known_as_it_was_then(
        self, tracker: Tracker, look: list[tuple[PidNode, ProcInfo]]
    ) -> None:
        ended = ended_at(61 * S, *look[-1])
        tracker.reconcile(
            [*SNAPSHOT, ended], 62 * S, 63 * S, unreported={}, ends={CHILD: Unreported.NAME}
        )
        assert (node_of(tracker, CHILD).cmd, node_of(tracker, CHILD).exited_ns) == ("now", 61 * S)
        assert (info_of(tracker, CHILD).user, info_of(tracker, CHILD).args) == ("bob", ("ls", "-l"))

    def test_one_whose_end_is_still_to_come_lives_until_then(self, tracker: Tracker) -> None:
        """A filter is asked about it then, and must know those above it as they were."""
        node, info = entry(CHILD, SHELL, "at its end")
        ended = (replace(node, exited_ns=61 * S, edge=Edge.LEARNT), replace(info, exited_ns=61 * S))
        in_flight = InFlight([EXIT, Rename(61 * S, node.key, "at its end")])
        end = {node.key: Unreported.NAME}
        tracker.reconcile([*SNAPSHOT, ended], 62 * S, 63 * S, in_flight, unreported={}, ends=end)
        known = node_of(tracker, CHILD)
        assert (known.exited_ns, known.cmd, known.name_uncertain) == (None, "bash", True)
        assert tracker.apply(EXIT) is not None
        assert node_of(tracker, CHILD).exited_ns == 61 * S

    def test_its_last_name_is_not_the_one_from_before_if_its_creator_is_not_known(self) -> None:
        tracker = Tracker()
        node, info = entry(CHILD, SHELL, "at its end")
        look = [(replace(node, edge=Edge.LEARNT, exited_ns=61 * S), info)]
        in_flight = InFlight([Rename(61 * S, node.key, "at its end")])
        tracker.merge_snapshot(look, in_flight)
        assert (node_of(tracker, CHILD).cmd, node_of(tracker, CHILD).name_uncertain) == ("", True)

    def test_so_is_one_whose_pid_has_been_had_again(
        self, tracker: Tracker, look: list[tuple[PidNode, ProcInfo]]
    ) -> None:
        ended = ended_at(61 * S, *look[-1])
        entries = [*SNAPSHOT, entry(LATER, INIT, "later"), ended]
        tracker.reconcile(entries, 72 * S, 73 * S, unreported={}, ends={CHILD: Unreported.NAME})
        assert (node_of(tracker, CHILD).cmd, info_of(tracker, CHILD).user) == ("now", "bob")
        assert node_of(tracker, 200).cmd == "later"

    def test_an_end_that_was_told_or_is_still_to_come_is_not_taken_from_the_notes(
        self, tracker: Tracker, look: list[tuple[PidNode, ProcInfo]]
    ) -> None:
        ended = ended_at(61 * S, *look[-1])
        tracker.reconcile(
            [*SNAPSHOT, ended],
            62 * S,
            63 * S,
            InFlight([EXIT]),
            unreported={},
            ends={CHILD: Unreported.NAME},
        )
        assert node_of(tracker, CHILD).cmd == "ls"
        assert tracker.apply(EXIT) is not None
        tracker.reconcile(
            [*SNAPSHOT, ended], 64 * S, 65 * S, unreported={}, ends={CHILD: Unreported.NAME}
        )
        assert node_of(tracker, CHILD).cmd == "ls"


class TestNamesOfWhomNothingIsTold:
    """A filter in the kernel leaves out what they do."""

    @pytest.fixture
    def left_out(self, tracker: Tracker) -> Tracker:
        apply_all(tracker, FORK, EXEC)
        process = tracker.table.get(CHILD)
        assert process is not None
        tracker.doubt_names_of([process])
        assert ancestry(tracker.tree, CHILD, "ls") is Answer.UNKNOWN
        return tracker

    def test_are_sure_again_if_it_is_announced(self, left_out: Tracker) -> None:
        left_out.apply(AncestorAnnounced(62 * S, CHILD, SHELL, None))
        assert ancestry(left_out.tree, CHILD, "ls") is Answer.YES

    def test_are_sure_again_after_a_look_if_nothing_was_left_out(self, left_out: Tracker) -> None:
        left_out.reconcile([*SNAPSHOT, entry(CHILD, SHELL, "x")], 62 * S, 63 * S, unreported={})
        assert ancestry(left_out.tree, CHILD, "ls") is Answer.YES

    def test_are_those_of_the_look_if_something_was(self, left_out: Tracker) -> None:
        name = {CHILD: Unreported.NAME}
        node, info = entry(CHILD, SHELL, "x")
        look = [*SNAPSHOT, (replace(node, start_time_ns=CHILD.start_time_ns), info)]
        left_out.reconcile(look, 62 * S, 63 * S, unreported=name)
        assert ancestry(left_out.tree, CHILD, "ls") is not Answer.YES
        assert ancestry(left_out.tree, CHILD, "x") is Answer.YES
