"""Compiled programs as values, and as the text in which they are kept and handed over.

The code names its maps, where the kernel wants descriptors: whoever loads it puts them in.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTRUCTION_SIZE = 8
_VALUE_AT = 4  # in an instruction
_LOAD_CONSTANT = 0x18  # BPF_LD | BPF_DW | BPF_IMM
# What copy_number() of bpf/sending.bpf.c is until it is written: the parts of a 64-bit constant.
_COPY_MARK = struct.pack("=II", 0x655F6370, 0x70747265)


class MapShape(NamedTuple):
    """How a map is to be created."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class Function(NamedTuple):
    """A program: its code, and which map is wanted by the instruction at which byte."""

    name: str
    code: bytes
    uses: tuple[tuple[int, str], ...]

    def linked(self, maps: Mapping[str, int]) -> bytearray:
        """Return the code with the descriptors of maps."""
        code = bytearray(self.code)
        for at, name in self.uses:
            struct.pack_into("=i", code, at + _VALUE_AT, maps[name])
        return code


class FileIdentity(NamedTuple):
    """A file of the compiler, as it was."""

    path: str
    inode: int
    size: int
    mtime_ns: int


class Compiled(NamedTuple):
    """All that the kernel needs of programs."""

    license: str
    kernel_version: int
    maps: tuple[MapShape, ...]
    functions: tuple[Function, ...]
    compiler: tuple[FileIdentity, ...]


def checked(told: Any) -> Compiled:
    """Return compiled programs as the compiler's process tells them; ValueError if it is none."""
    try:
        compiled = msgspec.convert(told, Compiled)
    except msgspec.MsgspecError as error:
        raise ValueError(f"compiled programs of another form: {error}") from error
    names = {shape.name for shape in compiled.maps}
    for function in compiled.functions:
        if not function.code or len(function.code) % _INSTRUCTION_SIZE:
            raise ValueError("a program is cut short")
        for at, name in function.uses:
            if name not in names or not 0 <= at < len(function.code) or at % _INSTRUCTION_SIZE:
                raise ValueError("a program wants a map that is not there")
    return compiled


def as_text(compiled: Compiled, macros: Mapping[str, int]) -> bytes:
    """Return compiled programs, and the macros that they were compiled with, as text to keep."""
    # Python's JSON keeps the surrogates of paths.
    return json.dumps(msgspec.to_builtins((compiled, macros))).encode()


def from_text(text: bytes) -> tuple[Compiled, dict[str, int]]:
    """Return what ``as_text`` was given; ValueError if it is not of this form."""
    try:
        told, macros = msgspec.convert(json.loads(text), tuple[Any, dict[str, int]])
    except msgspec.MsgspecError as error:
        raise ValueError(f"kept programs of another form: {error}") from error
    return checked(told), macros


def numbered(code: bytes, copy: int) -> bytes:
    """Write the number of a copy into its code, where ``copy_number()`` is."""
    written = bytearray(code)
    found = 0
    for at in range(0, len(code) - _INSTRUCTION_SIZE, _INSTRUCTION_SIZE):
        low, high = code[at + 4 : at + 8], code[at + 12 : at + 16]
        if code[at] == _LOAD_CONSTANT and low + high == _COPY_MARK:
            struct.pack_into("=I", written, at + _VALUE_AT, copy)
            struct.pack_into("=I", written, at + _INSTRUCTION_SIZE + _VALUE_AT, 0)
            found += 1
    if not found:
        raise ValueError("the compiled program has no place for its number")
    return bytes(written)
