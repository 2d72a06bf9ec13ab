"""What tests of sinks share."""

from __future__ import annotations

import pytest

from support.json_page import Page


@pytest.fixture
def page() -> Page:
    """Return an empty page of JSON lines."""
    return Page()
