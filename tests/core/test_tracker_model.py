"""A tracker against a naive model of a machine: right where nothing was lost, never wrong.

Anything may happen: events of several CPUs come in any order within what the watermark allows, and
twice; some are lost, and their gaps told; PIDs are had again; ``/proc`` is read while things go on;
there is little room. An answer is judged by the truth at the times which the tree may stand for:
from the watermark to now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proctree_bpf.core.lineage import Answer, ancestry
from proctree_bpf.core.model import Edge
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.process_tree import ProcessTree
from support.model_world import NAMES, STEP_NS, Life, World, WorldSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.model import PidNode
    from proctree_bpf.core.process_event import ProcessEvent

_randoms = st.randoms(use_true_random=False)


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, _process_event: ProcessEvent) -> None:
        """Keep nothing."""

    def gap(self, _gap: Gap) -> None:
        """Keep nothing."""

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is owed."""


class ModelledTracker(RuleBasedStateMachine):
    @initialize(capacity=st.sampled_from((4, 7, 1_000)), ttl_s=st.sampled_from((0, 0.05, 600)))
    def begin(self, capacity: int, ttl_s: float) -> None:
        self.world = World()
        self.source = WorldSource(self.world)
        self.tree = ProcessTree(capacity=capacity, ttl_s=ttl_s)
        self.pipeline = Pipeline(self.source, self.tree.tracker, Nowhere())
        self.pipeline.start()
        self.until_ns = 0

    # What can happen.

    @rule(rng=_randoms, is_lost=st.booleans())
    def somebody_forks(self, rng: Random, *, is_lost: bool) -> None:
        self.world.fork(rng, lossy=is_lost and self.may_lose)

    @rule(rng=_randoms, is_lost=st.booleans(), by_exec=st.booleans())
    def somebody_takes_a_name(self, rng: Random, *, is_lost: bool, by_exec: bool) -> None:
        self.world.rename(rng, lossy=is_lost and self.may_lose, by_exec=by_exec)

    @rule(rng=_randoms, is_lost=st.booleans())
    def somebody_ends(self, rng: Random, *, is_lost: bool) -> None:
        self.world.exit(rng, lossy=is_lost and self.may_lose)

    @rule(rng=_randoms, count=st.integers(1, 8))
    def much_happens(self, rng: Random, count: int) -> None:
        for _ in range(count):
            self.world.act(rng, lossy=self.may_lose and rng.random() < 0.3)

    @rule(
        rng=_randoms,
        lag=st.integers(0, 5),
        double=st.booleans(),
        kindless=st.booleans(),
        looks=st.booleans(),
        actions=st.integers(0, 4),
    )
    def the_reader_takes_what_came(
        self, rng: Random, lag: int, actions: int, *, double: bool, kindless: bool, looks: bool
    ) -> None:
        self.source.drain(rng, lag_ns=lag * STEP_NS, double=double, kindless=kindless)
        self.source.rng = rng if looks else None
        self.source.actions_while_looking = actions
        self.pipeline.pump()
        self.until_ns = self.pipeline.complete_until_ns

    may_lose = True

    # What always holds.

    def _nodes(self) -> Iterator[tuple[Life, PidNode]]:
        """Yield the processes that events have told of, and are kept, with what is known."""
        by_place = {(life.key.pid, life.key.ticks): life for life in self.world.lives}
        for node in self.tree.pid_tree.all_nodes():
            yield by_place[node.pid, node.key.ticks], node

    @invariant()
    def nothing_is_said_that_is_wrong(self) -> None:
        nodes = list(self._nodes())
        if not nodes:
            return
        times = [self.until_ns, *range(self.until_ns, self.world.now_ns, STEP_NS // 2)]
        times.append(self.world.now_ns + 1)
        for life, node in nodes:
            line = list(life.line())
            names = [{each.name_before(time_ns) for each in line} for time_ns in times]
            for name in NAMES:
                answer = ancestry(self.tree.pid_tree, node.key, name)
                if answer is Answer.YES:
                    assert any(name in seen for seen in names), f"{node} is not under {name}"
                if answer is Answer.NO:
                    assert any(name not in seen for seen in names), f"{node} is under {name}"
            for other, above in nodes:
                answer = self.tree.is_descendant(node.key, above.key)
                if answer is not Answer.UNKNOWN:
                    assert (answer is Answer.YES) is (other in line), f"{node} and {above}"

    @invariant()
    def who_is_said_to_have_created_did(self) -> None:
        for life, node in self._nodes():
            if node.edge is not Edge.OBSERVED:
                creator = life.creator.key.pid if life.creator is not None else 0
                assert node.ppid == creator
            elif node.ppid:
                above = {each.key.pid for each in list(life.line())[1:]}
                assert node.ppid in above
                assert node.fork_missed

    @invariant()
    def the_books_agree(self) -> None:
        self.tree.tracker.table.check_invariants()


class Lossless(ModelledTracker):
    """Where nothing is lost, all is known; whatever is remembered."""

    may_lose = False

    @invariant()
    def all_is_known(self) -> None:
        assert not self.tree.tracker.uncertain
        if self.tree.tracker.stats.evicted:
            return  # for want of room
        known = set()
        for life, node in self._nodes():
            known.add(life)
            assert node.key == life.key
            assert node.edge is Edge.CREATED
            assert node.cmd == life.name_before(self.until_ns)
            lives = life.lived_before(self.until_ns)
            assert node.exited_ns == (None if lives else life.exited_ns)
            names = {each.name_before(self.until_ns) for each in life.line()}
            for name in NAMES:
                answer = ancestry(self.tree.pid_tree, node.key, name)
                assert answer is (Answer.YES if name in names else Answer.NO)
        assert {life for life in self.world.lives if life.lived_before(self.until_ns)} <= known


class Lossy(ModelledTracker):
    """Where something was lost, nothing is said that is wrong; and what was mended is right."""

    @invariant()
    def once_mended_the_living_are_those_of_proc(self) -> None:
        is_mended = not self.tree.tracker.uncertain and self.until_ns >= self.source.looked_until_ns
        if not is_mended or self.tree.tracker.table.evicted_living:
            return
        living = {life for life in self.world.lives if life.lived_before(self.until_ns)}
        assert {life for life, node in self._nodes() if node.exited_ns is None} == living
        for life, node in self._nodes():
            if node.exited_ns is None:
                assert not node.name_uncertain
                assert node.cmd == life.name_before(self.until_ns)


TestLossless = Lossless.TestCase
TestLossless.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
TestLossy = Lossy.TestCase
TestLossy.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
