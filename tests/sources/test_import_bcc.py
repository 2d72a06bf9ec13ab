"""How BCC's Python module is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.sources.loading.bcc_program import import_bcc

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.filterwarnings("error")
def test_what_bcc_does_that_is_deprecated_does_not_keep_it_from_being_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As BCC 0.37 on Python 3.14, where the program runs with warnings as errors."""
    warns = "import warnings\nwarnings.warn('old', DeprecationWarning)\nclass BPF: pass\n"
    (tmp_path / "bcc.py").write_text(warns)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    module = import_bcc()
    del sys.modules["bcc"]  # and what was there before comes back
    assert module.__file__ == str(tmp_path / "bcc.py")
