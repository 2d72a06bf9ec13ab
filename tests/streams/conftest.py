"""What tests of streams share."""

from __future__ import annotations

import pytest

from support.fake_connector import FakeConnector


@pytest.fixture
def scene() -> FakeConnector:
    """Return a stream of the proc connector, and the kernel that sends to it."""
    return FakeConnector()
