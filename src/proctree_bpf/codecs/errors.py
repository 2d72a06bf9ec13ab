"""The one error that leaves a codec."""

from proctree_bpf.errors import DecodeError as DecodeError  # noqa: PLC0414
