"""What was lost, and whether that was told: forest and load beside the gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from truth import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spawner_load import Spawned
    from told import Told


class Loss(NamedTuple):
    """Of one kind of event: how many were told as lost, and how many are known to be missing."""

    kind: str
    told: int
    missing: int

    @property
    def is_silent(self) -> bool:
        """Whether more is missing than was told. Others' events may be lost, too."""
        return self.missing > self.told


def missing_of_load(told: Told, spawned: list[Spawned]) -> dict[str, int]:
    """Count what was not told of a load: each that was spawned is born, execs and ends."""
    return {kind: len(spawned) - told.of_load.get(kind, 0) for kind in KINDS}


def losses(told: Told, missing: Mapping[str, int], of_load: Mapping[str, int]) -> list[Loss]:
    """Return what was lost, by kind."""
    counts = dict.fromkeys(KINDS, 0)
    for lost in told.lost:
        if lost.kind in counts:
            counts[lost.kind] += lost.events or 0
    return [
        Loss(kind, count, missing[kind] + of_load.get(kind, 0)) for kind, count in counts.items()
    ]
