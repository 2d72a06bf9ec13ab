"""Where the kernel may skip a program, others stand behind it: see bpf/sending.bpf.c."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfSource, Exec, Exit, Fork
from proctree_bpf.codecs.kernel_layout import layout_macros
from proctree_bpf.codecs.perf_records import MAX_COPIES
from proctree_bpf.sources import bpf
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf import ProcEvent
    from proctree_bpf.codecs.btf import Btf
    from proctree_bpf.sources.bcc_program import BccProgram
    from support.actor import Helpers

_CHILDREN = 50


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[BpfSource]:
    """A source with as many copies as there can be, whatever the kernel needs."""

    def macros(btf: Btf) -> dict[str, int]:
        return {**layout_macros(btf), "COPIES": MAX_COPIES}

    monkeypatch.setattr(bpf, "layout_macros", macros)
    source = BpfSource()
    source.open()
    yield source
    source.close()


def _told(source: BpfSource, helpers: Helpers) -> tuple[Counter[type], int]:
    """Run some children; return what was told of them, and how many gaps there were."""
    program = os.fspath(helpers.quit)
    pids = []
    for _ in range(_CHILDREN):
        pids.append(os.posix_spawn(program, [program, "0"], {}))
        os.waitpid(pids[-1], 0)
    done_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    events: list[ProcEvent] = []
    gaps = 0

    def all_came() -> bool:
        nonlocal gaps
        delivery = source.poll()
        events.extend(delivery.events)
        gaps += len(delivery.gaps)
        return delivery.watermark_ns > done_ns

    wait_until("all that happened", all_came)
    return Counter(type(event) for event in events if event.key.pid in pids), gaps


def test_of_all_copies_one_tells_of_an_event(source: BpfSource, helpers: Helpers) -> None:
    told, gaps = _told(source, helpers)
    assert told == {Fork: _CHILDREN, Exec: _CHILDREN, Exit: _CHILDREN}
    assert gaps == 0
    assert source.stats()["missed"] == 0


def test_what_the_first_one_is_skipped_for_the_next_one_tells(
    source: BpfSource, helpers: Helpers
) -> None:
    program = source._program
    assert program is not None
    for first in range(1, MAX_COPIES):
        _attach_only(program, first)
        told, gaps = _told(source, helpers)
        assert told == {Fork: _CHILDREN, Exec: _CHILDREN, Exit: _CHILDREN}
        assert gaps == 0
    assert source.stats()["taken_over"] >= 2 * 3 * _CHILDREN


def _attach_only(program: BccProgram, first: int) -> None:
    """Detach the copies before one, which is what the kernel does when it skips them."""
    copies, program._functions = program._functions, program._functions[first - 1 :]
    program.detach()
    program._attach_copies()
    program._functions = copies
