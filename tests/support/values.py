"""Changed copies of values, whatever they are made of, and their kinds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

import msgspec

from proctree_bpf.core.events import EVENT_KINDS

if TYPE_CHECKING:
    from proctree_bpf.core.events import ProcEvent

T = TypeVar("T")


def kind_of(event: ProcEvent) -> str:
    """Return what a record calls an event of this kind."""
    return EVENT_KINDS[type(event)]


def replace(value: T, **changes: object) -> T:
    """Return a copy of a struct or a dataclass with other contents."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
