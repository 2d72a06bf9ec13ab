"""Arguments that need no quotes, which is nearly all of them: told apart at no cost. Pure."""

from __future__ import annotations

# What neither a shell nor JSON would quote.
_PLAIN = "".join(filter(str.isalnum, map(chr, range(128)))).encode() + b"@%_-+=:,./"
# The end of an argument becomes a blank, and what needs quotes a NUL.
_SHOWN = bytes(32 if byte == 0 else byte if byte in _PLAIN else 0 for byte in range(256))


def plain_args(args_raw: bytes | None) -> str | None:
    """Return the arguments with a blank between each two, if none of them needs quotes.

    None has a blank in it then, nor is one empty.
    """
    if not args_raw:
        return None
    shown = args_raw.translate(_SHOWN).decode("ascii")
    if "\0" in shown or shown[0] == " " or shown[-1] != " " or "  " in shown:
        return None
    return shown[:-1]
