"""Gives the tests of scripts/bench its modules, which are no package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_LIB = Path(__file__).parents[2] / "scripts" / "bench" / "lib"


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what imports a module of scripts/bench/lib; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(_LIB)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in [name for name, one in sys.modules.items() if _is_ours(one)]:
        del sys.modules[name]


def _is_ours(module: ModuleType) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(f"{_LIB}/")
