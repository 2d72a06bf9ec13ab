"""The README says what scripts/vm/lib/supported.py says, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_ROOT = Path(__file__).parents[2]
_HEAD = "| Linux | of Debian | run with BCC | Python |"


def _supported() -> ModuleType:
    path = _ROOT / "scripts" / "vm" / "lib" / "supported.py"
    spec = importlib.util.spec_from_file_location("supported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["supported"] = module
    spec.loader.exec_module(module)
    return module


def _table() -> list[list[str]]:
    """Return the rows of the README's table."""
    _, _, rest = (_ROOT / "README.md").read_text().partition(_HEAD)
    assert rest, f"README.md has no table that begins with {_HEAD}"
    _, _, *lines = rest.split("\n")
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_readmes_table_lists_the_supported_kernels() -> None:
    supported = _supported()
    expected = []
    for kernel in supported.KERNELS:
        userland = supported.userland(kernel.userland)
        expected.append([kernel.series, kernel.suite, userland.bcc, userland.python])
    assert _table() == expected


def test_each_kernel_runs_with_a_userland_that_is_tested_by_itself_too() -> None:
    supported = _supported()
    suites = [userland.suite for userland in supported.USERLANDS]
    assert {kernel.userland for kernel in supported.KERNELS} == set(suites)
