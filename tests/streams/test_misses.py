from __future__ import annotations

import pytest

from proctree_bpf.streams.misses import READINGS, Misses


@pytest.fixture
def misses() -> Misses:
    return Misses()


def settled(misses: Misses, skipped: list[list[int]], told_by_others: int) -> int:
    """Read the same until it is believed."""
    for _ in range(READINGS):
        told = misses.read(skipped, told_by_others, attached=True)
    return told


def test_what_another_copy_told_is_not_missed(misses: Misses) -> None:
    """Each was skipped, but for different events."""
    assert settled(misses, [[3, 63], [1, 2], [3, 1], [4, 3]], 66) == 0


def test_what_no_copy_told_is_missed(misses: Misses) -> None:
    assert settled(misses, [[0, 63], [0, 2]], 62) == 1


def test_of_a_single_program_all_is_missed_that_it_was_skipped_for(misses: Misses) -> None:
    assert settled(misses, [[2, 0, 1]], 0) == 3


def test_what_is_on_its_way_from_one_copy_to_the_next_is_not_missed(misses: Misses) -> None:
    readings = [(8, 7), (9, 8), (9, 9), (10, 9), (11, 10)] * 3
    assert [misses.read([[n], [9]], told, attached=True) for n, told in readings] == [0] * 15


def test_what_is_missed_is_told_once_it_is_in_all_readings_of_a_while(misses: Misses) -> None:
    told = [misses.read([[2], [2]], 1, attached=True) for _ in range(READINGS + 1)]
    assert told == [0] * (READINGS - 1) + [1, 1]


def test_when_no_more_can_come_the_last_reading_counts(misses: Misses) -> None:
    assert misses.read([[2], [2]], 0, attached=True) == 0
    assert misses.read([[2], [2]], 1, attached=False) == 1


def test_no_more_is_missed_than_the_copy_was_skipped_for_that_was_skipped_least(
    misses: Misses,
) -> None:
    assert settled(misses, [[5, 5], [9, 2], [1, 4]], 0) == 1 + 2


def test_where_one_event_was_told_twice_no_less_than_none_is_missed(misses: Misses) -> None:
    assert settled(misses, [[1], [1]], 2) == 0
