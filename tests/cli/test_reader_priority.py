"""The reader goes before others while the kernel's buffers fill, and only then."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.cli.tracing.priority import ReaderPriority

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture
def priority() -> Iterator[ReaderPriority]:
    before, made = niceness(), ReaderPriority()
    yield made
    os.setpriority(os.PRIO_PROCESS, 0, before)


def test_with_room_in_the_buffers_it_is_like_others(priority: ReaderPriority) -> None:
    before = niceness()
    for fill in (0.0, 0.1, 0.19):
        priority.note(fill)
    assert niceness() == before


def test_while_they_fill_it_goes_first_until_they_are_all_but_empty(
    priority: ReaderPriority,
) -> None:
    before = niceness()
    priority.note(0.5)
    assert niceness() == min(before, -15)
    priority.note(0.1)
    assert niceness() == min(before, -15)
    priority.note(0.0)
    assert niceness() == before


def test_without_the_privilege_nothing_changes() -> None:
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        before, priority = niceness(), ReaderPriority()
        priority.note(1.0)
        priority.note(0.0)
        os._exit(0 if niceness() == before else 1)
    assert os.waitpid(child, 0)[1] == 0
