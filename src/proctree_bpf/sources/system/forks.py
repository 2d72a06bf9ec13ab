"""Forks of the program that uses us: what their child must leave alone.

A child has copies of all our objects, and of descriptors that lead to what its parent
still uses. It must neither tidy up what is its parent's nor find this process in a state
that was to last for a moment only.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet

momentary = threading.RLock()
"""Held while this whole process is not as a child should find it; a fork waits for its end."""


class Owner(Protocol):
    """Holds what is not for a child of this process."""

    def leave_to_parent(self) -> None:
        """Let go of it without changing it; called in the child."""


_owners: WeakSet[Owner] = WeakSet()


def owned_by(owner: Owner) -> None:
    """Have ``leave_to_parent`` called in each child that is forked while the owner exists."""
    _owners.add(owner)


def _after_in_child() -> None:
    momentary.release()
    for owner in list(_owners):
        owner.leave_to_parent()


os.register_at_fork(
    before=momentary.acquire, after_in_parent=momentary.release, after_in_child=_after_in_child
)
