"""What a loss takes away from what is certain, from whom, and what is certain again later."""

from __future__ import annotations

import pytest

from proctree_bpf.core.events import Exec, Exit, Fork, Gap, Rename
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import Answer, ancestry
from proctree_bpf.core.snapshot_merger import InFlight
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from support.sample_events import S, entry, node_of

ROOT = ProcessKey(1, S)
SHELL = ProcessKey(100, 50 * S + 7)
CHILD = ProcessKey(200, 60 * S + 123)


@pytest.fixture
def tracker() -> Tracker:
    """Return a tracker that saw a shell being made, so that "no" can be said of it."""
    tracker = Tracker(PidTree(), ProcCache())
    tracker.apply(Fork(S, ROOT, ProcessKey(0), comm="init"))
    tracker.apply(Fork(SHELL.start_time_ns, SHELL, ROOT, comm="init"))
    tracker.apply(Exec(51 * S, SHELL, comm="bash", args_raw=b"bash\0"))
    return tracker


def fork(key: ProcessKey = CHILD) -> Fork:
    return Fork(key.start_time_ns, key, SHELL, comm="bash")


def lost(kind: str | None, from_ns: int, until_ns: int) -> Gap:
    return Gap(until_ns, "test", 1, kind, 0, from_ns, until_ns)


def mend(tracker: Tracker, *entries: object, begun_ns: int = 80 * S) -> None:
    shown = [entry(ROOT, ProcessKey(0), "init"), entry(SHELL, ROOT, "bash"), *entries]
    tracker.reconcile(shown, begun_ns, begun_ns + S)  # type: ignore[arg-type]


class TestAnExecThatWasLost:
    @pytest.mark.parametrize("kind", ["exec", "rename", None])
    def test_may_be_of_one_whose_fork_is_applied_only_after_the_loss_is_known(
        self, tracker: Tracker, kind: str | None
    ) -> None:
        tracker.note_gap(lost(kind, 60 * S, 70 * S))
        tracker.apply(fork())  # it waited for the watermark
        mend(tracker)  # its exit was lost, too
        assert node_of(tracker, CHILD).exited_ns is not None
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.UNKNOWN

    def test_may_be_one_after_an_exec_that_is_applied_only_then(self, tracker: Tracker) -> None:
        tracker.note_gap(lost("exec", 60 * S, 70 * S))
        tracker.apply(fork())
        tracker.apply(Exec(61 * S, CHILD, comm="sh"))
        mend(tracker)
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.UNKNOWN

    def test_was_not_after_a_name_that_was_taken_when_the_gap_was_over(
        self, tracker: Tracker
    ) -> None:
        tracker.note_gap(lost("exec", 60 * S, 70 * S))
        tracker.apply(fork())
        tracker.apply(Exec(70 * S, CHILD, comm="sh"))
        assert not node_of(tracker, CHILD).name_uncertain
        assert node_of(tracker, SHELL).name_uncertain

    def test_was_not_of_one_that_was_born_later(self, tracker: Tracker) -> None:
        tracker.note_gap(lost("exec", 60 * S, 70 * S))
        late = ProcessKey(300, 71 * S)
        tracker.apply(fork(late))
        mend(tracker)
        assert ancestry(tracker.tree, late, "evil") is Answer.NO

    def test_was_not_of_one_that_had_ended_before(self, tracker: Tracker) -> None:
        tracker.apply(fork())
        tracker.note_gap(lost("exec", 62 * S, 70 * S))
        tracker.apply(Exit(61 * S, CHILD, status=0))  # it waited for the watermark
        mend(tracker)
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.NO

    def test_can_have_been_of_one_that_ended_within_the_gap(self, tracker: Tracker) -> None:
        tracker.apply(fork())
        tracker.note_gap(lost("exec", 62 * S, 70 * S))
        tracker.apply(Exit(63 * S, CHILD, status=0))
        mend(tracker)
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.UNKNOWN

    def test_shows_in_the_name_that_an_exit_tells(self, tracker: Tracker) -> None:
        tracker.apply(fork())
        tracker.note_gap(lost("exec", 62 * S, 70 * S))
        tracker.apply(Exit(63 * S, CHILD, status=0, comm="evil"))
        mend(tracker)
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.YES
        assert ancestry(tracker.tree, CHILD, "other") is Answer.NO

    def test_may_have_taken_away_the_name_that_is_known(self, tracker: Tracker) -> None:
        assert ancestry(tracker.tree, SHELL, "bash") is Answer.YES
        tracker.note_gap(lost("exec", 60 * S, 70 * S))
        assert ancestry(tracker.tree, SHELL, "bash") is Answer.UNKNOWN
        assert ancestry(tracker.tree, SHELL, "init") is Answer.UNKNOWN
        mend(tracker)
        assert ancestry(tracker.tree, SHELL, "bash") is Answer.YES


