"""Gives the tests of scripts/accuracy its modules, which are no package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_SCRIPTS = Path(__file__).parents[2] / "scripts"
_LIBS = (_SCRIPTS / "accuracy_lib", _SCRIPTS / "bench" / "lib")


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what imports a module of scripts/accuracy_lib; they are forgotten afterwards."""
    for directory in reversed(_LIBS):
        monkeypatch.syspath_prepend(directory)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in [name for name, one in sys.modules.items() if _is_ours(one)]:
        del sys.modules[name]


def _is_ours(module: ModuleType) -> bool:
    file = str(getattr(module, "__file__", None) or "")
    return file.startswith(tuple(f"{directory}/" for directory in _LIBS))
