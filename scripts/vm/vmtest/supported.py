"""What is supported, and nothing else: the one place that lists it.

The README's table is checked against this by tests/vm/test_support_table.py.
"""

from __future__ import annotations

from typing import NamedTuple


class Kernel(NamedTuple):
    """A kernel series, the Debian suite that has it, and the suite whose programs run on it.

    Of the series, the newest that the suite has is taken.
    """

    series: str
    suite: str
    userland: str


class Userland(NamedTuple):
    """A Debian suite with its versions of BCC and Python."""

    suite: str
    bcc: str
    python: str


KERNELS = (
    Kernel("5.10", "bullseye", "bookworm"),
    Kernel("6.1", "bookworm", "bookworm"),
    Kernel("6.12", "trixie", "trixie"),
    Kernel("6.18", "trixie-backports", "trixie"),
    Kernel("7.2", "sid", "sid"),
)
"""From the oldest to the newest."""

USERLANDS = (
    Userland("bookworm", "0.26", "3.11"),
    Userland("trixie", "0.31", "3.13"),
    Userland("sid", "0.37", "3.14"),
)
"""From the oldest to the newest."""


def userland_of(suite: str) -> Userland:
    """Return the userland of a suite."""
    return next(each for each in USERLANDS if each.suite == suite)
