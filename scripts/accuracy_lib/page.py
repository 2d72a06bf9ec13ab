"""The page of figures: a section for each way of running, replaced when it is run again."""

from __future__ import annotations

import os
import platform
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

_HEAD = """\
# How often the tree is right

Written by `scripts/accuracy --markdown`; [how it is done](../scripts/accuracy_lib/README.md).
Random forests of processes say themselves what they do, and `wait(2)` says how they ended; the
program traces them, and the library is asked who came from whom.

- *precision*: of what was told without doubt, the share that is right. *recall*: of what happened,
  the share that was told right. Both are rounded down: 1.000000 is all of them.
- *doubted*: wrong, but in a record that says that it may be (`proctree.uncertain`, `inherited`
  where the source may not know, an observed creator). *not told*: null, or its record was lost.
- *lost*: the events that gaps tell of, from the whole machine, beside those that are known to be
  missing here.
"""
_DROPPED = ("--json", "--markdown", "--program")


def title_of(options: argparse.Namespace) -> str:
    """Say what was run."""
    parts = [str(options.source)]
    if options.command:
        parts.append("trace -- COMMAND")
    if options.filter:
        parts.append(f"filter {options.filter}")
    if options.load:
        parts.append(f"{options.load} saturating spawners")
    if options.perf_pages:
        parts.append(f"buffers of {options.perf_pages} page{'s' * (options.perf_pages > 1)}")
    if options.stop_reader:
        parts.append(f"the reader stopped for {options.stop_reader:g} s")
    return ", ".join(parts)


def command_of(words: Sequence[str]) -> str:
    """Return the command, without what says where results go."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in _DROPPED:
            skip = True
        elif not word.startswith(tuple(f"{name}=" for name in _DROPPED)):
            kept.append(word)
    return shlex.join(["sudo", "scripts/accuracy", *kept])


def write(path: Path, title: str, section: str) -> None:
    """Put a section into the page, in the place of the one of the same title."""
    before = path.read_text("utf-8") if path.exists() else _HEAD
    head, *sections = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    kernel, python = platform.release().split("-")[0], platform.python_version()
    machine = f"{os.cpu_count()} CPUs, Linux {kernel}, Python {python}."
    text = f"{section.rstrip()}\n\n{machine}\n"
    kept = [text if one.startswith(f"## {title}\n") else one for one in sections]
    if text not in kept:
        kept.append(text)
    body = "\n".join(one.strip("\n") + "\n" for one in kept)
    path.write_text(f"{head.rstrip()}\n\n{body}", "utf-8")
