"""The command line of matrix and userlands: which kernels or suites, and arguments for pytest."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


_VARIABLES = ("PROCTREE_ACCEL", "PROCTREE_LIBVIRT_DRIVER")
_SUDO = "sudo"


class Selection(NamedTuple):
    """Which kernels or userlands to run the tests on, how long each may take, and how."""

    command: Sequence[str]
    names: list[str]
    limit_s: float
    refresh: bool
    """What is in the cache is to be had anew."""
    arguments: list[str]
    """For pytest; given, they make of the whole a part of it."""

    def again(self, name: str) -> str:
        """Return the command that does this again for one name."""
        return rerun_command(self.command, ["--limit", f"{self.limit_s:g}", name], self.arguments)


def rerun_command(command: Sequence[str], options: Sequence[str], arguments: Sequence[str]) -> str:
    """Return a command, with the variables that it has heeded and with arguments for pytest."""
    given = [f"{each}={os.environ[each]}" for each in _VARIABLES if os.environ.get(each)]
    sudo = [word for word in command if word == _SUDO]
    words = [*sudo, *given, *command[len(sudo) :], *options]
    return shlex.join([*words, "--", *arguments] if arguments else words)


def parse_selection(
    command: Sequence[str], description: str, names: Sequence[str], limit_s: float
) -> Selection:
    """Read the command line; names are those that may be chosen, from the oldest to the newest."""
    kind = "NAME"
    parser = argparse.ArgumentParser(
        prog=command[-1],
        usage=f"{shlex.join(command)} [OPTION...] [{kind}...] [-- PYTEST-ARGUMENT...]",
        description=description,
    )
    parser.add_argument(
        "names", nargs="*", metavar=kind, help=f"which of {' '.join(names)}, oldest, newest (all)"
    )
    parser.add_argument(
        "--limit", type=_seconds, default=limit_s, metavar="SECONDS", help="for each (%(default)s)"
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="fetch anew what is in the cache: Debian may have newer",
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
    return Selection(command, wanted, options.limit, options.refresh, words[split + 1 :])


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text}")
    return seconds
