from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.identity import (
    TICK_NS,
    ProcessKey,
    Sameness,
    compare,
    entity_id,
    more_exact,
)

TICK = ProcessKey(7, 3 * TICK_NS)
EXACT = ProcessKey(7, 3 * TICK_NS + 1_234_567)
EXACT_TWIN = ProcessKey(7, 3 * TICK_NS + 1_234_568)
UNKNOWN = ProcessKey(7)
BOOT = "0123abcd-4567-89ef-0123-456789abcdef"

keys = st.builds(
    ProcessKey,
    st.integers(0, 3),
    st.one_of(
        st.just(0),
        st.integers(1, 4).map(lambda ticks: ticks * TICK_NS),
        st.integers(1, 5 * TICK_NS),
    ),
)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param(TICK, ProcessKey(8, 3 * TICK_NS), Sameness.DIFFERENT, id="another PID"),
        pytest.param(UNKNOWN, ProcessKey(8), Sameness.DIFFERENT, id="another PID, no times"),
        pytest.param(TICK, TICK, Sameness.SAME, id="equal ticks"),
        pytest.param(EXACT, EXACT, Sameness.SAME, id="equal to the nanosecond"),
        pytest.param(TICK, EXACT, Sameness.SAME, id="ticks against nanoseconds"),
        pytest.param(EXACT, EXACT_TWIN, Sameness.DIFFERENT, id="one nanosecond apart"),
        pytest.param(TICK, ProcessKey(7, 4 * TICK_NS), Sameness.DIFFERENT, id="another tick"),
        pytest.param(EXACT, ProcessKey(7, 4 * TICK_NS), Sameness.DIFFERENT, id="the next tick"),
        pytest.param(UNKNOWN, EXACT, Sameness.UNKNOWN, id="one start unknown"),
        pytest.param(UNKNOWN, UNKNOWN, Sameness.UNKNOWN, id="both starts unknown"),
    ],
)
def test_two_readings_compare_as_the_table_says(
    one: ProcessKey, other: ProcessKey, expected: Sameness
) -> None:
    assert compare(one, other) is expected
    assert compare(other, one) is expected


@given(keys, keys)
def test_comparing_is_symmetric(one: ProcessKey, other: ProcessKey) -> None:
    assert compare(one, other) is compare(other, one)


@given(keys)
def test_a_known_reading_is_the_same_as_itself(key: ProcessKey) -> None:
    assert compare(key, key) is (Sameness.SAME if key.start_time_ns else Sameness.UNKNOWN)


@given(keys, keys)
def test_readings_of_different_ticks_are_never_called_the_same(
    one: ProcessKey, other: ProcessKey
) -> None:
    if one.ticks != other.ticks:
        assert compare(one, other) is not Sameness.SAME


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (TICK, EXACT, EXACT),
        (EXACT, TICK, EXACT),
        (UNKNOWN, TICK, TICK),
        (TICK, UNKNOWN, TICK),
        (UNKNOWN, EXACT, EXACT),
        (EXACT, UNKNOWN, EXACT),
        (UNKNOWN, UNKNOWN, UNKNOWN),
    ],
)
def test_the_reading_that_says_more_wins(
    one: ProcessKey, other: ProcessKey, expected: ProcessKey
) -> None:
    assert more_exact(one, other) == expected


@given(keys, keys)
def test_no_precision_is_lost_by_choosing(one: ProcessKey, other: ProcessKey) -> None:
    best = more_exact(one, other)
    assert best in {one, other}
    assert best.is_exact is (one.is_exact or other.is_exact)
    assert bool(best.start_time_ns) is bool(one.start_time_ns or other.start_time_ns)


def test_a_process_has_one_entity_id_however_it_was_learnt() -> None:
    assert entity_id(BOOT, TICK) == entity_id(BOOT, EXACT)


def test_the_entity_id_depends_on_boot_and_pid_and_start() -> None:
    others = [
        entity_id("fedcba98-7654-3210-0123-456789abcdef", EXACT),
        entity_id(BOOT, ProcessKey(8, EXACT.start_time_ns)),
        entity_id(BOOT, ProcessKey(7, 4 * TICK_NS)),
    ]
    assert entity_id(BOOT, EXACT) not in others
    assert len(set(others)) == len(others)


def test_an_unknown_start_gives_no_entity_id() -> None:
    assert entity_id(BOOT, UNKNOWN) is None


def test_a_tick_is_what_the_kernel_counts_for_user_space() -> None:
    assert os.sysconf("SC_CLK_TCK") * TICK_NS == 1_000_000_000


def test_ticks_are_what_proc_shows() -> None:
    shown = int(Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()[19])
    key = ProcessKey(os.getpid(), shown * TICK_NS)
    assert key.ticks == shown
    assert not key.is_exact
    assert ProcessKey(os.getpid(), shown * TICK_NS + TICK_NS - 1).ticks == shown
