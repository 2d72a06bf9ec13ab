"""Gives the tests of scripts/bench its modules, which are no package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.script_modules import script_modules

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what imports a module of scripts/bench/lib; they are forgotten afterwards."""
    with script_modules(monkeypatch, "bench/lib") as load:
        yield load
