from __future__ import annotations

import pytest

from proctree_bpf.codecs.inputs import CpuCounters, Drain
from proctree_bpf.codecs.sample_decoder import ALWAYS_TOLD, EXIT, KINDS, RENAME, WIRE_VERSION
from proctree_bpf.streams.loss_accounting import CLOCK_SLACK_NS
from proctree_bpf.streams.perf import MISSES_ASKED_EVERY_NS, PerfStream

START = 1_000_000_000
MS = 1_000_000
EXIT_KIND, RENAME_KIND = 2, 3
NONE = CpuCounters((0,) * len(KINDS), (0,) * len(KINDS))


def exit_record(seq: int, time_ns: int, pid: int = 7) -> bytes:
    head = (seq, time_ns, WIRE_VERSION, EXIT_KIND, 0, 0)
    return EXIT.pack(*head, 1, 1, 0, 0, pid, 1, 0, 0, 0, 0, b"x")


def rename_record(seq: int, time_ns: int) -> bytes:
    return RENAME.pack(seq, time_ns, WIRE_VERSION, RENAME_KIND, 0, 0, 1, 7, 0, b"x")


def exits(begun: int, failed: int = 0) -> CpuCounters:
    return CpuCounters(
        (0, 0, begun, *(0,) * (len(KINDS) - 3)), (0, 0, failed, *(0,) * (len(KINDS) - 3))
    )


@pytest.fixture
def stream() -> PerfStream:
    return PerfStream("bpf", 2, START)


def test_an_empty_drain_moves_the_watermark(stream: PerfStream) -> None:
    events, gaps, watermark = stream.feed(Drain(START + MS, [NONE, NONE], []))
    assert (events, gaps, watermark) == ([], [], START + MS - CLOCK_SLACK_NS)


def test_events_come_in_the_order_of_arrival(stream: PerfStream) -> None:
    records = [
        (0, exit_record(1, START + 5, pid=5)),
        (0, exit_record(2, START + 9, pid=9)),
        (1, exit_record(1, START + 1, pid=1)),
    ]
    events, gaps, _ = stream.feed(Drain(START + MS, [exits(2), exits(1)], records))
    assert [event.key.pid for event in events] == [5, 9, 1]
    assert gaps == []


def test_the_padding_of_the_buffer_is_no_harm(stream: PerfStream) -> None:
    padded = exit_record(1, START) + b"\0" * 5
    events, _, _ = stream.feed(Drain(START + MS, [exits(1), NONE], [(0, padded)]))
    assert len(events) == 1


def test_a_record_on_its_way_holds_the_watermark(stream: PerfStream) -> None:
    _, gaps, watermark = stream.feed(Drain(START + MS, [NONE, exits(1)], []))
    assert (gaps, watermark) == ([], START - CLOCK_SLACK_NS)


def test_a_loss_is_a_gap_with_its_kind_and_cpu(stream: PerfStream) -> None:
    _, gaps, _ = stream.feed(Drain(START + MS, [NONE, exits(3, failed=3)], []))
    (gap,) = gaps
    assert (gap.source, gap.count, gap.kind, gap.cpu) == ("bpf", 3, "exit", 1)
    assert (gap.from_ns, gap.until_ns) == (START, START + MS)


def test_runs_that_the_kernel_skipped_are_a_loss_of_any_kind(stream: PerfStream) -> None:
    """They began no record, so no counter and no number tells of them."""
    asked = MISSES_ASKED_EVERY_NS
    for times in range(1, 10):
        missed = 2 if times >= 8 else 0
        _, gaps, _ = stream.feed(Drain(START + times * asked, [NONE, NONE], [], missed))
        assert len(gaps) == (times == 8)
        if gaps:
            (gap,) = gaps
            assert (gap.count, gap.kind, gap.cpu) == (2, None, None)
            # As long ago as the last reading may be that did not have them, and one more.
            assert (gap.from_ns, gap.until_ns) == (START + 2 * asked, START + 8 * asked)
    assert stream.summary()["missed"] == stream.summary()["lost"] == 2


def test_the_summary_counts_by_cpu_and_by_kind(stream: PerfStream) -> None:
    records = [(0, exit_record(1, START)), (1, rename_record(1, START + 1))]
    counters = [
        exits(2, failed=1),
        CpuCounters((0, 0, 0, 1, *(0,) * (len(KINDS) - 4)), (0,) * len(KINDS)),
    ]
    stream.feed(Drain(START + MS, counters, records))
    summary = stream.summary()
    assert (summary["received"], summary["lost"], summary["undecodable"]) == (2, 1, 0)
    assert summary["by_kind"]["exit"] == {"received": 1, "lost": 1}
    assert summary["by_kind"]["rename"] == {"received": 1, "lost": 0}
    assert [lane["cpu"] for lane in summary["by_cpu"]] == [0, 1]
    assert summary["by_cpu"][0]["exit"] == {"received": 1, "lost": 1}
    assert set(summary["by_kind"]) == set(ALWAYS_TOLD)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 24, exit_record(2, START)[:-1]])
def test_a_record_that_cannot_be_read_is_told_as_a_loss(stream: PerfStream, garbage: bytes) -> None:
    records = [(0, exit_record(1, START)), (0, garbage)]
    events, gaps, _ = stream.feed(Drain(START + MS, [exits(2), NONE], records))
    assert len(events) == 1
    assert sum(gap.count or 0 for gap in gaps) == 1
    assert stream.summary()["undecodable"] == 1


def test_a_record_that_cannot_be_read_is_one_loss_and_not_two(stream: PerfStream) -> None:
    """The next record's number tells of the same loss."""
    records = [(0, exit_record(1, START)), (0, b"\0" * 24), (0, exit_record(3, START + 2))]
    _, gaps, _ = stream.feed(Drain(START + MS, [exits(3), NONE], records))
    summary = stream.summary()
    assert (summary["received"], summary["lost"]) == (2, 1)
    assert sum(gap.count or 0 for gap in gaps) == 1


def test_a_record_of_a_copy_that_was_not_attached_cannot_be_read(stream: PerfStream) -> None:
    head = (1, START, WIRE_VERSION, RENAME_KIND + len(KINDS), 0, 0)
    record = RENAME.pack(*head, 1, 7, 0, b"x")
    events, _, _ = stream.feed(Drain(START + MS, [NONE, NONE], [(0, record)]))
    assert (events, stream.undecodable) == ([], 1)
