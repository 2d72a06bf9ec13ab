"""Waits for what is bound to happen: polls with a deadline, never sleeps for a guess."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# More where the machine is an emulated one: see scripts/vm.
PATIENCE_S = float(os.environ.get("PROCTREE_PATIENCE_S", "20"))
_POLL_S = 0.002


def wait_until(what: str, condition: Callable[[], T], seconds: float = PATIENCE_S) -> T:
    """Return the first true value of ``condition()``; fail if there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(_POLL_S)
