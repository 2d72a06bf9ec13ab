"""Arguments that need no quotes, which is nearly all of them: told apart at no cost. Pure."""

from __future__ import annotations

# What neither a shell nor JSON would quote; but no argument may be empty.
_PLAIN = "".join(filter(str.isalnum, map(chr, range(128)))).encode() + b"@%_-+=:,./"


def plain_args(args_raw: bytes | None) -> str | None:
    """Return the arguments with a NUL between each two, if none of them needs quotes."""
    if not args_raw or args_raw[-1]:
        return None
    special = args_raw.translate(None, _PLAIN)
    if special.count(0) != len(special) or not args_raw[0] or b"\0\0" in args_raw:
        return None
    return args_raw[:-1].decode("ascii")
