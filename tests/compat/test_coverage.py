"""The coverage table in README.md: every name is in it, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from proctree_bpf import compat

_HERE = Path(__file__).parent
_ROW = re.compile(r"^\| `(\w+)` \| `([\w/]+\.py)::([\w:]+)` \|$", re.MULTILINE)
ROWS = {row[1]: row for row in _ROW.finditer((_HERE / "README.md").read_text("utf-8"))}


def test_every_name_has_a_row_and_every_row_a_name() -> None:
    assert sorted(ROWS) == sorted(compat.__all__)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_test_is_there_and_its_file_has_the_name(name: str) -> None:
    _, file, test = ROWS[name].groups()
    text = (_HERE.parent / file).read_text("utf-8")
    assert re.search(rf"\b{name}\b", text)
    body = ast.parse(text).body
    for part in test.split("::"):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        (named,) = (node for node in found if node.name == part)
        body = named.body
