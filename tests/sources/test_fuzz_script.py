"""The targets of scripts/fuzz still fit the code; what fuzzing finds is another matter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.program import environment

_ROOT = Path(__file__).parents[2]
_TARGETS = (
    "samples", "netlink", "connector-stream", "proc-stat", "proc-status", "btf", "recording",
    "recording-frames", "replay",
)  # fmt: skip

# What is used of atheris; it hands the valid samples out again, each with its end cut off.
_ATHERIS = """
import contextlib, pathlib
instrument_imports = lambda include: contextlib.nullcontext()
def Setup(arguments, function):
    global run
    samples = [path.read_bytes() for path in pathlib.Path(arguments[-1]).iterdir()]
    assert samples
    run = lambda: [function(sample[:-1]) for sample in samples]
def Fuzz():
    run()
    print("fuzzed")
"""


def fuzz(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (directory / "atheris.py").write_text(_ATHERIS)
    return subprocess.run(
        [sys.executable, _ROOT / "scripts/fuzz/decoders.py", *words],
        env=environment({"PYTHONPATH": f"{_ROOT / 'src'}:{directory}"}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("target", _TARGETS)
def test_each_target_takes_its_own_samples(target: str, tmp_path: Path) -> None:
    done = fuzz(tmp_path, target)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "fuzzed\n"


def test_each_target_is_tried_here(tmp_path: Path) -> None:
    told = fuzz(tmp_path).stderr.splitlines()
    assert told[-1] == f"Targets: {', '.join(_TARGETS)}"
