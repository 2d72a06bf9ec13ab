"""Modules of scripts that are no packages, each run by its path."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import pytest

_SCRIPTS = Path(__file__).parents[2] / "scripts"


@contextmanager
def script_modules(
    monkeypatch: pytest.MonkeyPatch, *names: str
) -> Iterator[Callable[[str], ModuleType]]:
    """Have what imports a module of these folders of ``scripts``; they are forgotten afterwards."""
    directories = [_SCRIPTS / name for name in names]
    for directory in reversed(directories):
        monkeypatch.syspath_prepend(directory)
    yield importlib.import_module
    ours = tuple(f"{directory}/" for directory in directories)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(ours):
            del sys.modules[name]
