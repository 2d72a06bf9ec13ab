"""Which CPUs this machine has, in the kernel's notation: 0-3,8."""

from __future__ import annotations

from pathlib import Path

_DIRECTORY = Path("/sys/devices/system/cpu")


def _listed(name: str) -> list[int]:
    found: list[int] = []
    for part in (_DIRECTORY / name).read_text("ascii").strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def possible() -> list[int]:
    """Return those for which the kernel keeps per-CPU values."""
    return _listed("possible")


def online() -> list[int]:
    """Return those that run now."""
    return _listed("online")
