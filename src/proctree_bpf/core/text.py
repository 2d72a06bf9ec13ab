r"""Names and arguments are attacker-controlled: how they are shown. Pure text to text.

``visible`` is for people: what could move a cursor, hide or reorder text is
shown as ``\xNN`` or ``\uNNNN``. ``escape`` is for machines: it also doubles the
backslash and escapes the separators, so that ``unescape`` gives the text back.
"""

from __future__ import annotations

import re

# Printable, but how wide they are depends on their neighbours and on the terminal:
# variation selectors, skin tones, and the letters that pair up to flags.
_UNSTEADY = re.compile(
    "[\ufe00-\ufe0f\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]"
)
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", re.DOTALL)
COMM_BYTES = 15
"""The kernel keeps so many bytes of a name (TASK_COMM_LEN, include/linux/sched.h)."""
_SURROGATE_BASE = 0xDC00
_ASCII_END = 0x80


def as_comm(name: str) -> str:
    """Return what the kernel keeps of a process's name.

    Whoever asks by name compares two of these: what was asked may be longer, and so is what
    ``/proc`` shows of a kernel thread.
    """
    if len(name) <= COMM_BYTES and name.isascii():
        return name
    raw = name.encode("utf-8", "surrogateescape")[:COMM_BYTES]
    return raw.decode("utf-8", "surrogateescape")


def _escape_char(char: str) -> str:
    code = ord(char)
    if _SURROGATE_BASE + 0x80 <= code <= _SURROGATE_BASE + 0xFF:
        return f"\\x{code - _SURROGATE_BASE:02x}"
    if code < _ASCII_END:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def visible(text: str) -> str:
    """Return text that cannot drive a terminal, and whose width every terminal agrees on."""
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(char if char.isprintable() else _escape_char(char) for char in text)
    return _UNSTEADY.sub(lambda match: _escape_char(match[0]), shown)


def escape(text: str, separators: str = "") -> str:
    """Return printable text from which ``unescape`` restores the original exactly."""
    if text.isprintable() and not any(char in text for char in "\\" + separators):
        return text
    return "".join(
        _escape_char(char)
        if not char.isprintable()
        else "\\" + char
        if char == "\\" or char in separators
        else char
        for char in text
    )


def _unescape_match(match: re.Match[str]) -> str:
    byte, short, long, literal = match.groups()
    if byte is not None:
        code = int(byte, 16)
        return chr(code if code < _ASCII_END else _SURROGATE_BASE + code)
    if literal is not None:
        return literal
    code = int(short or long, 16)
    return chr(code) if code <= 0x10FFFF else match.group(0)  # noqa: PLR2004


def unescape(text: str) -> str:
    """Undo ``escape``."""
    return _ESCAPED.sub(_unescape_match, text) if "\\" in text else text
