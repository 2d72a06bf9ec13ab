"""The watermark never passes a record that is still to come; each loss is told exactly once.

The state machine plays the BPF side step by step, as the kernel can be interrupted
between any two of them: begun is counted, the record is stamped, it is submitted or
refused, and a refusal is counted. Between those steps the reader takes a time, reads the
counters, and drains: three steps too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proctree_bpf.codecs.inputs import CpuCounters
from proctree_bpf.core.events import Gap
from proctree_bpf.streams.loss_accounting import CLOCK_SLACK_NS, STUCK_AFTER_NS, LossAccounting

KINDS = ("fork", "exec")
CPUS = 2
MS = 1_000_000
START = 1_000 * MS
FORK, EXEC = 0, 1


def counters(*begun_failed: tuple[int, int]) -> list[CpuCounters]:
    """Counters of the first kind, a pair (begun, failed) for each CPU."""
    return [CpuCounters((begun, 0), (failed, 0)) for begun, failed in begun_failed]


def arrivals(cpus: int = 1) -> LossAccounting:
    return LossAccounting("test", KINDS, cpus, START)


def lost(accounts: LossAccounting) -> int:
    return sum(lane["lost"] for cpu in accounts.summary() for lane in cpu.values())


def received(accounts: LossAccounting) -> int:
    return sum(lane["received"] for cpu in accounts.summary() for lane in cpu.values())


def test_with_nothing_outstanding_the_watermark_is_the_time_taken_less_the_slack() -> None:
    accounts = arrivals()
    assert accounts.settle(START + MS, counters((0, 0))) == START + MS - CLOCK_SLACK_NS


def test_programs_that_send_the_same_kind_are_counted_by_themselves_and_told_together() -> None:
    accounts = LossAccounting("test", KINDS * 2, 1, START)
    again = FORK + len(KINDS)
    accounts.received(0, again, 1, START)
    accounts.received(0, FORK, 1, START)
    accounts.received(0, again, 3, START + MS)
    (gap,) = accounts.take_gaps()
    assert (gap.kind, gap.count) == ("fork", 1)
    assert accounts.summary()[0]["fork"] == {"received": 3, "lost": 1}


def test_a_record_on_its_way_holds_the_watermark() -> None:
    accounts = arrivals()
    accounts.settle(START + MS, counters((0, 0)))
    assert accounts.settle(START + 2 * MS, counters((1, 0))) == START + MS - CLOCK_SLACK_NS
    assert accounts.take_gaps() == []
    accounts.received(0, FORK, 1, START + 2 * MS)
    assert accounts.settle(START + 3 * MS, counters((1, 0))) == START + 3 * MS - CLOCK_SLACK_NS
    assert lost(accounts) == 0


def test_the_slowest_cpu_holds_the_watermark() -> None:
    accounts = arrivals(cpus=2)
    watermark = accounts.settle(START + MS, counters((0, 0), (1, 0)))
    assert watermark == START - CLOCK_SLACK_NS


def test_a_failed_submit_is_a_gap_with_its_cpu_and_kind_and_window() -> None:
    accounts = arrivals(cpus=2)
    accounts.received(1, EXEC, 1, START + MS)
    empty = CpuCounters((0, 0), (0, 0))
    watermark = accounts.settle(START + 3 * MS, [empty, CpuCounters((0, 3), (0, 2))])
    assert watermark == START + 3 * MS - CLOCK_SLACK_NS
    assert accounts.take_gaps() == [
        Gap(START + 3 * MS, "test", 2, "exec", cpu=1, from_ns=START + MS, until_ns=START + 3 * MS)
    ]


def test_a_missing_number_is_a_gap_between_its_neighbours() -> None:
    accounts = arrivals()
    accounts.received(0, FORK, 1, START + 1)
    accounts.received(0, FORK, 4, START + 9)
    assert accounts.take_gaps() == [
        Gap(START + 9, "test", 2, "fork", cpu=0, from_ns=START + 1, until_ns=START + 9)
    ]


def test_a_gap_begins_when_its_cpu_was_last_known_to_be_complete() -> None:
    accounts = arrivals()
    accounts.received(0, EXEC, 1, START + 1)
    accounts.settle(START + 9 * MS, [CpuCounters((0, 1), (0, 0))])
    accounts.settle(START + 10 * MS, [CpuCounters((0, 2), (0, 1))])
    (gap,) = accounts.take_gaps()
    assert gap.from_ns == START + 9 * MS - CLOCK_SLACK_NS


def test_a_gap_ends_after_all_that_was_received_when_it_was_found() -> None:
    """The reader may have been stopped between its clock and the counters."""
    accounts = arrivals(cpus=2)
    accounts.received(0, FORK, 1, START + 5 * MS)
    accounts.settle(START + MS, [CpuCounters((1, 0), (0, 0)), CpuCounters((0, 1), (0, 1))])
    (gap,) = accounts.take_gaps()
    assert gap.until_ns == START + 5 * MS + 1


def test_a_loss_known_from_a_missing_number_is_not_told_again_when_its_failure_is_counted() -> None:
    accounts = arrivals()
    accounts.received(0, FORK, 2, START + 2)
    accounts.settle(START + MS, counters((2, 0)))
    accounts.settle(START + 2 * MS, counters((2, 1)))
    assert lost(accounts) == 1
    accounts.settle(START + 3 * MS, counters((3, 1)))
    assert lost(accounts) == 1, "the third record is on its way; the failure was the first's"


def test_kinds_are_counted_apart() -> None:
    accounts = arrivals()
    accounts.received(0, FORK, 1, START + 1)
    accounts.received(0, EXEC, 1, START + 2)
    accounts.settle(START + MS, [CpuCounters((1, 1), (0, 0))])
    assert accounts.summary() == [
        {"fork": {"received": 1, "lost": 0}, "exec": {"received": 1, "lost": 0}}
    ]


def test_gaps_of_one_cpu_and_kind_are_told_as_one() -> None:
    accounts = arrivals()
    for seq in (2, 4, 7):
        accounts.received(0, FORK, seq, START + seq)
    (gap,) = accounts.take_gaps()
    assert (gap.count, gap.from_ns, gap.until_ns) == (4, START, START + 7)
    assert accounts.take_gaps() == []


def test_a_record_that_does_not_come_is_given_up_in_the_end() -> None:
    accounts = arrivals()
    stuck = counters((1, 0))
    now = START
    while lost(accounts) == 0 and now < START + 3 * STUCK_AFTER_NS:
        now += 100 * MS
        watermark = accounts.settle(now, stuck)
    assert lost(accounts) == 1
    assert now - START >= STUCK_AFTER_NS
    assert watermark == now - CLOCK_SLACK_NS
    (gap,) = accounts.take_gaps()
    assert gap.count == 1


@pytest.mark.parametrize("pause_ns", [STUCK_AFTER_NS + MS, 3600 * 1_000 * MS])
def test_a_record_on_its_way_is_not_lost_because_the_reader_has_slept(pause_ns: int) -> None:
    """A stopped reader, or a suspended machine, finds a record begun a microsecond ago."""
    accounts = arrivals()
    settled_ns = START + MS
    accounts.settle(settled_ns, counters((0, 0)))
    woken_ns = settled_ns + pause_ns
    watermark = accounts.settle(woken_ns, counters((1, 0)))
    assert lost(accounts) == 0
    assert watermark <= settled_ns
    accounts.received(0, FORK, 1, woken_ns - 1)
    accounts.settle(woken_ns + MS, counters((1, 0)))
    assert (received(accounts), lost(accounts)) == (1, 0)
    assert accounts.take_gaps() == []


def test_a_busy_cpu_is_not_taken_for_a_stuck_one() -> None:
    """Each look finds another record on its way, and each of them comes."""
    accounts = arrivals()
    now = START
    for seq in range(1, 60):
        now += 50 * MS
        accounts.settle(now, counters((seq, 0)))
        accounts.received(0, FORK, seq, now - 1)
    assert (received(accounts), lost(accounts)) == (59, 0)


def test_a_cpu_that_is_offline_holds_nothing_up() -> None:
    accounts = arrivals(cpus=3)
    assert (
        accounts.settle(START + MS, counters((0, 0), (0, 0), (0, 0))) == START + MS - CLOCK_SLACK_NS
    )


@dataclass
class Record:
    cpu: int
    kind: int
    seq: int
    fails: bool
    time_ns: int = 0
    delivered: bool = False


@dataclass
class Cpu:
    """One CPU's BPF side; one program runs at a time."""

    skew_ns: int = 0
    begun: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    failed: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    running: Record | None = None
    ring: list[Record] = field(default_factory=list)