class TestALossThatIsFoundAfterTheLook:
    """``/proc`` was read, and before that is taken in, more is known to be lost."""

    def test_leaves_in_doubt_what_was_read_before_it(self, tracker: Tracker) -> None:
        tracker.apply(fork())
        tracker.note_gap(lost("exec", 60 * S, 70 * S))
        tracker.note_gap(lost("exec", 82 * S, 83 * S))
        mend(tracker, entry(CHILD, SHELL, "sh"), begun_ns=80 * S)
        assert node_of(tracker, CHILD).name_uncertain
        mend(tracker, begun_ns=84 * S)  # its exit was lost, too
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.UNKNOWN

    def test_casts_doubt_on_it_also_once_it_was_taken_in(self, tracker: Tracker) -> None:
        tracker.note_gap(lost("exec", 60 * S, 70 * S))
        mend(tracker, entry(CHILD, SHELL, "sh"), begun_ns=80 * S)
        assert not node_of(tracker, CHILD).name_uncertain
        tracker.note_gap(lost("exec", 82 * S, 83 * S))
        assert node_of(tracker, CHILD).name_uncertain

    def test_and_what_waits_for_the_watermark_meanwhile_is_in_doubt(self, tracker: Tracker) -> None:
        tracker.note_gap(lost("exec", 60 * S, 90 * S))
        mend(tracker, begun_ns=80 * S)
        late = ProcessKey(300, 81 * S)
        tracker.apply(fork(late))
        assert node_of(tracker, late).name_uncertain


class TestAPidThatWasHadAgainMeanwhile:
    """An entry of ``/proc`` names its parent by PID alone if that had ended during the look."""

    SECOND = ProcessKey(CHILD.pid, 72 * S)  # its fork, and the end of CHILD before it, were lost
    ORPHAN = ProcessKey(300, 73 * S)

    @pytest.fixture
    def mended(self, tracker: Tracker) -> Tracker:
        tracker.apply(fork())
        tracker.note_gap(lost(None, 61 * S, 75 * S))
        mend(tracker, entry(self.ORPHAN, ProcessKey(CHILD.pid), "bash"))
        return tracker

    def test_does_not_make_a_creator_of_who_had_it_before(self, mended: Tracker) -> None:
        assert node_of(mended, CHILD).exited_ns is not None
        assert mended.table.children(CHILD) == []
        assert ancestry(mended.tree, self.ORPHAN, "bash") is Answer.YES, "its own name"
        assert ancestry(mended.tree, self.ORPHAN, "init") is Answer.UNKNOWN

    def test_and_who_had_it_then_is_the_creator_once_its_end_is_told(self, mended: Tracker) -> None:
        mended.apply(Exit(81 * S, self.SECOND, SHELL, status=0, comm="bash"))
        assert [born.pid for born in mended.table.children(self.SECOND)] == [self.ORPHAN.pid]
        mended.table.check_invariants()

    def test_but_one_known_to_have_lived_all_the_time_is(self, tracker: Tracker) -> None:
        tracker.apply(fork())
        tracker.note_gap(lost("fork", 61 * S, 75 * S))
        in_flight = InFlight([Exit(81 * S, CHILD, SHELL, status=0)])
        shown = [entry(ROOT, ProcessKey(0), "init"), entry(SHELL, ROOT, "bash")]
        orphan = entry(self.ORPHAN, ProcessKey(CHILD.pid), "bash")
        tracker.reconcile([*shown, orphan], 80 * S, 82 * S, in_flight)
        assert tracker.table.children(CHILD) == []
        tracker.apply(Exit(81 * S, CHILD, SHELL, status=0))
        assert [born.pid for born in tracker.table.children(CHILD)] == [self.ORPHAN.pid]


