"""What tests of the core share."""

from __future__ import annotations

import pytest

from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from support.sample_events import SNAPSHOT, USERS


@pytest.fixture
def tracker() -> Tracker:
    """Return a tracker that knows init and a shell from a snapshot."""
    tracker = Tracker(PidTree(), ProcCache(), USERS.get)
    tracker.merge_snapshot(SNAPSHOT)
    return tracker
