"""Gives the tests of scripts/vm its modules, which are no package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

_LIB = Path(__file__).parents[2] / "scripts" / "vm" / "lib"


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a module of scripts/vm/lib."""
    monkeypatch.syspath_prepend(_LIB)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load
