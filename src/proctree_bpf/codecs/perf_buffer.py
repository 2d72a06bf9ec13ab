"""What was read from a perf ring -> the samples in it. Pure.

The layout is that of include/uapi/linux/perf_event.h: records of a multiple of 8 bytes, each
headed by its type (32 bits), 16 bits that do not matter here, and its size (16 bits).
A raw sample goes on with the 32-bit size of its data, which the kernel pads until the
record ends with them (perf_prepare_sample); so the record's size is enough.
"""

from __future__ import annotations

import struct

from proctree_bpf.errors import DecodeError

PERF_RECORD_SAMPLE = 9
SAMPLE_HEAD = 12
_LEAST = 16  # of a record: none that comes here is but its head
_HEAD = struct.Struct("=IxxH")


def take_samples(cpu: int, data: bytes, samples: list[tuple[int, bytes]]) -> None:
    """Append (CPU, bytes) for each sample; other records (losses, which BPF counts) are left out.

    Raises:
        DecodeError: from somewhere on, these are no records; those before it are appended.

    """
    end = len(data)
    if end % 8:
        raise DecodeError(f"{end} bytes of a perf ring are no whole words")
    append, unpack = samples.append, _HEAD.unpack_from
    at = 0
    while at < end:
        kind, size = unpack(data, at)
        following = at + size
        if size < _LEAST or size & 7 or following > end:
            raise DecodeError(f"a perf record of {size} bytes, where {end - at} are left")
        if kind == PERF_RECORD_SAMPLE:
            append((cpu, data[at + SAMPLE_HEAD : following]))
        at = following
