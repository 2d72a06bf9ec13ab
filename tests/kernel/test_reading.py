"""How the programs read the kernel's structures: see bpf/reading.h."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfOptions, BpfSource, Exec, Exit, Fork
from proctree_bpf.codecs import kernel_layout
from proctree_bpf.codecs.kernel_layout import layout_macros
from proctree_bpf.codecs.sample_decoder import MAX_COPIES
from proctree_bpf.filters.kernel_port import KernelFilterSpec
from support.polled_source import events_until_now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.codecs.btf import Btf
    from support.actor import Helpers

_RAW_TRACEPOINT, _TRACING = 17, 26
_BY_NAME, _BY_FILE = KernelFilterSpec(("nobody",)), KernelFilterSpec((), ("/none",))


@contextmanager
def _opened(sought: KernelFilterSpec | None) -> Iterator[BpfSource]:
    source = BpfSource(BpfOptions(kernel_filter_spec=sought, program_cache=None))
    source.open()
    try:
        yield source
    finally:
        source.close()


def _kinds(source: BpfSource) -> set[int]:
    """Return as what the kernel has taken the programs."""
    assert source._program is not None
    fds = [fd for copies in source._program._functions for fd in copies]
    texts = [Path(f"/proc/self/fdinfo/{fd}").read_text() for fd in fds]
    return {
        int(line.split()[1])
        for text in texts
        for line in text.splitlines()
        if line.startswith("prog_type:")
    }


def _told_of_a_child(source: BpfSource, helpers: Helpers) -> Counter[type]:
    program = os.fspath(helpers.quit)
    pid = os.posix_spawn(program, [program, "0"], {})
    os.waitpid(pid, 0)
    return Counter(type(event) for event in events_until_now(source) if event.key.pid == pid)


@pytest.mark.parametrize(
    ("sought", "copies"),
    [(None, 1), (_BY_NAME, 1), (_BY_FILE, MAX_COPIES)],
    ids=["all", "by name", "by file and in copies"],
)
def test_the_kernel_knows_the_types_of_what_the_programs_read(
    monkeypatch: pytest.MonkeyPatch, sought: KernelFilterSpec | None, copies: int
) -> None:
    def macros(btf: Btf) -> dict[str, int]:
        return {**layout_macros(btf), "COPIES": copies}

    monkeypatch.setattr(kernel_layout, "layout_macros", macros)
    with _opened(sought) as source:
        assert source.filter_refusal is None
        assert _kinds(source) == {_TRACING}


@pytest.mark.parametrize("sought", [None, _BY_FILE], ids=["all", "by file"])
def test_where_it_does_not_the_programs_read_by_a_helper(
    monkeypatch: pytest.MonkeyPatch, helpers: Helpers, sought: KernelFilterSpec | None
) -> None:
    def macros(btf: Btf) -> dict[str, int]:
        found = layout_macros(btf)
        fork = found["TYPE_OF_sched_process_fork"]
        return {**found, "TYPE_OF_sched_process_fork": found["TYPE_OF_task_rename"],
                "TYPE_OF_task_rename": fork}  # fmt: skip

    monkeypatch.setattr(kernel_layout, "layout_macros", macros)
    with _opened(sought) as source:
        assert source.filter_refusal is None
        assert _kinds(source) == {_RAW_TRACEPOINT}
        assert _told_of_a_child(source, helpers) == {Fork: 1, Exec: 1, Exit: 1}


@pytest.mark.parametrize("sought", [None, _BY_NAME], ids=["all", "by name"])
def test_where_the_kernel_does_not_say_who_adopts_the_source_does(
    monkeypatch: pytest.MonkeyPatch, helpers: Helpers, sought: KernelFilterSpec | None
) -> None:
    def macros(btf: Btf) -> dict[str, int]:
        return {name: at for name, at in layout_macros(btf).items() if "REAPER" not in name}

    monkeypatch.setattr(kernel_layout, "layout_macros", macros)
    with _opened(sought) as source:
        assert source.filter_refusal is None
        assert source.blind_spots == ("who adopts an orphan, until its next exec or exit",)
        assert _told_of_a_child(source, helpers) == {Fork: 1, Exec: 1, Exit: 1}
