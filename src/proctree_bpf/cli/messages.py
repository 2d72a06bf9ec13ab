"""Messages to the user, on stderr."""

from __future__ import annotations

import os
from contextlib import suppress

from proctree_bpf.core.text import visible

_STDERR = 2


def say(text: str) -> None:
    """Tell the user something on stderr, where it is out of the way of the data.

    Nobody may be listening there: that is no reason to stop.
    """
    line = f"proctree-bpf: {visible(text)}\n"
    with suppress(OSError):
        os.write(_STDERR, line.encode("utf-8", "backslashreplace"))


def counted(number: int, thing: str) -> str:
    """Return a number of things, as one says it.

    >>> counted(1, "line"), counted(2, "line")
    ('1 line', '2 lines')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
