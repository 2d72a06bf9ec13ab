"""CPUs really go out of service and come back, and what runs on them is told of.

The first module to run, whatever the order of the others: who watches the machine meanwhile
cannot but lose what happens on a CPU before its ring is there, and the collector that all
tests share must not.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfOptions, BpfSource, Exec, Exit, Fork
from proctree_bpf.sources.rings.perf_ring import OfflineError, PerfEvent
from support.polled_source import PolledSource
from support.program import json_lines, tracing
from support.spawner import Spawner, records_of, unique
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.actor import Helpers

_CPUS = Path("/sys/devices/system/cpu")
_COUNT = 40
_ALL = {Fork: _COUNT, Exec: _COUNT, Exit: _COUNT}


def spare() -> int | None:
    """Return a CPU that may be taken out of service, if there is one."""
    for cpu in sorted(os.sched_getaffinity(0), reverse=True)[:-1]:
        if os.access(_CPUS / f"cpu{cpu}" / "online", os.W_OK):
            return cpu
    return None


pytestmark = pytest.mark.skipif(
    spare() is None, reason="this machine has no CPU that can be taken out of service"
)


@pytest.fixture
def cpu() -> int:
    found = spare()
    assert found is not None
    return found


def switch(cpu: int, state: str) -> None:
    (_CPUS / f"cpu{cpu}" / "online").write_text(state)


@contextmanager
def offline(cpu: int) -> Iterator[None]:
    """Have a CPU out of service; whatever happens, it comes back, and we may run on it again."""
    ours = os.sched_getaffinity(0)
    try:
        switch(cpu, "0")
        yield
    finally:
        switch(cpu, "1")
        os.sched_setaffinity(0, ours)


@pytest.fixture
def watched(helpers: Helpers, tmp_path: Path) -> PolledSource:
    return PolledSource(BpfSource(BpfOptions(perf_pages=1024)), helpers, tmp_path)


def test_a_cpu_that_went_and_came_is_heard_and_was_to_its_last_record(
    watched: PolledSource, cpu: int
) -> None:
    with watched:
        before = watched.spawn(unique("before"), _COUNT, cpu)
        with offline(cpu):
            watched.settle()
        watched.settle()
        after = watched.spawn(unique("after"), _COUNT, cpu)
        watched.settle()
        assert watched.kinds(before) == watched.kinds(after) == _ALL
        watched.balances()


def test_one_that_went_and_came_between_two_polls_is_heard_again_once_a_record_failed(
    watched: PolledSource, cpu: int
) -> None:
    with watched:
        watched.settle()
        with offline(cpu):
            pass
        watched.spawn(unique("deaf"), _COUNT, cpu)
        watched.settle()
        watched.settle()  # what others did there before it had a buffer again is counted now
        lost = watched.lost(cpu)
        assert lost
        after = watched.spawn(unique("after"), _COUNT, cpu)
        watched.settle()
        assert watched.kinds(after) == _ALL
        assert watched.lost(cpu) == lost
        watched.balances()


def test_one_that_was_offline_at_the_start_is_heard_when_it_comes(
    watched: PolledSource, cpu: int
) -> None:
    with ExitStack() as until_the_end:
        with offline(cpu):
            with pytest.raises(OfflineError):
                PerfEvent(cpu, 8)
            until_the_end.enter_context(watched)
        watched.settle()
        sent = watched.spawn(unique("late"), _COUNT, cpu)
        watched.settle()
        assert watched.kinds(sent) == _ALL
        watched.balances()


def test_the_program_hears_a_cpu_that_came_back(helpers: Helpers, tmp_path: Path, cpu: int) -> None:
    """It is told on a timer, so it is tried until all is heard."""
    tokens: list[str] = []
    with tracing("-f", "jsonl", "-e", "exec", "--perf-pages", "1024") as trace:
        with offline(cpu):
            pass

        def is_heard() -> bool:
            tokens.append(unique(f"again-{len(tokens)}"))
            Spawner(helpers, tmp_path, tokens[-1], _COUNT, cpu=cpu).finish()
            return any(
                len(records_of(_whole(trace.out()), "exec", token)) == _COUNT for token in tokens
            )

        wait_until("all that runs there", is_heard)
        assert trace.stop().code == 0


def _whole(text: str) -> list[dict[str, object]]:
    return json_lines(text[: text.rfind("\n") + 1])