class KernelAndReader(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ns = START
        self.cpus = [Cpu(skew_ns=skew) for skew in (0, CLOCK_SLACK_NS - 1)]
        self.records: list[Record] = []
        self.accounts = LossAccounting("test", KINDS, CPUS, START)
        self.taken_ns: int | None = None
        self.counted: list[CpuCounters] | None = None
        self.counted_ns = START
        self.watermark_ns = 0
        self.gaps: list[tuple[Gap, int]] = []

    # The kernel.

    @rule(cpu=st.sampled_from(range(CPUS)), kind=st.sampled_from((FORK, EXEC)), fails=st.booleans())
    def begin(self, cpu: int, kind: int, *, fails: bool) -> None:
        lane = self.cpus[cpu]
        if lane.running is None:
            lane.begun[kind] += 1
            lane.running = Record(cpu, kind, lane.begun[kind], fails)
            self.records.append(lane.running)

    @rule(cpu=st.sampled_from(range(CPUS)))
    def step(self, cpu: int) -> None:
        lane = self.cpus[cpu]
        record = lane.running
        if record is None:
            return
        if not record.time_ns:
            self.now_ns += 1
            record.time_ns = self.now_ns + lane.skew_ns
        elif record.fails:
            lane.failed[record.kind] += 1
            lane.running = None
        else:
            lane.ring.append(record)
            lane.running = None

    @rule(cpu=st.sampled_from(range(CPUS)), kind=st.sampled_from((FORK, EXEC)), fails=st.booleans())
    def run_through(self, cpu: int, kind: int, *, fails: bool) -> None:
        self.begin(cpu, kind, fails=fails)
        for _ in range(3):
            self.step(cpu)

    @rule(nanoseconds=st.sampled_from((1, 1_000, MS)))
    def time_passes(self, nanoseconds: int) -> None:
        self.now_ns += nanoseconds

    # The reader.

    @precondition(lambda self: self.taken_ns is None)
    @rule()
    def take_the_time(self) -> None:
        self.taken_ns = self.now_ns

    @precondition(lambda self: self.taken_ns is not None and self.counted is None)
    @rule()
    def read_the_counters(self) -> None:
        self.counted = [CpuCounters(tuple(cpu.begun), tuple(cpu.failed)) for cpu in self.cpus]
        self.counted_ns = self.now_ns

    @precondition(lambda self: self.counted is not None)
    @rule()
    def drain(self) -> None:
        assert self.taken_ns is not None
        assert self.counted is not None
        for cpu in self.cpus:
            for record in cpu.ring:
                self.accounts.received(record.cpu, record.kind, record.seq, record.time_ns)
                record.delivered = True
            cpu.ring.clear()
        watermark = self.accounts.settle(self.taken_ns, self.counted)
        assert watermark >= self.watermark_ns, "the watermark went back"
        self.watermark_ns = watermark
        # A record can be begun between the reading of the clock and of the counters.
        slack = self.counted_ns - self.taken_ns + CLOCK_SLACK_NS
        self.gaps += [(gap, slack) for gap in self.accounts.take_gaps()]
        self.taken_ns = self.counted = None

    @invariant()
    def the_watermark_has_not_passed_a_record_that_is_to_come(self) -> None:
        for record in self.records:
            if record.time_ns and record.time_ns < self.watermark_ns:
                assert record.delivered or record.fails

    def teardown(self) -> None:
        for index in range(CPUS):
            for _ in range(3):
                self.step(index)
        for _ in range(2):
            self.now_ns += MS
            if self.taken_ns is None:
                self.take_the_time()
            if self.counted is None:
                self.read_the_counters()
            self.drain()
        self._every_record_is_accounted_for()
        self._every_loss_is_located()

    def _every_record_is_accounted_for(self) -> None:
        real = Counter((record.cpu, record.kind, record.fails) for record in self.records)
        told: Counter[tuple[int, int, bool]] = Counter()
        for cpu, lanes in enumerate(self.accounts.summary()):
            for kind, name in enumerate(KINDS):
                told[cpu, kind, True] += lanes[name]["lost"]
                told[cpu, kind, False] += lanes[name]["received"]
        assert +told == +real
        assert all(record.delivered for record in self.records if not record.fails)

    def _every_loss_is_located(self) -> None:
        for cpu in range(CPUS):
            for kind, name in enumerate(KINDS):
                gaps = [(g, slack) for g, slack in self.gaps if (g.cpu, g.kind) == (cpu, name)]
                stamps = [
                    record.time_ns
                    for record in self.records
                    if record.fails and (record.cpu, record.kind) == (cpu, kind)
                ]
                assert sum(gap.count or 0 for gap, _ in gaps) == len(stamps)
                for stamp in stamps:
                    assert any(g.from_ns <= stamp <= g.until_ns + slack for g, slack in gaps)


TestKernelAndReader = KernelAndReader.TestCase
TestKernelAndReader.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
