"""BTF bytes -> field offsets. Pure: the caller reads ``/sys/kernel/btf/vmlinux``.

BTF (BPF Type Format, Documentation/bpf/btf.rst) describes every type of the
running kernel. One pass over the type section notes where each type starts;
the few structs that are asked for are then searched by member name, through
anonymous structs and unions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proctree_bpf.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")

_KIND_PTR, _KIND_STRUCT, _KIND_UNION = 2, 4, 5
_KIND_TYPEDEF, _KIND_VOLATILE, _KIND_CONST, _KIND_RESTRICT = 8, 9, 10, 11
_KIND_FUNC_PROTO, _KIND_VAR, _KIND_TYPE_TAG = 13, 14, 18
_MODIFIERS = frozenset({_KIND_TYPEDEF, _KIND_VOLATILE, _KIND_CONST, _KIND_RESTRICT, _KIND_TYPE_TAG})

# 32-bit words that follow the 3-word btf_type, as (fixed, per vlen), by kind number;
# include/uapi/linux/btf.h of Linux 6.18.
_TAIL_WORDS = (
    (0, 0), (1, 0), (0, 0), (3, 0),  # void, INT, PTR, ARRAY
    (0, 3), (0, 3), (0, 2), (0, 0),  # STRUCT, UNION, ENUM, FWD
    (0, 0), (0, 0), (0, 0), (0, 0),  # TYPEDEF, VOLATILE, CONST, RESTRICT
    (0, 0), (0, 2), (1, 0), (0, 3),  # FUNC, FUNC_PROTO, VAR, DATASEC
    (0, 0), (1, 0), (0, 0), (0, 3),  # FLOAT, DECL_TAG, TYPE_TAG, ENUM64
)  # fmt: skip
# A chain of typedefs and qualifiers is never this long in a kernel; the bound only stops a
# crafted file.
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Member:
    """Where a struct member lies: ``bit_offset`` from the start of the struct, in bits.

    ``bit_size`` is 0 for an ordinary member and the width of a bit-field otherwise.
    """

    bit_offset: int
    bit_size: int
    type_id: int

    @property
    def offset(self) -> int:
        """Offset in bytes."""
        return self.bit_offset // 8


class Btf:
    """The types of one BTF blob; DecodeError if it is not well-formed, or of an unknown version."""

    def __init__(self, blob: bytes) -> None:
        try:
            magic, version, _, header_len, type_off, type_len, str_off, str_len = (
                _HEADER.unpack_from(blob)
            )
        except struct.error as error:
            raise DecodeError("BTF: shorter than its header") from error
        if magic != _MAGIC or version != 1:
            raise DecodeError(f"BTF: magic {magic:#x} version {version} is not understood")
        types = blob[header_len + type_off : header_len + type_off + type_len]
        self._strings = blob[header_len + str_off : header_len + str_off + str_len]
        if len(types) != type_len or type_len % 4 or len(self._strings) != str_len:
            raise DecodeError("BTF: sections do not fit the file")
        self._words = memoryview(types).cast("I")
        self._starts, self._structs = self._index()

    def _index(self) -> tuple[list[int], dict[int, int]]:
        words, tails = self._words, _TAIL_WORDS
        starts = [0]
        named: dict[int, int] = {}
        position, end = 0, len(words)
        try:
            while position < end:
                info = words[position + 1]
                kind = (info >> 24) & 0x1F
                fixed, each = tails[kind]
                if kind in (_KIND_STRUCT, _KIND_TYPEDEF, _KIND_VAR):
                    named.setdefault(words[position] << 5 | kind, len(starts))
                starts.append(position)
                position += 3 + fixed + each * (info & 0xFFFF)
        except IndexError as error:
            raise DecodeError("BTF: a type of unknown kind or beyond the section") from error
        if position != end:
            raise DecodeError("BTF: the last type is cut short")
        return starts, named

    def _string_offset(self, name: str) -> int:
        at = self._strings.find(b"\0" + name.encode() + b"\0")
        return at + 1 if at >= 0 else -1

    def _find(self, name: str, kind: int) -> int | None:
        at = self._string_offset(name)
        return self._structs.get(at << 5 | kind) if at >= 0 else None

    def _type(self, type_id: int) -> tuple[int, int, int, int]:
        """Kind, vlen, size-or-type and position of ``type_id``."""
        if not 0 < type_id < len(self._starts):
            raise DecodeError(f"BTF: no type {type_id}")
        at = self._starts[type_id]
        info = self._words[at + 1]
        return (info >> 24) & 0x1F, info & 0xFFFF, self._words[at + 2], at

    def _strip(self, type_id: int) -> int:
        for _ in range(_MAX_DEPTH):
            kind, _, target, _ = self._type(type_id)
            if kind not in _MODIFIERS:
                return type_id
            type_id = target
        raise DecodeError("BTF: typedefs run in a circle")

    def _members(self, type_id: int) -> Iterator[tuple[int, Member]]:
        kind, vlen, _, at = self._type(type_id)
        if kind not in (_KIND_STRUCT, _KIND_UNION):
            return
        bit_fields = self._words[at + 1] >> 31
        for index in range(at + 3, at + 3 + 3 * vlen, 3):
            name, member_type, offset = self._words[index : index + 3]
            size = offset >> 24 if bit_fields else 0
            yield name, Member(offset & 0xFFFFFF if bit_fields else offset, size, member_type)

    def _search(
        self, type_id: int, name_offset: int, base: int, searched: dict[int, bool]
    ) -> Member | None:
        """Look through a struct and the anonymous ones in it.

        ``searched`` remembers types without such a member, and with False those whose
        search is still going on: no struct can be inside itself.
        """
        if type_id in searched:
            if not searched[type_id]:
                raise DecodeError("BTF: structs nest without end")
            return None
        searched[type_id] = False
        anonymous = []
        for name, member in self._members(type_id):
            if name == name_offset:
                return Member(base + member.bit_offset, member.bit_size, member.type_id)
            if name == 0:
                anonymous.append(member)
        for member in anonymous:
            inner = self._strip(member.type_id)
            found = self._search(inner, name_offset, base + member.bit_offset, searched)
            if found is not None:
                return found
        searched[type_id] = True
        return None

    def member(self, struct_name: str, path: str) -> Member | None:
        """Find a member; ``path`` may descend into nested structs with dots.

        Returns None when the kernel has no such struct or member.
        """
        type_id = self._find(struct_name, _KIND_STRUCT)
        base = 0
        member: Member | None = None
        for part in path.split("."):
            name_offset = self._string_offset(part)
            if type_id is None or name_offset < 0:
                return None
            member = self._search(type_id, name_offset, base, {})
            if member is None:
                return None
            base = member.bit_offset
            type_id = self._strip(member.type_id) if member.type_id else None
        return member

    def first_member(self, alternatives: Sequence[tuple[str, str]]) -> Member | None:
        """Return the first of several (struct, path) spellings that this kernel has."""
        for struct_name, path in alternatives:
            found = self.member(struct_name, path)
            if found is not None:
                return found
        return None

    def struct_size(self, struct_name: str) -> int | None:
        """Size of a struct in bytes, or None."""
        type_id = self._find(struct_name, _KIND_STRUCT)
        return None if type_id is None else self._type(type_id)[2]

    def has_variable(self, name: str) -> bool:
        """Tell whether there is a variable: BTF lists those that each CPU has for itself."""
        return self._find(name, _KIND_VAR) is not None

    def typedef_id(self, name: str) -> int | None:
        """Return the number of a typedef, or None."""
        return self._find(name, _KIND_TYPEDEF)

    def prototype_arity(self, typedef_name: str) -> int | None:
        """Count the parameters of a typedef'd function pointer, or return None.

        Each tracepoint has such a typedef, ``btf_trace_NAME``, whose first
        parameter is the ``void *`` of the probe itself
        (include/trace/bpf_probe.h).
        """
        type_id = self._find(typedef_name, _KIND_TYPEDEF)
        if type_id is None:
            return None
        kind, vlen, target, _ = self._type(self._strip(type_id))
        if kind == _KIND_PTR:
            kind, vlen, _, _ = self._type(self._strip(target))
        return vlen if kind == _KIND_FUNC_PROTO else None
