from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.events import Exec, ProcEvent
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.streams.reorder import ReorderBuffer


def at(time_ns: int, pid: int = 1) -> Exec:
    return Exec(time_ns, ProcessKey(pid))


def test_nothing_is_released_at_or_after_the_watermark() -> None:
    buffer = ReorderBuffer()
    buffer.push([at(9), at(10), at(11)])
    assert buffer.release(10) == [at(9)]
    assert len(buffer) == 2


def test_events_of_two_cpus_come_out_in_the_order_of_their_stamps() -> None:
    buffer = ReorderBuffer()
    buffer.push([at(1, pid=1), at(4, pid=1)])
    buffer.push([at(2, pid=2), at(3, pid=2)])
    assert [event.timestamp_ns for event in buffer.release(inf)] == [1, 2, 3, 4]


def test_events_of_one_stamp_keep_their_order_of_arrival() -> None:
    buffer = ReorderBuffer()
    buffer.push([at(5, pid=1), at(5, pid=2)])
    buffer.push([at(5, pid=3)])
    assert [event.key.pid for event in buffer.release(inf)] == [1, 2, 3]


def test_an_event_older_than_a_released_one_is_counted_as_late() -> None:
    buffer = ReorderBuffer()
    buffer.push([at(10)])
    buffer.release(11)
    buffer.push([at(9), at(10), at(12)])
    assert buffer.late == 1
    assert [event.timestamp_ns for event in buffer.release(inf)] == [9, 10, 12]


def test_an_empty_buffer_releases_nothing() -> None:
    buffer = ReorderBuffer()
    buffer.push([])
    assert buffer.release(inf) == []
    assert (len(buffer), buffer.late, buffer.held()) == (0, 0, ())


def test_what_is_held_can_be_looked_at_without_being_released() -> None:
    buffer = ReorderBuffer()
    buffer.push([at(3), at(2)])
    assert buffer.held() == (at(3), at(2))
    assert len(buffer) == 2


@given(st.lists(st.tuples(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 60))))
def test_every_event_comes_out_once_and_each_batch_in_order(
    rounds: list[tuple[list[int], int]],
) -> None:
    buffer = ReorderBuffer()
    pushed: list[ProcEvent] = []
    released: list[ProcEvent] = []
    for number, (stamps, watermark) in enumerate(rounds):
        events = [at(stamp, pid=1000 * number + index) for index, stamp in enumerate(stamps)]
        pushed += events
        buffer.push(events)
        batch = buffer.release(watermark)
        assert all(event.timestamp_ns < watermark for event in batch)
        assert [event.timestamp_ns for event in batch] == sorted(e.timestamp_ns for e in batch)
        assert all(event.timestamp_ns >= watermark for event in buffer.held())
        released += batch
    released += buffer.release(inf)
    assert sorted(released, key=hash) == sorted(pushed, key=hash)


@given(
    st.lists(st.lists(st.integers(1, 20), max_size=20), min_size=1, max_size=4),
    st.data(),
)
def test_true_watermarks_give_one_order_without_late_events(
    gaps_by_cpu: list[list[int]], data: st.DataObject
) -> None:
    """Each CPU's stamps rise; the watermark is what every CPU has delivered up to."""
    lanes = []
    for cpu, gaps in enumerate(gaps_by_cpu):
        stamp, lane = 0, []
        for index, gap in enumerate(gaps):
            stamp += gap
            lane.append(at(stamp, pid=100 * cpu + index))
        lanes.append(lane)
    total = sorted(event.timestamp_ns for lane in lanes for event in lane)
    buffer = ReorderBuffer()
    released: list[ProcEvent] = []
    while any(lanes):
        lane = data.draw(st.sampled_from([lane for lane in lanes if lane]))
        buffer.push([lane.pop(0)])
        waiting = [other[0].timestamp_ns for other in lanes if other]
        released += buffer.release(min(waiting, default=inf))
    assert [event.timestamp_ns for event in released] == total
    assert buffer.late == 0
