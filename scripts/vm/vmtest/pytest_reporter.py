"""A pytest plugin for other systems: chooses the tests to run there, and writes what comes of them.

PROCTREE_OUTCOMES names the file or device to write to. PROCTREE_SELECT makes the selection: groups
for what is run on other kernels, userlands for what is run with other BCCs; without it, all is run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmtest import groups

if TYPE_CHECKING:
    import pytest

_REASON_LENGTH = 200
_SELECTIONS = {"groups": groups.groups_of, "userlands": groups.runs_in_userlands}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not to be run there."""
    selection = os.environ.get("PROCTREE_SELECT")
    if selection is None:
        return
    wanted = _SELECTIONS[selection]
    out = [item for item in items if not wanted(item.nodeid)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if wanted(item.nodeid)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a line."""
    if report.when != "call" and report.passed:
        outcome = ""
    elif hasattr(report, "wasxfail") and report.skipped:
        outcome = "open"
    else:
        outcome = report.outcome
    crash = getattr(report.longrepr, "reprcrash", None)
    reason = crash.message if crash is not None else ""
    line = json.dumps([report.nodeid, outcome, round(report.duration, 3), reason[:_REASON_LENGTH]])
    with Path(os.environ["PROCTREE_OUTCOMES"]).open("a", encoding="ascii") as file:
        file.write(f"test {line}\n")
