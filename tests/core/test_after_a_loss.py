"""What a loss takes away from what is certain, from whom, and what is certain again later."""

from __future__ import annotations

import pytest

from proctree_bpf.core.events import Exec, Exit, Fork, Gap
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import Answer, ancestry
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
