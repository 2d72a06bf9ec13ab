"""What is wrong with a command line, in the option parser's shape, but harmless to a terminal."""

from __future__ import annotations

import sys
from typing import Protocol, runtime_checkable

import typer

from proctree_bpf.core.text import visible

# click's, or that of the copy which newer typers bring along.
ParserError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


@runtime_checkable
class _Shown(Protocol):
    message: str
    exit_code: int

    def show(self) -> None:
        """Write it to stderr."""


def show(error: Exception) -> int:
    """Say what is wrong, and return the exit status that goes with it.

    The message repeats words of the command line, and they may be anybody's. Without
    words, it is the help.
    """
    if not isinstance(error, _Shown):
        raise error
    if sys.argv[1:]:
        error.message = visible(error.message)
    error.show()
    return error.exit_code
