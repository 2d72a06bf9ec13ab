"""Which CPUs this machine can have."""

from __future__ import annotations

from pathlib import Path

from proctree_bpf.errors import Refusal, SourceUnavailableError
from proctree_bpf.sources.rings.perf_rings import cpus_in
from proctree_bpf.sources.system.causes import what_helps

_POSSIBLE = Path("/sys/devices/system/cpu/possible")


def possible() -> list[int]:
    """Return those for which the kernel keeps per-CPU values.

    Raises:
        SourceUnavailableError: the kernel's list cannot be read.

    """
    try:
        return sorted(cpus_in(_POSSIBLE.read_bytes()))
    except OSError as error:
        raise SourceUnavailableError(
            f"{_POSSIBLE}, the list of CPUs, cannot be read ({error.strerror})",
            what_helps(error, "mount sysfs on /sys"),
            Refusal.UNSUPPORTED,
        ) from error
