"""Names and arguments as a process can choose them, for Hypothesis."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st

# A busy machine is no failure.
unhurried = settings(deadline=None)

COMM_LEN = 15

# What drives a terminal, hides or reorders text, or looks like our own separators.
_NASTY = [
    b"\x1b[2J", b"\x1b]0;x\x07", b"\n", b"\r", b"\t", b"\x08", b"\x7f", b"\xc2\x9b", b"\xc2\x85",
    b"\xe2\x80\xae", b"\xe2\x80\x8f", b"\xe2\x81\xa6", b"\xd8\x9c", b"\xe2\x80\xa8", b"\xff",
    b"\xef\xbb\xbf", b"\x80", b"\xed\xb2\x80", b"|", b";", b"\\", b" < ", b"'", b'"', b" ",
    "\u6f22\u5b57".encode(), "e\u0301".encode(), "\U0001f980".encode(), "\u05d0\u05d1".encode(),
]  # fmt: skip
_pieces = st.one_of(st.sampled_from(_NASTY), st.binary(max_size=6), st.text(max_size=6).map(
    lambda text: text.encode("utf-8", "surrogatepass")
))  # fmt: skip


def _raw(max_bytes: int, min_size: int = 0) -> st.SearchStrategy[str]:
    joined = st.lists(_pieces, min_size=min_size, max_size=8).map(b"".join)
    return joined.map(lambda raw: os.fsdecode(raw.replace(b"\0", b"0")[:max_bytes]))


def comms() -> st.SearchStrategy[str]:
    """Return names as the kernel keeps them: any 15 bytes without NUL."""
    return _raw(COMM_LEN)


def arguments() -> st.SearchStrategy[list[str]]:
    """Return argument lists: any bytes without NUL."""
    return st.lists(_raw(60), max_size=5)
