"""A parallel build under ``trace -- make``: each process and its end, as strace tells them."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.lifetimes import STRACE, STRACE_STRINGS, difference, told_by_strace, told_by_us
from support.program import PROGRAM, json_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not (shutil.which("strace") and shutil.which("make")), reason="needs strace and make"
)

_UNITS = 12
_MAKEFILE = """\
units := $(patsubst %.c,%.o,$(wildcard unit*.c))
all: program check sub
generated.h: generate
\t./generate 'a b' "$$HOME" > $@
%.o: %.c generated.h
\t$(CC) -O1 -c -o $@ $<
libunits.a: $(units)
\tar rcs $@ $^
program: main.o libunits.a
\t$(CC) -o $@ main.o -L. -lunits
check: program
\t./program | grep -q sum; exit $$(( $$? * 3 ))
\t-false
\t-kill -9 $$$$
\t-(setsid sleep 0.1 & exit 5)
sub:
\t$(MAKE) -C nested
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small C project with what builds have: a generator, a library, a nested make."""
    directory = tmp_path / "project"
    (directory / "nested").mkdir(parents=True)
    (directory / "Makefile").write_text(_MAKEFILE)
    (directory / "nested" / "Makefile").write_text(
        "all: ; @for i in 1 2 3; do expr $$i + 1; done\n"
    )
    (directory / "generate").write_text("#!/bin/sh -e\necho '#define START' $#\n")
    (directory / "generate").chmod(0o755)
    names = [f"unit{number}" for number in range(_UNITS)]
    for name in names:
        text = f'#include "generated.h"\nint {name}(void) {{ return START; }}\n'
        (directory / f"{name}.c").write_text(text)
    declared = "".join(f"int {name}(void);\n" for name in names)
    total = " + ".join(f"{name}()" for name in names)
    (directory / "main.c").write_text(
        f'#include <stdio.h>\n{declared}int main(void) {{ printf("sum %d\\n", {total}); }}\n'
    )
    return directory


def build(before: Sequence[str], directory: Path) -> None:
    """Build from a fresh copy, always at the same path."""
    place = directory.with_name("build")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(directory, place)
    subprocess.run(
        [*before, "make", "-j4"],
        cwd=place, env={"PATH": os.defpath, "HOME": "/home/\u6f22"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=100, check=True,
    )  # fmt: skip


def test_a_parallel_build_is_told_as_strace_tells_it(project: Path, tmp_path: Path) -> None:
    log, records = tmp_path / "log", tmp_path / "records"
    build([*STRACE, *STRACE_STRINGS, "-o", str(log)], project)
    theirs = told_by_strace(log, tmp_path / "build")
    options = ("-f", "jsonl", "-o", str(records), "--max-args-bytes", "32768", "--")
    build([*PROGRAM, "trace", *options], project)
    ours = told_by_us(json_lines(records.read_text()))
    assert difference(ours, theirs) == []
    assert sum(ours.values()) > 4 * _UNITS
