"""What a filter still says, and what no more, of those who lived when something was lost."""

from __future__ import annotations

import pytest

from proctree_bpf.core.events import Exec, Fork, Gap
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter
from support.sample_events import S, entry

ROOT = ProcessKey(1, S)
SSHD = ProcessKey(100, 2 * S + 7)
LOST_NS = 11 * S


class World:
    """A machine with an sshd, of which a filter is asked."""

    def __init__(self, terms: str) -> None:
        self.tracker = Tracker(PidTree(), ProcCache())
        self.tracker.apply(Fork(S, ROOT, ProcessKey(0), comm="init"))
        self.tracker.apply(Fork(SSHD.start_time_ns, SSHD, ROOT, comm="init"))
        self.filter = BoundFilter(Filter.parse(terms), self.tracker.tree, self.tracker.cache)
        self.filter.survey()
        self.admits_exec(3 * S, SSHD, "sshd")

    def admits_fork(
        self, pid: int, time_ns: int, *, comm: str | None = "sshd", observed: bool = False
    ) -> bool:
        event = Fork(time_ns, ProcessKey(pid, time_ns), SSHD, comm=comm, observed=observed)
        told = self.tracker.apply(event)
        assert told is not None
        return self.filter.admits(told)

    def admits_exec(self, time_ns: int, key: ProcessKey, comm: str) -> bool:
        told = self.tracker.apply(Exec(time_ns, key, comm=comm, args_raw=b"x\0"))
        assert told is not None
        return self.filter.admits(told)

    def lose(self, until_ns: int, kind: str | None = "exec") -> None:
        self.tracker.note_gap(Gap(until_ns, "test", 1, kind, 0, until_ns - 5, until_ns))

    def mend(self, begun_ns: int, *others: object) -> None:
        shown = [entry(ROOT, ProcessKey(0), "init"), entry(SSHD, ROOT, "sshd"), *others]
        self.tracker.reconcile(shown, begun_ns, begun_ns + S // 10)  # type: ignore[arg-type]
        self.filter.survey()


def test_a_name_in_doubt_says_nothing_of_the_other_names_that_are_asked_for() -> None:
    world = World("ancestor=sshd not-ancestor=cron")
    world.lose(LOST_NS)
    world.lose(LOST_NS + S)  # while /proc was read for the first: all of that is in doubt
    world.mend(LOST_NS + S // 2)
    world.mend(LOST_NS + 2 * S)
    assert world.admits_fork(300, 20 * S)


def test_who_is_born_between_a_loss_and_its_mending_may_be_wanted_later() -> None:
    world = World("ancestor=sshd not-ancestor=cron")
    world.lose(LOST_NS)
    born = ProcessKey(300, LOST_NS + S)
    world.admits_fork(born.pid, born.start_time_ns, comm=None)  # as the connector tells it
    world.mend(LOST_NS + 2 * S, entry(born, SSHD, "sshd"))
    assert world.admits_exec(20 * S, born, "bash")


@pytest.mark.parametrize("observed", [False, True], ids=["created", "observed"])
def test_who_is_born_after_a_loss_is_judged_as_before_it(observed: bool) -> None:  # noqa: FBT001
    world = World("not-ancestor=cron")
    assert world.admits_fork(300, 5 * S, observed=observed)
    world.lose(LOST_NS, kind=None)
    world.mend(LOST_NS + S)
    assert world.admits_fork(301, 20 * S, observed=observed)


def test_whose_fork_is_told_after_proc_has_shown_it_is_judged_by_the_fork() -> None:
    world = World("not-ancestor=cron")
    world.lose(LOST_NS)
    born = ProcessKey(300, LOST_NS + S + 7)
    world.mend(LOST_NS + S, entry(born, SSHD, "sshd"))
    assert world.admits_fork(born.pid, born.start_time_ns)
    assert world.admits_exec(20 * S, born, "bash")


def test_whose_fork_was_lost_may_have_come_from_anybody() -> None:
    world = World("not-ancestor=cron")
    world.lose(LOST_NS, kind="fork")
    orphan = ProcessKey(300, LOST_NS - 1)
    world.mend(LOST_NS + S, entry(orphan, ROOT, "job"))
    assert not world.admits_exec(20 * S, orphan, "bash")
