"""Times as people and log stores read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proctree_bpf.sinks.wall_time import TraceClock, duration, local_time_of_day, utc_timestamp
from support.hostile_names import unhurried

_US, _MS, _S = 1_000, 1_000_000, 1_000_000_000
_MINUTE, _HOUR, _DAY = 60 * _S, 3600 * _S, 86_400 * _S
_CENTURY = 36_525 * _DAY


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0us"),
        (999, "0us"),
        (250 * _US, "250us"),
        (_MS - 1, "999us"),
        (_MS, "1.0ms"),
        (3_100 * _US, "3.1ms"),
        (_S, "1.0s"),
        (12 * _S, "12.0s"),
        (_MINUTE, "1m00s"),
        (5 * _MINUTE + 7 * _S, "5m07s"),
        (_HOUR - 1, "59m59s"),
        (_HOUR, "1h00m"),
        (3 * _HOUR + 20 * _MINUTE, "3h20m"),
        (_DAY - 1, "23h59m"),
        (_DAY, "1d00h"),
        (12 * _DAY + 4 * _HOUR, "12d04h"),
        (999 * _DAY + 23 * _HOUR, "999d23h"),
        (-5, "0us"),
    ],
)
def test_a_duration_is_shown_in_its_own_unit(ns: int, shown: str) -> None:
    assert duration(ns) == shown


@unhurried
@given(st.integers(min_value=-_S, max_value=_CENTURY))
@example(999_960_000)  # rounds up to the next unit
@example(59_999_999_999)
@example(1000 * _DAY)
@example(_CENTURY)
def test_a_duration_has_at_most_seven_characters(ns: int) -> None:
    assert len(duration(ns)) <= 7


_UNITS = {"us": _US, "ms": _MS, "s": _S, "m": _MINUTE, "h": _HOUR, "d": _DAY}


def _read(text: str) -> float:
    return sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(us|ms|[smhd])", text)
    )


@unhurried
@given(st.integers(min_value=0, max_value=_CENTURY))
@example(999_960_000)
@example(59_960_000_000)
def test_a_duration_is_right_to_within_its_last_digit(ns: int) -> None:
    precision = max(_US, ns // 10) if ns < _MINUTE else max(_S, ns // 24)
    assert abs(_read(duration(ns)) - ns) <= precision


@unhurried
@given(st.integers(0, _CENTURY), st.integers(0, _CENTURY))
def test_a_longer_time_never_looks_shorter(one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert _read(duration(shorter)) <= _read(duration(longer))


@unhurried
@given(st.integers(min_value=0, max_value=4_102_444_800 * _S))
def test_a_timestamp_keeps_every_nanosecond(ns: int) -> None:
    text = utc_timestamp(ns)
    seconds, _, rest = text.partition(".")
    assert re.fullmatch(r"\d{9}Z", rest)
    second = int(datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    assert second * _S + int(rest[:-1]) == ns


def test_a_timestamp_is_rfc_3339() -> None:
    assert utc_timestamp(1_767_323_045_678_901_234) == "2026-01-02T03:04:05.678901234Z"


def test_the_time_of_day_is_local_with_milliseconds() -> None:
    local = datetime.fromtimestamp(1_767_323_045, UTC).astimezone()
    assert local_time_of_day(1_767_323_045_678_901_234) == f"{local:%H:%M:%S}.678"


class TestTraceClock:
    def test_it_shows_the_time_of_day_here_or_in_utc(self) -> None:
        wall_ns = 1_767_323_045_678_901_234
        assert TraceClock(wall_ns - 5, utc=True).time_of_day(5) == "03:04:05.678"
        assert TraceClock(wall_ns - 5).time_of_day(5) == local_time_of_day(wall_ns)

    def test_seconds_count_from_the_start_or_from_when_they_were_first_asked_for(self) -> None:
        assert TraceClock(0, started_ns=2 * _S).since_start(3 * _S + 4_999_999) == "1.004"
        clock = TraceClock(0)
        assert [clock.since_start(7 * _S), clock.since_start(9 * _S)] == ["0.000", "2.000"]

    def test_what_came_while_the_trace_started_is_not_before_it(self) -> None:
        assert TraceClock(0, started_ns=2 * _S).since_start(_S) == "0.000"

    @unhurried
    @given(st.integers(min_value=0, max_value=_CENTURY))
    def test_the_seconds_have_at_most_ten_characters(self, ns: int) -> None:
        assert len(TraceClock(0, started_ns=0).since_start(ns)) <= 10
