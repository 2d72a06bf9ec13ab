"""A ring is read whole, wherever in it the records lie, and only what was read is given back."""

from __future__ import annotations

import mmap
import random
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import SourceUnavailableError
from proctree_bpf.codecs.sample_decoder import take_samples
from proctree_bpf.sources.rings import perf_ring, perf_rings
from proctree_bpf.sources.rings.perf_ring import Barrier, Ring
from proctree_bpf.sources.rings.perf_rings import PerfRings, cpus_in
from support.fake_ring import FakeRing, lost, padded, sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WHOLE = mmap.PAGESIZE
_FAR = 2**40


def read(ring: Ring) -> list[bytes]:
    """Read as a drain does."""
    samples: list[tuple[int, bytes]] = []
    head = ring.head()
    data = ring.copy(head)
    ring.release(head)
    take_samples(0, data, samples)
    return [data for _, data in samples]


@pytest.mark.parametrize("turns", [0, 1, _FAR])
@pytest.mark.parametrize("offset", range(0, _WHOLE, 8))
def test_records_are_read_wherever_the_ring_wraps(offset: int, turns: int) -> None:
    fake = FakeRing(at=turns * _WHOLE + offset)
    ring = Ring(memoryview(fake.memory))
    datas = [bytes([size]) * size for size in (3, 100, 200, 57)]
    for data in datas:
        assert fake.write(sample(data))
    assert read(ring) == [padded(data) for data in datas]
    assert fake.tail == fake.head
    assert ring.waiting() == 0


@pytest.mark.parametrize("offset", [0, 8, _WHOLE // 2, _WHOLE - 8])
def test_a_record_may_be_as_large_as_the_ring(offset: int) -> None:
    fake = FakeRing(at=offset)
    ring = Ring(memoryview(fake.memory))
    data = bytes(range(251)) * 16
    largest = data.ljust(_WHOLE - 12, b"x")
    assert not fake.write(sample(largest + b"."))
    assert fake.write(sample(largest))
    assert ring.fill() == 1.0
    assert read(ring) == [largest]


def test_no_record_is_read_twice_or_left_out_however_the_reader_keeps_up() -> None:
    """The truth is what the writer had room for."""
    chance = random.Random(1)  # noqa: S311 - not for secrets
    fake = FakeRing(pages=2)
    ring = Ring(memoryview(fake.memory))
    written: list[bytes] = []
    got: list[bytes] = []
    for number in range(5000):
        data = number.to_bytes(4, "little") * chance.randrange(1, 200)
        if fake.write(sample(data)):
            written.append(padded(data))
        elif chance.random() < 0.5:
            fake.write(lost(1))
        if chance.random() < 0.1:
            got += read(ring)
    assert got + read(ring) == written
    assert len(written) > 500


def test_what_is_written_after_the_head_was_read_waits_for_the_next_time() -> None:
    fake = FakeRing()
    ring = Ring(memoryview(fake.memory))
    fake.write(sample(b"first"))
    head = ring.head()
    fake.write(sample(b"second"))
    assert ring.copy(head) == sample(b"first")
    ring.release(head)
    assert fake.tail == head
    assert read(ring) == [padded(b"second")]


def test_the_fill_is_the_share_that_waits() -> None:
    fake = FakeRing()
    ring = Ring(memoryview(fake.memory))
    assert ring.fill() == 0.0
    fake.write(sample(bytes(_WHOLE // 4 - 12)))
    assert ring.fill() == 0.25
    fake.write(sample(bytes(_WHOLE // 2 - 12)))
    assert ring.fill() == 0.75
    read(ring)
    assert ring.fill() == 0.0


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        (b"0\n", {0}),
        (b"0-3\n", {0, 1, 2, 3}),
        (b"0,2-3,8\n", {0, 2, 3, 8}),
        (b"\n", set()),
        (b"0-1,126-127,4095\n", {0, 1, 126, 127, 4095}),
    ],
)
def test_the_list_of_cpus_is_understood(text: bytes, cpus: set[int]) -> None:
    assert cpus_in(text) == cpus


def test_between_the_numbers_and_the_data_there_is_a_barrier_for_all_rings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Read a head, barrier, copy, barrier, write a tail: see the first lines of perf_ring.py."""
    done: list[str] = []

    class Told(Ring):
        def head(self) -> int:
            done.append("head")
            return super().head()

        def copy(self, head: int) -> bytes:
            done.append("copy")
            return super().copy(head)

        def release(self, head: int) -> None:
            done.append("release")
            super().release(head)

    fakes = [FakeRing(), FakeRing()]
    monkeypatch.setattr(perf_rings, "Barrier", lambda: lambda: done.append("barrier"))
    monkeypatch.setattr(perf_rings, "PerfEvent", lambda cpu, _: FakeEvent(cpu, Told, fakes[cpu]))
    online = tmp_path / "online"
    online.write_text("0-1\n")
    rings = PerfRings(lambda _cpu, _fd: None, 1, online)
    for fake in fakes:
        fake.write(sample(b"x"))
    assert rings.take() == [(0, sample(b"x")), (1, sample(b"x"))]
    barriers = [place for place, what in enumerate(done) if what == "barrier"]
    first, second = barriers
    assert set(done[:first]) == {"head"}
    assert done[first + 1 : second] == ["copy"] * 2
    assert done[second + 1 :] == ["release"] * 2
    assert rings.take() == []
    assert done.count("barrier") == 2, "nothing was there to be read"
    rings.close()


class FakeEvent:
    """Has a ring of which no kernel knows."""

    fd = -1

    def __init__(self, cpu: int, ring: type[Ring], fake: FakeRing) -> None:
        self.cpu = cpu
        self.ring = ring(memoryview(fake.memory))

    def close(self) -> None:
        """Nothing was opened."""


class TestBarrier:
    """Where the processor does not keep the order, the kernel is asked to."""

    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """What makes this machine one of another kind."""
        here = perf_ring._machine()

        def pretend(**changes: int) -> None:
            other = here._replace(**changes)
            monkeypatch.setattr(perf_ring, "_machine", lambda: other)

        return pretend

    def test_the_kernel_makes_one_where_it_is_needed(self, machine: Callable[..., None]) -> None:
        machine(keeps_order=False)
        barrier = Barrier()
        assert barrier.is_needed
        barrier()

    def test_without_the_system_call_there_is_a_reason(self, machine: Callable[..., None]) -> None:
        machine(keeps_order=False, membarrier=100_000)
        with pytest.raises(SourceUnavailableError, match=r"membarrier.*not implemented"):
            Barrier()

    def test_where_the_order_is_kept_it_is_not_even_asked_for(
        self, machine: Callable[..., None]
    ) -> None:
        machine(keeps_order=True, membarrier=100_000)
        barrier = Barrier()
        barrier()
        assert not barrier.is_needed

    @pytest.mark.parametrize(
        ("name", "needed"), [("x86_64", False), ("aarch64", True)], ids=["x86-64", "arm64"]
    )
    def test_arm64_needs_it_and_x86_64_does_not(self, name: str, needed: bool) -> None:  # noqa: FBT001
        assert perf_ring._MACHINES[name].keeps_order != needed

    def test_another_kind_of_machine_is_refused_with_its_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(perf_ring, "_MACHINES", {})
        with pytest.raises(SourceUnavailableError, match="perf buffers on "):
            Barrier()
