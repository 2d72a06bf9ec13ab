"""Losses wait for their place: each comes out once, in the order of the times."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf import Gap
from proctree_bpf.streams.gap_queue import GapQueue


def lost(until_ns: int, count: int = 1) -> Gap:
    return Gap(until_ns, "told", count, "exec", 0, 1, until_ns)


def test_an_empty_one_is_never_due() -> None:
    queue = GapQueue()
    assert queue.next_ns == inf
    assert list(queue.pop_until(inf)) == []


def test_of_equal_times_the_first_that_came_is_the_first() -> None:
    queue = GapQueue()
    for count in (3, 1, 2):
        queue.push(lost(5, count))
    assert [gap.count for gap in queue.pop_until(5)] == [3, 1, 2]


def test_one_without_an_end_has_the_time_when_it_was_noticed() -> None:
    queue = GapQueue()
    queue.push(Gap(7, "told", None, None, None, None, None))
    assert queue.next_ns == 7


@given(st.lists(st.integers(1, 20)), st.lists(st.integers(0, 25)))
def test_what_is_due_comes_out_in_order_and_the_next_time_is_told(
    times: list[int], asked: list[int]
) -> None:
    queue, waiting = GapQueue(), sorted(times)
    for time_ns in times:
        queue.push(lost(time_ns))
    for now_ns in asked:
        due = [time_ns for time_ns in waiting if time_ns <= now_ns]
        waiting = waiting[len(due) :]
        assert [gap.until_ns for gap in queue.pop_until(now_ns)] == due
        assert queue.next_ns == min(waiting, default=inf)
