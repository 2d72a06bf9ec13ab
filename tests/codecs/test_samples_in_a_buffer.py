"""What was copied from a perf ring is cut into its samples."""

from __future__ import annotations

import struct

import pytest

from proctree_bpf.codecs.sample_decoder import take_samples
from proctree_bpf.errors import DecodeError
from support.fake_ring import SAMPLE, THROTTLE, lost, padded, sample


def taken(data: bytes, cpu: int = 3) -> list[tuple[int, bytes]]:
    samples: list[tuple[int, bytes]] = []
    take_samples(cpu, data, samples)
    return samples


@pytest.mark.parametrize("size", range(1, 25))
def test_a_sample_is_its_data_with_the_kernels_padding(size: int) -> None:
    data = bytes(range(1, size + 1))
    ((cpu, got),) = taken(sample(data))
    assert cpu == 3
    assert got[:size] == data
    assert got[size:] == b"\0" * (len(got) - size)
    assert len(got) % 8 == 4


def test_samples_come_in_their_order_of_any_length() -> None:
    datas = [bytes([size % 251]) * size for size in (100, 1, 4096, 37, 32_768, 65_000)]
    assert taken(b"".join(map(sample, datas))) == [(3, padded(data)) for data in datas]


def test_nothing_is_taken_from_nothing() -> None:
    assert taken(b"") == []


def test_records_that_are_no_samples_are_left_out() -> None:
    throttle = struct.pack("=IHHQQQ", THROTTLE, 0, 32, 1, 2, 3)
    data = lost(5) + sample(b"one") + throttle + lost(1) + sample(b"two") + lost(9)
    assert taken(data) == [(3, padded(b"one")), (3, padded(b"two"))]


@pytest.mark.parametrize(
    "torn",
    [
        struct.pack("=IHH", SAMPLE, 0, 0),
        struct.pack("=IHH", 0, 0, 0),
        struct.pack("=IHH", SAMPLE, 0, 8),
        struct.pack("=IHH", SAMPLE, 0, 13) + bytes(8),
        struct.pack("=IHH", 2, 0, 12) + bytes(8),
        struct.pack("=IHH", SAMPLE, 0, 0xFFF8) + bytes(8),
        sample(b"a sample that goes on")[:-8],
        lost(1)[:-8],
        sample(b"")[:4],
    ],
    ids=[
        *("no size", "zeros", "no room for data", "odd", "odd and no sample", "beyond the end"),
        *("cut", "cut loss", "half a head"),
    ],
)
def test_what_is_no_record_ends_it_and_what_came_before_is_kept(torn: bytes) -> None:
    samples: list[tuple[int, bytes]] = []
    whole = sample(b"before") if len(torn) % 8 == 0 else b""
    with pytest.raises(DecodeError):
        take_samples(0, whole + torn, samples)
    assert samples == ([(0, padded(b"before"))] if whole else [])
