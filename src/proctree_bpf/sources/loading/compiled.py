"""Compiled programs as values, and as the text in which they are kept and handed over.

The code names its maps, where the kernel wants descriptors: whoever loads it puts them in.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

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


def from_answer(answer: dict[str, Any]) -> Compiled:
    """Return what the compiler's process, or a kept text, tells.

    Raises:
        ValueError: it is not of this form.

    """
    try:
        compiled = Compiled(
            str(answer["license"]),
            int(answer["kernel_version"]),
            tuple(MapShape(**shape) for shape in answer["maps"]),
            tuple(
                Function(
                    each["name"],
                    bytes.fromhex(each["code"]),
                    tuple((int(at), str(name)) for at, name in each["uses"]),
                )
                for each in answer["functions"]
            ),
            tuple(FileIdentity(*each) for each in answer["compiler"]),
        )
        _check(compiled)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"compiled programs of another form: {error!r}") from error
    return compiled


def _check(compiled: Compiled) -> None:
    names = {shape.name for shape in compiled.maps}
    for function in compiled.functions:
        if not function.code or len(function.code) % _INSTRUCTION_SIZE:
            raise ValueError("a program is cut short")
        for at, name in function.uses:
            if name not in names or not 0 <= at < len(function.code) or at % _INSTRUCTION_SIZE:
                raise ValueError("a program wants a map that is not there")


def as_text(compiled: Compiled, macros: Mapping[str, int]) -> bytes:
    """Return compiled programs, and the macros that they were compiled with, as text to keep."""
    functions = [each._asdict() | {"code": each.code.hex()} for each in compiled.functions]
    whole = compiled._asdict() | {
        "maps": [shape._asdict() for shape in compiled.maps],
        "functions": functions,
        "macros": dict(macros),
    }
    return json.dumps(whole, sort_keys=True).encode()


def from_text(text: bytes) -> tuple[Compiled, dict[str, int]]:
    """Return what ``as_text`` was given.

    Raises:
        ValueError: it is not of this form.

    """
    whole = json.loads(text)
    try:
        macros = {str(name): int(value) for name, value in whole["macros"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"macros of another form: {error!r}") from error
    return from_answer(whole), macros


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
