"""The reader leaves the CPU to those who are watched, and takes it when there is need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.cli.tracing.priority import ReaderPriority
from proctree_bpf.sources.base import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

_LATE_NS = 1_000_000
EMPTY = Waiting(1, 0.0, 0.0, 0)


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture
def priority() -> Iterator[ReaderPriority]:
    before = niceness()
    yield ReaderPriority(_LATE_NS)
    os.setpriority(os.PRIO_PROCESS, 0, before)


def while_working(priority: ReaderPriority, waiting: Waiting) -> int:
    """Return the niceness at which what waits is worked on."""
    priority.before_receiving()
    priority.before_working(waiting)
    return niceness()


def test_with_room_in_the_buffers_it_works_after_all_others(priority: ReaderPriority) -> None:
    for waiting in (EMPTY, Waiting(1, 0.2, 0.0, 0), Waiting(1, 0.0, 0.7, _LATE_NS - 1)):
        assert while_working(priority, waiting) == 19


def test_it_receives_like_others(priority: ReaderPriority) -> None:
    before = niceness()
    while_working(priority, EMPTY)
    priority.before_receiving()
    assert niceness() == before


@pytest.mark.parametrize(
    "waiting",
    [
        Waiting(1, 0.3, 0.0, 0),
        Waiting(1, 0.0, 0.8, 0),
        Waiting(1, 0.0, 0.0, _LATE_NS + 1),
        Waiting(1, 0.0, 0.0, 0, is_mending=True),
    ],
    ids=["a ring is short of room", "memory is short of room", "it gets late", "it mends"],
)
def test_if_there_is_need_it_works_like_others_until_it_has_caught_up(
    priority: ReaderPriority, waiting: Waiting
) -> None:
    before = niceness()
    while_working(priority, EMPTY)
    assert while_working(priority, waiting) == before
    assert while_working(priority, Waiting(1, 0.0, 0.3, 0)) == before
    assert while_working(priority, EMPTY) == 19


@pytest.mark.parametrize("waiting", [Waiting(1, 0.6, 0.0, 0), Waiting(1, 0.0, 1.0, 0)])
def test_while_the_kernels_buffers_fill_it_goes_first(
    priority: ReaderPriority, waiting: Waiting
) -> None:
    before = niceness()
    assert while_working(priority, waiting) == min(before, -15)
    priority.before_receiving()
    assert niceness() == min(before, -15)
    assert while_working(priority, Waiting(1, 0.1, 0.4, 0)) == min(before, -15)
    assert while_working(priority, EMPTY) == 19


def test_without_the_privilege_nothing_changes() -> None:
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        before, priority = niceness(), ReaderPriority(_LATE_NS)
        same = all(
            while_working(priority, waiting) == before
            for waiting in (EMPTY, Waiting(1, 1.0, 1.0, 0))
        )
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_once_it_has_stopped_it_goes_before_others_to_its_end(priority: ReaderPriority) -> None:
    before = niceness()
    while_working(priority, EMPTY)
    priority.before_finishing()
    assert niceness() == min(before, -15)
    priority.before_receiving()
    assert niceness() == min(before, -15)
