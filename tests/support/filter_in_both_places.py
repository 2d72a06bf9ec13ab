"""One filter in the kernel and in this process at once, and programs that go on step by step."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from proctree_bpf import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.filtered_pipeline import FilteredPipeline, ShownRecord


class FilterInBothPlaces:
    """One filter twice: in the kernel, and here."""

    def __init__(self, begun: Callable[..., FilteredPipeline], terms: str) -> None:
        self.kernel = begun(terms)
        self.user = begun(terms, in_kernel=False)
        self.both = (self.kernel, self.user)
        self.kernel.until_on()

    def until_exit(self, pid: int) -> None:
        for filtered in self.both:
            filtered.until_told(pid, Exit)

    def same(self) -> list[ShownRecord]:
        """Return what both told, once that is the same."""
        for filtered in self.both:
            filtered.pipeline.pump()
            assert filtered.gaps == []
        assert self.kernel.told == self.user.told
        return self.user.told


_HEAD = """
import os, sys, time

def step(said=""):
    print(said, flush=True)
    sys.stdin.readline()

def rename(name):
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)

def start(*words):
    child = os.fork()
    if not child:
        os.execv(words[0], words)
    return child

step("ready")
"""


class Script:
    """A Python program that goes on, line by line, when it is told to."""

    def __init__(self, text: str, *words: str, before: tuple[str, ...] = ()) -> None:
        self.popen = subprocess.Popen(
            [*before, sys.executable, "-c", _HEAD + text, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def go(self) -> str:
        """Let it do the next step; returns what it says after it."""
        assert self.popen.stdin is not None
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()
        return self.read()

    def end(self) -> None:
        self.popen.communicate(timeout=60)
