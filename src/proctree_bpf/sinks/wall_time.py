"""Times as people and log stores read them. Pure: the offset of the clocks is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

_SECOND_NS = 1_000_000_000
_MILLI_NS = 1_000_000
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_MANY_DAYS = 1000
_MANY_SECONDS = 1_000_000
_NEVER_NS = 1 << 80
_MILLIS = tuple(f"{milli:03d}" for milli in range(1000))


@lru_cache(maxsize=4096)
def _utc_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=64)
def _local_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).astimezone().strftime("%H:%M:%S")


def utc_timestamp(wall_ns: int) -> str:
    """Return RFC 3339 in UTC with ns, ``2026-01-02T03:04:05.678901234Z``."""
    second, rest = divmod(wall_ns, _SECOND_NS)
    return f"{_utc_second(second)}.{rest:09d}Z"


class UtcStamps:
    """Makes RFC 3339 times in UTC of times that are close to each other.

    Args:
        wall_offset_ns: what to add to CLOCK_BOOTTIME to get UTC.

    """

    def __init__(self, wall_offset_ns: int) -> None:
        self._offset = wall_offset_ns
        self._begin_ns = _NEVER_NS
        self._form = ""

    def of(self, boottime_ns: int) -> str:
        """Return the time in UTC."""
        rest = boottime_ns - self._begin_ns
        if not 0 <= rest < _SECOND_NS:
            second, rest = divmod(boottime_ns + self._offset, _SECOND_NS)
            self._begin_ns = boottime_ns - rest
            self._form = f"{_utc_second(second)}.%09dZ"
        return self._form % rest


def local_time_of_day(wall_ns: int) -> str:
    """Return the local time with ms, ``03:04:05.678``."""
    second, rest = divmod(wall_ns, _SECOND_NS)
    return f"{_local_second(second)}.{_MILLIS[rest // 1_000_000]}"


@dataclass(slots=True)
class TraceClock:
    """Turns the times of events into what people read.

    Attributes:
        wall_offset_ns: what to add to CLOCK_BOOTTIME to get UTC.
        utc: show the time of day in UTC, not in the local time zone.
        started_ns: when the trace began; if nobody says, when it was first asked for.

    """

    wall_offset_ns: int
    utc: bool = False
    started_ns: int | None = None
    _begin_ns: int = field(default=_NEVER_NS, init=False, repr=False, compare=False)
    _text: str = field(default="", init=False, repr=False, compare=False)

    def time_of_day(self, boottime_ns: int) -> str:
        """Return the time with ms, ``03:04:05.678``."""
        if not 0 <= boottime_ns - self._begin_ns < _MILLI_NS:
            wall_ns = boottime_ns + self.wall_offset_ns
            self._begin_ns = boottime_ns - wall_ns % _MILLI_NS
            self._text = utc_timestamp(wall_ns)[11:23] if self.utc else local_time_of_day(wall_ns)
        return self._text

    def since_start(self, boottime_ns: int) -> str:
        """Return the seconds since the trace began, ``12.345``: ten characters for decades."""
        if self.started_ns is None:
            self.started_ns = boottime_ns
        seconds, rest = divmod(max(boottime_ns - self.started_ns, 0), _SECOND_NS)
        return f"{seconds}.{rest // 1_000_000:03d}" if seconds < _MANY_SECONDS else str(seconds)


def duration(ns: int) -> str:
    """Return a time span in at most seven characters.

    For example 250us, 3.1ms, 12.0s, 5m07s, 3h20m, 12d04h, 1234d.
    """
    micros = ns // 1000 if ns > 0 else 0
    if micros < 1000:  # noqa: PLR2004 - a millisecond
        return f"{micros}us"
    if micros < 999_950:  # noqa: PLR2004 - what rounds to less than a second
        return f"{micros / 1000:.1f}ms"
    if micros < 59_950_000:  # noqa: PLR2004 - what rounds to less than a minute
        return f"{micros / 1_000_000:.1f}s"
    seconds = max(micros // 1_000_000, _MINUTE_S)
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S}m{seconds % _MINUTE_S:02d}s"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S}h{seconds % _HOUR_S // _MINUTE_S:02d}m"
    days = seconds // _DAY_S
    return f"{days}d{seconds % _DAY_S // _HOUR_S:02d}h" if days < _MANY_DAYS else f"{days}d"
