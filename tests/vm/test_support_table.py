"""The README says what scripts/vm/vmtest/supported.py says, and nothing else."""

from __future__ import annotations

from pathlib import Path

from vmtest import supported

_ROOT = Path(__file__).parents[2]
_HEAD = "| Linux | of Debian | run with BCC | Python |"


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
    expected = []
    for kernel in supported.KERNELS:
        userland = supported.userland_of(kernel.userland)
        expected.append([kernel.series, kernel.suite, userland.bcc, userland.python])
    assert _table() == expected


def test_each_kernel_runs_with_a_userland_that_is_tested_by_itself_too() -> None:
    suites = [userland.suite for userland in supported.USERLANDS]
    assert {kernel.userland for kernel in supported.KERNELS} == set(suites)
