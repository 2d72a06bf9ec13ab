"""A map of the filter that can no longer be written: nobody slips through, and it is said."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec
from proctree_bpf.errors import SourceFailedError
from proctree_bpf.filters.kernel_port import Seed
from proctree_bpf.sources.loading.bpf_syscall import create_map
from proctree_bpf.sources.loading.bpf_table import BpfTable
from proctree_bpf.sources.system.clock import boottime_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.filtered_pipeline import FilteredPipeline

_HASH = 1  # enum bpf_map_type
_FREEZE = 22  # enum bpf_cmd: no system call writes to the map any more
_BPF = {"x86_64": 321, "aarch64": 280}


def freeze(table: BpfTable) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(struct.pack("=I124x", table._fd))
    status = libc.syscall(_BPF[os.uname().machine], _FREEZE, attributes, 128)
    assert status == 0, os.strerror(ctypes.get_errno())


def run_wanted(filtered: FilteredPipeline, wanted: str) -> None:
    """Run what is followed by its name; it must be told."""
    with subprocess.Popen([wanted]) as process:
        pass
    filtered.until_told(process.pid, Exec)


def say_a_doubt(filtered: FilteredPipeline) -> None:
    """As the kernel's side does, in a map that can still be written."""
    kernel = filtered.source.kernel_filter
    assert kernel is not None
    assert kernel._fallback.put(bytes(4), struct.pack("=QQ", boottime_ns(), 1))


class TestWhatCannotBeWritten:
    def test_seeds_that_cannot_be_set_leave_the_filter_to_us(
        self, begun: Callable[..., FilteredPipeline], wanted: str
    ) -> None:
        filtered = begun("ancestor=wanted-one")
        kernel = filtered.source.kernel_filter
        assert kernel is not None
        freeze(kernel._seeds)
        filtered.until("it gives up", lambda: filtered.filter_controller.given_up is not None)
        assert "not permitted" in str(filtered.filter_controller.given_up)
        assert not filtered.filter_controller.is_on
        run_wanted(filtered, wanted)

    def test_a_switch_that_cannot_be_set_leaves_the_filter_to_us(
        self, begun: Callable[..., FilteredPipeline], wanted: str
    ) -> None:
        filtered = begun("ancestor=wanted-one")
        kernel = filtered.source.kernel_filter
        assert kernel is not None
        freeze(kernel._control)
        filtered.until("it gives up", lambda: filtered.filter_controller.given_up is not None)
        assert not filtered.filter_controller.is_on
        run_wanted(filtered, wanted)

    def test_what_cannot_be_switched_off_is_made_to_doubt(
        self, begun: Callable[..., FilteredPipeline], wanted: str
    ) -> None:
        """Also somebody who is followed for no reason that the kernel knows is told then."""
        filtered = begun("ancestor=wanted-one")
        filtered.until_on()
        kernel = filtered.source.kernel_filter
        assert kernel is not None
        freeze(kernel._control)
        filtered.filter_controller.send_everything(boottime_ns())
        with subprocess.Popen(["/bin/true"]) as process:
            pass

        def is_applied() -> bool:
            return any(k.pid == process.pid for k in (n.key for n in filtered.tree.all_nodes()))

        filtered.until("everything is sent", is_applied)
        assert filtered.filter_controller.given_up is not None
        run_wanted(filtered, wanted)
        say_a_doubt(filtered)
        run_wanted(filtered, wanted)

    def test_what_can_be_neither_is_an_error(self, begun: Callable[..., FilteredPipeline]) -> None:
        filtered = begun("ancestor=wanted-one")
        filtered.until_on()
        kernel = filtered.source.kernel_filter
        assert kernel is not None
        freeze(kernel._control)
        freeze(kernel._fallback)
        with pytest.raises(SourceFailedError, match="switched off"):
            filtered.filter_controller.send_everything(boottime_ns())

    def test_a_seed_that_cannot_be_taken_back_does_not_come_into_force(
        self, begun: Callable[..., FilteredPipeline]
    ) -> None:
        filtered = begun("ancestor=wanted-one")
        filtered.until_on()
        kernel = filtered.source.kernel_filter
        assert kernel is not None
        kernel.switch_off()
        freeze(kernel._seeds)
        with pytest.raises(PermissionError):
            kernel.switch_on(list[Seed]())
        assert not kernel.is_on


@pytest.fixture
def large() -> Iterator[BpfTable]:
    """A map with more entries than a walk once had steps."""
    fd = create_map("prt_large", (_HASH, 4, 1, 1_050_000, 0))
    yield BpfTable(fd, 4, 1)
    os.close(fd)


def test_a_large_table_is_walked_to_its_end(large: BpfTable) -> None:
    keys = [struct.pack("=I", number) for number in range(1_050_000)]
    assert all(large.put(key, b"\1") for key in keys)
    assert sorted(large.keys()) == sorted(keys)


def test_a_walk_that_never_ends_is_not_taken_for_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_more(table: BpfTable, _which: bytes) -> int:
        """Answer as the kernel where each key is gone when the next one is asked for."""
        table._next_key.raw = b"\1" * 4
        return 0

    monkeypatch.setattr(BpfTable, "_read_next_key", one_more)
    with pytest.raises(OSError, match="faster than it can be read"):
        BpfTable(-1, 4, 1).keys()