class TestANewNameThatIsTheOldOne:
    def test_is_certain_again(self, tracker: Tracker) -> None:
        tracker.note_gap(lost("rename", 60 * S, 70 * S))
        tracker.apply(Rename(71 * S, SHELL, "bash"))
        assert ancestry(tracker.tree, SHELL, "bash") is Answer.YES
        assert ancestry(tracker.tree, SHELL, "evil") is Answer.UNKNOWN, "init may be"


class TestOneOfWhomOnlyTheEndWasTold:
    """As the proc connector tells it: without a name, and without a parent."""

    def test_may_have_been_anything_below_anybody(self, tracker: Tracker) -> None:
        tracker.note_gap(lost("fork", 60 * S, 70 * S))
        tracker.apply(Exit(71 * S, CHILD, status=0))
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.UNKNOWN

    def test_has_the_parent_that_proc_shows_if_it_was_an_exec(self, tracker: Tracker) -> None:
        tracker.note_gap(lost("fork", 60 * S, 70 * S))
        tracker.apply(Exec(71 * S, CHILD, comm="ls"))
        assert node_of(tracker, CHILD).ppid == 0
        mend(tracker, entry(CHILD, SHELL, "ls"))
        node = node_of(tracker, CHILD)
        assert (node.ppid, node.fork_missed) == (SHELL.pid, True)
        assert ancestry(tracker.tree, CHILD, "evil") is Answer.UNKNOWN

    def test_has_children_whose_name_nobody_knows(self, tracker: Tracker) -> None:
        tracker.apply(Fork(71 * S, ProcessKey(300, 71 * S), CHILD))
        assert node_of(tracker, 300).name_uncertain


def test_a_name_is_in_doubt_too_if_its_owner_is_presumed_to_have_ended_before_the_loss_is_told(
    tracker: Tracker,
) -> None:
    child = ProcessKey(300, 62 * S + 7)
    tracker.apply(fork())  # its exec is lost at 61 s, and its end at 63 s
    tracker.apply(Fork(child.start_time_ns, child, CHILD, comm="evil"))
    tracker.apply(Exec(62 * S + 9, child, comm="ls"))
    again = ProcessKey(CHILD.pid, 64 * S + 7)
    tracker.apply(Fork(again.start_time_ns, again, ROOT, comm="init"))
    tracker.note_gap(lost(None, 60 * S, 65 * S))
    mend(tracker, entry(again, ROOT, "init"), entry(child, ROOT, "ls"))
    assert ancestry(tracker.tree, child, "evil") is Answer.UNKNOWN


def test_a_parent_whose_end_is_still_to_be_told_is_the_parent_until_then(tracker: Tracker) -> None:
    tracker.apply(fork())
    tracker.note_gap(lost("exec", 69 * S, 70 * S))
    renamed = Rename(80 * S + 1, CHILD, "worker")
    end = Exit(80 * S + 2, SHELL, ROOT, 0, reaper=ROOT)
    shown = [entry(ROOT, ProcessKey(0), "init"), entry(SHELL, ROOT, "bash")]
    shown.append(entry(CHILD, ROOT, "worker"))  # read when both had happened
    tracker.reconcile(shown, 80 * S, 81 * S, InFlight([renamed, end]))
    told = tracker.apply(renamed)
    assert told is not None
    assert told.node.kernel_parent == SHELL
    tracker.apply(end)
    assert node_of(tracker, CHILD).kernel_parent == ROOT
