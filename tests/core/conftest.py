"""What tests of the core share."""

from __future__ import annotations

import pytest

from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from support.sample_events import SNAPSHOT, USERS
from support.small_trees import grow


@pytest.fixture
def tracker() -> Tracker:
    """Return a tracker that knows init and a shell from a snapshot."""
    tracker = Tracker(PidTree(), ProcCache(), USERS.get)
    tracker.merge_snapshot(SNAPSHOT)
    return tracker


@pytest.fixture
def tree() -> PidTree:
    """Return a tree of init, daemons, shells and what these run."""
    return grow(
        (1, 0, "init"),
        (10, 1, "sshd"),
        (11, 1, "cron"),
        (20, 10, "bash"),
        (21, 10, "bash"),
        (30, 20, "vim"),
        (31, 20, "make"),
        (40, 31, "cc"),
    )
