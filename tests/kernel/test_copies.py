"""Where the kernel may skip a program, others stand behind it: see bpf/sending.bpf.c."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfOptions, BpfSource, Exec, Exit, Fork, SourceUnavailableError
from proctree_bpf.codecs import kernel_layout
from proctree_bpf.codecs.kernel_layout import layout_macros
from proctree_bpf.codecs.sample_decoder import MAX_COPIES
from proctree_bpf.filters.kernel_port import KernelFilterSpec
from proctree_bpf.sources.loading import compiling
from proctree_bpf.sources.loading.bpf_program import BpfProgram
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf import ProcEvent
    from proctree_bpf.codecs.btf import Btf
    from support.actor import Helpers

_CHILDREN = 50


@pytest.fixture
def first() -> int:
    """Which copy is the first to be attached: those before it are as if always skipped."""
    return 0


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, first: int) -> Iterator[BpfSource]:
    """A source with as many copies as there can be, whatever the kernel needs."""

    def macros(btf: Btf) -> dict[str, int]:
        return {**layout_macros(btf), "COPIES": MAX_COPIES}

    def attach(program: BpfProgram) -> None:
        program._attach_copies(program._functions[first:])

    monkeypatch.setattr(kernel_layout, "layout_macros", macros)
    if first:
        monkeypatch.setattr(BpfProgram, "attach", attach)
    source = BpfSource(
        BpfOptions(kernel_filter_spec=KernelFilterSpec(("nobody",), ("/none",)), program_cache=None)
    )
    source.open()
    assert source.filter_refusal is None
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


@pytest.mark.parametrize("first", range(1, MAX_COPIES))
def test_what_those_before_it_are_skipped_for_a_copy_tells(
    source: BpfSource, helpers: Helpers
) -> None:
    told, gaps = _told(source, helpers)
    assert told == {Fork: _CHILDREN, Exec: _CHILDREN, Exit: _CHILDREN}
    assert gaps == 0


def _open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that the directory was read through
            found.append(os.fspath(link.readlink()))
    return sorted(found)


def test_of_copies_that_were_loaded_nothing_stays_when_another_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program that is loaded last reads through a pointer that may be NULL."""
    shutil.copytree(compiling.bpf_directory(), tmp_path / "bpf")
    program = tmp_path / "bpf" / "proctree.bpf.c"
    text = program.read_text().replace("int on_rename(", "int unused(")
    program.write_text(
        text + "int on_rename(void *ctx)\n{ u32 k = copy_number();"
        " struct pt_counters *c = counters.lookup(&k); return c->begun[0]; }\n"
    )

    def macros(btf: Btf) -> dict[str, int]:
        return {**layout_macros(btf), "COPIES": MAX_COPIES}

    monkeypatch.setattr(kernel_layout, "layout_macros", macros)
    monkeypatch.setattr(compiling, "bpf_directory", lambda: tmp_path / "bpf")
    before = _open_files()
    with pytest.raises(SourceUnavailableError, match="did not load"):
        BpfSource(BpfOptions(program_cache=None)).open()
    assert _open_files() == before
