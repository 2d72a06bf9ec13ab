"""Completion for shells: told to the shell that asks, never installed by us.

typer would write into the home directory that the environment names, through whatever links
its owner put there. ``--show-completion`` prints the same.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import typer.main

from proctree_bpf.cli.errors import CliError, ExitCode

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_VARIABLE = "_PROCTREE_BPF_COMPLETE"
_INSTRUCTION = re.compile(r"(source|complete)_(bash|zsh|fish|powershell|pwsh)")
_DIGITS = 9  # no command line has more words


def without_installation(app: typer.Typer) -> Any:
    """Return the command of an app, without the option that installs completion."""
    command = typer.main.get_command(app)
    command.params = [each for each in command.params if each.name != "install_completion"]
    return command


def check_request(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let a shell ask, and nobody else.

    It asks without words. With words, the variable was left there by somebody, and is forgotten.
    """
    instruction = environ.get(_VARIABLE)
    if not instruction:
        return
    if sys.argv[1:]:
        del environ[_VARIABLE]
    elif not _INSTRUCTION.fullmatch(instruction) or not _has_words(instruction, environ):
        raise CliError(
            f"{_VARIABLE} is set, but not as a shell sets it; unset it, or use --show-completion.",
            ExitCode.USAGE,
        )


def _has_words(instruction: str, environ: MutableMapping[str, str]) -> bool:
    """Tell whether what bash tells with its question is there."""
    position = environ.get("COMP_CWORD", "")
    is_told = "COMP_WORDS" in environ and position.isascii() and position.isdecimal()
    return instruction != "complete_bash" or (is_told and len(position) <= _DIGITS)
