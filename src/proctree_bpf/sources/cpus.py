"""Which CPUs this machine can have."""

from __future__ import annotations

from pathlib import Path

from proctree_bpf.sources.perf_rings import cpus_in

_POSSIBLE = Path("/sys/devices/system/cpu/possible")


def possible() -> list[int]:
    """Return those for which the kernel keeps per-CPU values."""
    return sorted(cpus_in(_POSSIBLE.read_bytes()))
