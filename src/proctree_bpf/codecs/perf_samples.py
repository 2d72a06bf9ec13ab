"""What was read from a perf ring -> the samples in it. Pure.

The layout is that of include/uapi/linux/perf_event.h: records of a multiple of 8 bytes, each
headed by its type (32 bits), 16 bits that do not matter here, and its size (16 bits).
A raw sample goes on with the 32-bit size of its data, which the kernel pads until the
record ends with them (perf_prepare_sample); so the record's size is enough.
"""

from __future__ import annotations

from proctree_bpf.codecs.errors import DecodeError

PERF_RECORD_SAMPLE = 9
SAMPLE_HEAD = 12
_HEADER = 8  # of any record; none that comes here is no more than that
_TYPE = 0xFFFF_FFFF
# The type, and the bits of the size that are 0 in a multiple of 8.
_TYPE_OF_WHOLE_WORDS = 0x0007_0000_FFFF_FFFF


def take_samples(cpu: int, data: bytes, samples: list[tuple[int, bytes]]) -> None:
    """Append (CPU, bytes) for each sample; other records (losses, which BPF counts) are left out.

    Raises:
        DecodeError: from somewhere on, these are no records; those before it are appended.

    """
    end = len(data)
    if end % 8:
        raise DecodeError(f"{end} bytes of a perf ring are no whole words")
    words = memoryview(data).cast("Q")
    append = samples.append
    at = 0
    while at < end:
        header = words[at >> 3]
        following = at + (header >> 48)
        if not at + _HEADER < following <= end:
            raise DecodeError(f"a perf record of {header >> 48} bytes, where {end - at} are left")
        if header & _TYPE_OF_WHOLE_WORDS == PERF_RECORD_SAMPLE:
            append((cpu, data[at + SAMPLE_HEAD : following]))
        elif following & 7:
            raise DecodeError(f"a perf record of {header >> 48} bytes, which are no whole words")
        at = following
