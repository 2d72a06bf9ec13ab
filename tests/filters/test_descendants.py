"""Who belongs to a process that was started: those it created, whatever became of their parents."""

from __future__ import annotations

import random

import pytest

from proctree_bpf.core.events import Exec, Exit, Fork, Gap, ProcEvent, Rename, Setid
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.descendants import DescendantSet
from support.sample_events import entry

_TICK = 10_000_000
ROOT = ProcessKey(100, 50 * _TICK)
EXACT_ROOT = ProcessKey(100, 50 * _TICK + 7)
STRANGER = ProcessKey(1, 1)


def fork(creator: ProcessKey, child: ProcessKey, parent: ProcessKey | None = None) -> Fork:
    return Fork(child.start_time_ns, child, creator, parent)


def key(pid: int, tick: int = 60) -> ProcessKey:
    return ProcessKey(pid, tick * _TICK + pid)


def followed(*events: ProcEvent) -> tuple[DescendantSet, list[bool]]:
    family = DescendantSet(ROOT)
    return family, [family.includes(event) for event in events]


class TestBelonging:
    def test_the_root_belongs_under_its_rough_and_its_exact_start_time(self) -> None:
        for root in (ROOT, EXACT_ROOT, ProcessKey(100)):
            assert followed(Exec(1, root))[1] == [True]

    @pytest.mark.parametrize("kind", ["rename", "setid", "exec", "exit"])
    def test_every_kind_of_event_of_a_descendant_belongs(self, kind: str) -> None:
        child = key(200)
        event: ProcEvent = {
            "rename": Rename(2, child, "x"),
            "setid": Setid(2, child, 5),
            "exec": Exec(2, child),
            "exit": Exit(2, child),
        }[kind]
        assert followed(fork(EXACT_ROOT, child), event)[1] == [True, True]

    def test_a_double_fork_loses_nobody(self) -> None:
        middle, daemon = key(200), key(201)
        family, seen = followed(
            fork(ROOT, middle), fork(middle, daemon), Exit(3, middle, ROOT), Exit(4, ROOT),
            Exec(5, daemon, STRANGER), Exit(6, daemon, STRANGER),
        )  # fmt: skip
        assert all(seen)
        assert family.living == ()

    def test_strangers_do_not_belong(self) -> None:
        other = key(300)
        _, seen = followed(fork(STRANGER, other), Exec(2, other, STRANGER), Exit(3, other))
        assert not any(seen)

    def test_the_creator_counts_where_the_parent_is_another(self) -> None:
        child = key(200)
        assert followed(fork(ROOT, child, STRANGER))[1] == [True]
        assert followed(fork(STRANGER, child, ROOT))[1] == [False]


class TestReusedPids:
    def test_the_next_owner_of_a_members_pid_does_not_belong(self) -> None:
        first, second = key(200, 60), key(200, 70)
        _, seen = followed(
            fork(ROOT, first), Exit(2, first), fork(STRANGER, second), Exec(4, second)
        )
        assert seen == [True, True, False, False]

    def test_nor_does_it_when_the_end_of_the_first_was_lost(self) -> None:
        first, second = key(200, 60), key(200, 70)
        family, seen = followed(fork(ROOT, first), fork(STRANGER, second), Exec(4, second))
        assert seen == [True, False, False]
        assert [member.pid for member in family.living] == [100]

    def test_nor_when_its_birth_was_lost_as_well(self) -> None:
        first, second = key(200, 60), key(200, 70)
        assert followed(fork(ROOT, first), Exec(4, second, STRANGER))[1] == [True, False]

    def test_what_the_next_owner_creates_does_not_belong(self) -> None:
        later_root = ProcessKey(100, 90 * _TICK)
        assert followed(fork(later_root, key(200, 91)))[1] == [False]

    def test_an_exact_sighting_tells_owners_of_one_tick_apart(self) -> None:
        twin = ProcessKey(100, EXACT_ROOT.start_time_ns + 5)
        assert followed(Exec(1, EXACT_ROOT), Exec(2, twin))[1] == [True, False]


class TestLoss:
    def test_one_whose_fork_was_lost_comes_in_by_its_parent(self) -> None:
        child, grandchild = key(200), key(201)
        _, seen = followed(Exec(1, child, ROOT), fork(child, grandchild), Exit(3, child, ROOT))
        assert all(seen)

    def test_one_who_is_only_seen_to_end_leaves_nobody_behind(self) -> None:
        family, seen = followed(Exit(1, key(200), ROOT))
        assert seen == [True]
        assert family.living == (ROOT,)


class TestWhatARepairFound:
    """A table that has been mended knows of some whose forks were not told."""

    CHILD, GRANDCHILD, GREAT = key(200), key(201), key(202, 70)

    @staticmethod
    def found(*entries: tuple[ProcessKey, ProcessKey]) -> Tracker:
        tracker = Tracker(PidTree(), ProcCache())
        shown = [entry(each, creator, "x") for each, creator in entries]
        tracker.note_gap(Gap(1, "test", 1, "fork", 0, 0, 1))
        tracker.reconcile(shown, 100 * _TICK, 100 * _TICK)
        return tracker

    def test_is_one_of_them_if_it_is_below_a_member(self) -> None:
        family, _ = followed()
        family.survey(
            self.found((ROOT, STRANGER), (self.CHILD, ROOT), (self.GRANDCHILD, self.CHILD)).table
        )
        assert family.has(self.CHILD)
        assert family.includes(fork(self.GRANDCHILD, self.GREAT))

    def test_is_one_of_them_if_the_first_has_ended(self) -> None:
        family, _ = followed(Exit(2, ROOT))
        tracker = self.found((ROOT, STRANGER), (self.CHILD, ROOT))
        tracker.apply(Exit(2, ROOT, status=0))
        family.survey(tracker.table)
        assert family.includes(fork(self.CHILD, self.GRANDCHILD))

    def test_is_nothing_to_them_otherwise(self) -> None:
        family, _ = followed()
        other = key(300)
        family.survey(self.found((ROOT, STRANGER), (other, STRANGER), (self.CHILD, other)).table)
        assert family.living == (ROOT,)
        assert not family.includes(fork(self.CHILD, self.GRANDCHILD))


@pytest.mark.parametrize("seed", range(50))
def test_any_tree_is_followed_exactly(seed: int) -> None:
    """Against sets of whole identities, which know of no PIDs; few PIDs, so all are reused."""
    chance = random.Random(seed)  # noqa: S311 - chosen, not secret
    family = DescendantSet(ROOT)
    alive = {STRANGER, ROOT}
    members = {ROOT}
    for now in range(60 * _TICK, 60 * _TICK + 4000):
        free = sorted(set(range(1, 30)) - {process.pid for process in alive})
        creator = chance.choice(sorted(alive))
        event: ProcEvent
        if free and chance.random() < 0.5:
            child = ProcessKey(chance.choice(free), now)
            alive.add(child)
            if creator in members:
                members.add(child)
            event = fork(creator, child)
        elif creator not in {STRANGER, ROOT} and chance.random() < 0.5:
            alive.discard(creator)
            event = Exit(now, creator)
        else:
            event = Exec(now, creator, STRANGER)
        assert family.includes(event) == (event.key in members)
        assert {m.pid for m in family.living} == {m.pid for m in alive & members}
