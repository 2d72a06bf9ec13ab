"""Hand-made BTF: just enough of include/uapi/linux/btf.h to write any type down."""

from __future__ import annotations

import struct

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = (
    range(9, 20)
)
KIND_FLAG = 1 << 31
HEADER = struct.Struct("=HBBIIIII")

# (name, type id, offset in bits) or (name, type id, offset in bits, width of the bit-field)
Field = tuple[str, int, int] | tuple[str, int, int, int]


class BtfBlob:
    """Collects types; each method returns the id of the type it adds, as the kernel counts."""

    def __init__(self) -> None:
        self._strings = bytearray(b"\0")
        self._offsets = {"": 0}
        self._types: list[bytes] = []

    def string(self, text: str) -> int:
        """Return the offset of a string in the string section."""
        if text not in self._offsets:
            self._offsets[text] = len(self._strings)
            self._strings += text.encode() + b"\0"
        return self._offsets[text]

    def add(
        self, kind: int, name: str, size: int, *words: int, vlen: int = 0, flag: int = 0
    ) -> int:
        """Add a type of any kind: its three words, and those that follow them."""
        info = flag | kind << 24 | vlen
        self._types.append(
            struct.pack(f"={3 + len(words)}I", self.string(name), info, size, *words)
        )
        return len(self._types)

    def integer(self, name: str = "int", size: int = 4) -> int:
        """Add an integer."""
        return self.add(INT, name, size, size * 8)

    def pointer(self, target: int = 0) -> int:
        """Add a pointer."""
        return self.add(PTR, "", target)

    def typedef(self, name: str, target: int) -> int:
        """Add a typedef."""
        return self.add(TYPEDEF, name, target)

    def modifier(self, kind: int, target: int) -> int:
        """Add const, volatile, restrict or a type tag."""
        return self.add(kind, "", target)

    def struct(self, name: str, size: int, *fields: Field, kind: int = STRUCT) -> int:
        """Add a struct, or a union; one with a bit-field gets the flag that it needs."""
        bit_fields = any(len(field) > 3 for field in fields)
        words: list[int] = []
        for label, type_id, offset, *width in fields:
            bits = (width[0] if width else 0) << 24 if bit_fields else 0
            words += [self.string(label), type_id, bits | offset]
        flag = KIND_FLAG if bit_fields else 0
        return self.add(kind, name, size, *words, vlen=len(fields), flag=flag)

    def union(self, name: str, size: int, *fields: Field) -> int:
        """Add a union."""
        return self.struct(name, size, *fields, kind=UNION)

    def prototype(self, *parameters: int) -> int:
        """Add a function prototype that returns nothing."""
        words = [word for parameter in parameters for word in (0, parameter)]
        return self.add(FUNC_PROTO, "", 0, *words, vlen=len(parameters))

    def __bytes__(self) -> bytes:
        types, strings = b"".join(self._types), bytes(self._strings)
        header = HEADER.pack(0xEB9F, 1, 0, HEADER.size, 0, len(types), len(types), len(strings))
        return header + types + strings


def kernel_like(
    *,
    without: tuple[str, str] | None = None,
    extra: dict[str, list[str]] | None = None,
    flags: dict[str, dict[str, int]] | None = None,
    exit_parameters: int = 2,
) -> BtfBlob:
    """Return a kernel with every member that the BPF program asks for, eight bytes apart.

    ``without`` leaves out one (struct, member); ``extra`` adds members at the end;
    ``flags`` adds to structs bit-fields of one bit, so many bits from their old end.
    """
    structs = {
        "sched_entity": "sum_exec_runtime",
        "task_struct": "pid tgid start_boottime real_parent group_leader signal mm comm exit_code "
        "real_cred thread_pid cgroups",
        "css_set": "dfl_cgrp",
        "cgroup": "kn",
        "kernfs_node": "id",
        "signal_struct": "live flags group_exit_code sum_sched_runtime",
        "mm_struct": "arg_start arg_end exe_file",
        "cred": "uid gid",
        "linux_binprm": "filename",
        "file": "f_path",
        "path": "mnt dentry",
        "qstr": "name",
        "vfsmount": "mnt_root",
        "mount": "mnt mnt_parent mnt_mountpoint",
        "pid": "level numbers",
        "upid": "nr",
        "pid_namespace": "",
    }
    blob = BtfBlob()
    long = blob.integer("long", 8)
    ids = {}
    for name, members in structs.items():
        labels = [label for label in members.split() if (name, label) != without]
        labels += (extra or {}).get(name, [])
        fields: list[Field] = [(label, long, 64 * at) for at, label in enumerate(labels)]
        end = 64 * len(fields)
        bits = (flags or {}).get(name, {})
        fields += [(label, long, end + bit, 1) for label, bit in bits.items()]
        if name == "task_struct":
            fields.append(("se", ids["sched_entity"], end + 64))
        ids[name] = blob.struct(name, 8 * len(fields), *fields)
    named = [] if without == ("dentry", "d_name") else [("d_name", ids["qstr"], 64)]
    parent = [] if without == ("dentry", "d_parent") else [("d_parent", long, 0)]
    blob.struct("dentry", 24, *parent, *named)
    prototype = blob.prototype(*[blob.pointer()] * (1 + exit_parameters))
    blob.typedef("btf_trace_sched_process_exit", blob.pointer(prototype))
    return blob
