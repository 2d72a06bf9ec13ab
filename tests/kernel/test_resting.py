"""A reader to whom nothing is sent takes no part in the machine's work, and misses nothing."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proctree_bpf import Exit
from support.random_family import RandomFamily
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from support.actor import Helpers
    from support.filtered_pipeline import FilteredPipeline

_WATCHED_S = 1.0
_PUMPS_A_SECOND = 10
_PATIENCE_S = 60.0
_FAMILIES = 20


@dataclass
class Until:
    """Ends a run at a time, or when something holds."""

    seconds: float
    condition: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.seconds

    def is_set(self) -> bool:
        return time.monotonic() > self._deadline or self.condition()

    def wait(self, timeout: float | None = None) -> bool:
        time.sleep(timeout or 0)
        return self.is_set()


def run_until_ended(filtered: FilteredPipeline, pids: set[int]) -> None:
    def has_told() -> bool:
        return pids <= {process_event.event.key.pid for process_event in filtered.of(Exit)}

    filtered.pipeline.run(Until(_PATIENCE_S, has_told))
    assert has_told()


def test_it_only_glances_at_a_source_in_which_nothing_happens(
    begun: Callable[..., FilteredPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered = begun("ancestor=nobody-has-this")
    filtered.until_on()
    polled = itertools.count()
    receive = filtered.source.receive
    monkeypatch.setattr(filtered.source, "receive", lambda: (next(polled), receive())[1])
    filtered.pipeline.run(Until(_WATCHED_S))
    assert 1 < next(polled) <= _WATCHED_S * _PUMPS_A_SECOND + 2


def test_what_happens_wakes_it(
    begun: Callable[..., FilteredPipeline], helpers: Helpers, tmp_path: Path
) -> None:
    filtered = begun("ancestor=kinsman")
    filtered.until_on()
    filtered.pipeline.pump()  # what was sent while the filter was set
    for seed in range(_FAMILIES):
        assert filtered.source.is_quiet(), "nothing has happened since the last poll"
        clan = RandomFamily(helpers, tmp_path, "kinsman", 1, seed)
        truth = clan.finish()
        assert not filtered.source.is_quiet()
        run_until_ended(filtered, {pid for pid, *_ in truth.exits})
        filtered.pipeline.pump()
    assert filtered.gaps == []


def test_it_does_not_rest_before_the_filter_is_set(begun: Callable[..., FilteredPipeline]) -> None:
    filtered = begun("ancestor=nobody-has-this")
    filtered.until_on()

    def rests() -> bool:
        filtered.pipeline.pump()  # also what was sent while the filter was set
        return filtered.pipeline._may_rest()

    wait_until("it rests", rests)
    filtered.hand_over_again()
    assert not filtered.pipeline._may_rest()
