"""The command line of scripts that take names of what is supported, and arguments for pytest."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Choice(NamedTuple):
    """What was asked for."""

    names: list[str]
    limit_s: float
    arguments: list[str]
    """For pytest; given, they make of the whole a part of it."""


def parse(script: str, description: str, names: Sequence[str], limit_s: float) -> Choice:
    """Read the command line; names are those that may be chosen, from the oldest to the newest."""
    kind = "NAME"
    parser = argparse.ArgumentParser(
        prog=f"scripts/vm/{script}",
        usage=f"scripts/vm/{script} [--limit SECONDS] [{kind}...] [-- PYTEST-ARGUMENT...]",
        description=description,
    )
    parser.add_argument(
        "names", nargs="*", metavar=kind, help=f"which of {' '.join(names)}, oldest, newest (all)"
    )
    parser.add_argument(
        "--limit", type=float, default=limit_s, metavar="SECONDS", help="for each (%(default)s)"
    )
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    aliases = {"oldest": names[0], "newest": names[-1]}
    chosen = [aliases.get(name, name) for name in options.names]
    for name in chosen:
        if name not in names:
            parser.error(f"{name} is not supported; choose among {' '.join(names)}")
    wanted = [name for name in names if name in chosen] if chosen else list(names)
    return Choice(wanted, options.limit, words[split + 1 :])
