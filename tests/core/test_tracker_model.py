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
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.pipeline_ports import Selection
from proctree_bpf.process_tree import ProcessTree
from support.model_world import NAMES, STEP_NS, Life, World, WorldSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.model import PidNode
    from proctree_bpf.core.process_event import ProcessEvent

FOLLOWED = "b"
_randoms = st.randoms(use_true_random=False)


class Judge:
    """A sink that compares each record with the truth of that moment."""

    def __init__(self, world: World) -> None:
        self._world = world

    def write(self, told: ProcessEvent) -> None:
        """Judge a record."""
        if told.uncertain:
            return
        event, process = told.event, told.process
        life = self._world.life_of(event.key)
        then_ns = event.timestamp_ns + 1
        assert process.name_uncertain or process.cmd == life.name_before(then_ns), told.node
        assert process.args_raw in (None, life.args_before(then_ns)), told.info
        line = list(life.line())
        assert any(FOLLOWED in above.bore_before(then_ns) for above in line), told.node

    def gap(self, _gap: Gap) -> None:
        """Keep nothing."""

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is owed."""


class ModelledTracker(RuleBasedStateMachine):
    @initialize(
        rng=_randoms,
        before=st.sampled_from((0, 0, 3, 12)),
        capacity=st.sampled_from((4, 7, 1_000)),
        ttl_s=st.sampled_from((0, 0.05, 600)),
        is_terse=st.booleans(),
    )
    def begin(
        self, rng: Random, before: int, capacity: int, ttl_s: float, *, is_terse: bool
    ) -> None:
        self.world = World(is_terse)
        self.source = WorldSource(self.world)
        if before:
            for _ in range(before):
                self.world.act(rng, lossy=False)
            self.world.begin()
            self.source.looks(rng, actions=before % 5)
        self.tree = ProcessTree(capacity=capacity, ttl_s=ttl_s)
        followed = BoundFilter(
            Filter.parse(f"ancestor={FOLLOWED}"), self.tree.pid_tree, self.tree.proc_cache
        )
        judge, selection = Judge(self.world), Selection(wanted=followed)
        self.pipeline = Pipeline(self.source, self.tree.tracker, judge, selection)
        self.pipeline.start()
        self.until_ns = self.world.begun_ns

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
        leave=st.integers(0, 3),
    )
    def the_reader_takes_what_came(
        self,
        rng: Random,
        lag: int,
        actions: int,
        leave: int,
        *,
        double: bool,
        kindless: bool,
        looks: bool,
    ) -> None:
        lag_ns = lag * STEP_NS
        self.source.drain(rng, lag_ns=lag_ns, double=double, kindless=kindless, leave=leave)
        self.source.looks(rng if looks else None, actions)
        self.pipeline.pump()
        self.until_ns = max(self.until_ns, self.pipeline.complete_until_ns)

    may_lose = True

    # What always holds.

    def _nodes(self) -> Iterator[tuple[Life, PidNode]]:
        """Yield the processes that events have told of, and are kept, with what is known."""
        for node in self.tree.pid_tree.all_nodes():
            yield self.world.life_of(node.key), node

    def _is_untold(self, node: PidNode) -> bool:
        """Tell whether its name is not known, or its creator's as read after the fork."""
        return node.name_uncertain and (self.world.is_terse or not node.cmd)

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
                assert node.fork_missed or life.key.start_time_ns < self.world.begun_ns

    @invariant()
    def the_books_agree(self) -> None:
        self.tree.tracker.table.check_invariants()


class Lossless(ModelledTracker):
    """Where nothing is lost, all is known; whatever is remembered."""

    may_lose = False

    @invariant()
    def all_is_known(self) -> None:
        assert not self.tree.tracker.uncertain
        if self.tree.tracker.stats.evicted or self.until_ns < self.source.looked_until_ns:
            return  # for want of room, or /proc has shown what is yet to be told
        known = set()
        for life, node in self._nodes():
            known.add(life)
            is_sure = life.line_began_after(self.world.begun_ns)
            if is_sure:
                assert node.key == life.key
                assert node.edge is Edge.CREATED
            assert not node.fork_missed or life.key.start_time_ns < self.world.begun_ns
            assert node.cmd == life.name_before(self.until_ns) or self._is_untold(node)
            lives = life.lived_before(self.until_ns)
            assert node.exited_ns == (None if lives else life.exited_ns)
            names = {each.name_before(self.until_ns) for each in life.line()}
            for name in NAMES:
                answer = ancestry(self.tree.pid_tree, node.key, name)
                if is_sure:
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
            if node.exited_ns is None and not self._is_untold(node):
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
