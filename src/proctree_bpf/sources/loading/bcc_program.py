"""The only file that imports bcc: has it compile our programs, in a process of its own.

LLVM's memory, its aborts, and what the compiler may see of the world stay in that process. It runs
this file by its path, so nothing of the package may be imported here.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import struct
import sys
import time
import warnings
from typing import Any

_INSTALL_BCC = (
    "install the distribution's package (Debian and Ubuntu: python3-bpfcc, Fedora: python3-bcc)"
)
_INSTRUCTION = struct.Struct("=BBhi")
_LOAD_CONSTANT = 0x18  # BPF_LD | BPF_DW | BPF_IMM; it takes two instructions
_PSEUDO_MAP_FD = 1
# What the compiler is, by what is mapped of it.
_COMPILER = ("libbcc", "libclang", "libLLVM")


class BccError(Exception):
    """BCC cannot be imported. ``reason`` and ``remedy`` are clauses."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def import_bcc() -> Any:
    """Import BCC's Python module; BccError if it is not there, or another one has its name."""
    try:
        # BCC 0.37 makes structures as Python 3.14 deprecates it (_pack_ without _layout_). With
        # warnings as errors it would pass for a BCC that cannot be used.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            import bcc  # noqa: PLC0415 - 70 MB that only the compiler's process needs
    except SyntaxError as error:  # a module of that name, for another Python
        raise _unrelated(error.filename) from error
    except Exception as error:  # what ctypes raises if libbcc is missing or does not fit
        raise BccError(f"BCC's Python module cannot be imported ({error})", _INSTALL_BCC) from error
    if not hasattr(bcc, "BPF"):
        raise _unrelated(bcc.__file__)
    return bcc


def _unrelated(path: str | None) -> BccError:
    return BccError(
        f"the module bcc at {path} is not BCC but an unrelated project",
        f"remove it and {_INSTALL_BCC}",
    )


def _declare(lib: Any) -> None:
    """Declare functions of libbcc that BCC's own module does not use."""
    at = [ctypes.c_void_p, ctypes.c_size_t]
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    lib.bpf_num_tables.restype = ctypes.c_size_t
    lib.bpf_num_functions.argtypes = [ctypes.c_void_p]
    lib.bpf_table_fd_id.argtypes = at
    lib.bpf_table_name.argtypes = at
    lib.bpf_table_name.restype = ctypes.c_char_p
    lib.bpf_function_name.argtypes = at


def _tables(lib: Any, module: Any) -> dict[int, list[Any]]:
    """Return what the kernel says of the maps that BCC has created, by descriptor.

    Each is a ``MapShape`` of compiled.py.
    """
    found = {}
    for index in range(lib.bpf_num_tables(module)):
        fd = lib.bpf_table_fd_id(module, index)
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as text:  # noqa: PTH123 - starts faster
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in text if ":\t" in line)
        sizes = [int(lines[name]) for name in ("map_type", "key_size", "value_size", "max_entries")]
        name = lib.bpf_table_name(module, index).decode()
        found[fd] = [name, *sizes, int(lines["map_flags"], 16)]
    return found


def _function(lib: Any, module: Any, index: int, tables: dict[int, list[Any]]) -> list[Any]:
    """Return a ``Function`` of compiled.py: it has the names of maps, not BCC's descriptors."""
    name = lib.bpf_function_name(module, index)
    size = lib.bpf_function_size(module, name)
    code = bytearray(ctypes.string_at(lib.bpf_function_start(module, name), size))
    uses = []
    at = 0
    while at < size:
        operation, registers, offset, value = _INSTRUCTION.unpack_from(code, at)
        if operation != _LOAD_CONSTANT:
            at += _INSTRUCTION.size
            continue
        # The registers' halves are swapped where the byte order is.
        source = registers >> 4 if sys.byteorder == "little" else registers & 0xF
        if source == _PSEUDO_MAP_FD:
            uses.append((at, tables[value][0]))
            _INSTRUCTION.pack_into(code, at, operation, registers, offset, 0)
        at += 2 * _INSTRUCTION.size
    return [name.decode(), base64.b64encode(code).decode(), uses]


def _compiler_files(bcc: Any) -> list[list[Any]]:
    """Return a ``FileIdentity`` of compiled.py for each file of the compiler."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123
        paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/" in line}
    mapped = [path for path in paths if os.path.basename(path).startswith(_COMPILER)]  # noqa: PTH119
    states = {path: os.stat(path) for path in sorted([bcc.__file__, *mapped])}  # noqa: PTH116
    return [[path, at.st_ino, at.st_size, at.st_mtime_ns] for path, at in states.items()]


def _compile(request: dict[str, Any]) -> dict[str, Any]:
    begun = time.perf_counter()
    bcc = import_bcc()
    import_seconds = time.perf_counter() - begun
    bpf = bcc.BPF(text=request["source"].encode(), cflags=request["flags"])
    lib, module = bcc.libbcc.lib, bpf.module
    _declare(lib)
    tables = _tables(lib, module)
    compiled = (
        lib.bpf_module_license(module).decode(),
        lib.bpf_module_kern_version(module),
        sorted(tables.values()),
        [_function(lib, module, index, tables) for index in range(lib.bpf_num_functions(module))],
        _compiler_files(bcc),
    )
    return {"compiled": compiled, "import_seconds": import_seconds}


def _errno_of(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def main() -> None:
    """Read a request from stdin, write what came of it to stdout, both as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is for the log
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    try:
        answer = _compile(request)
    except BccError as error:
        answer = {"failed": "import", "reason": error.reason, "remedy": error.remedy}
        answer["errno"] = _errno_of(error)
    except Exception as error:  # noqa: BLE001 - BCC raises Exception itself
        answer = {"failed": "compile", "reason": str(error), "errno": _errno_of(error)}
    with answers:
        json.dump(answer, answers)
    os._exit(0)  # what BCC would tidy up ends with the process


if __name__ == "__main__":
    main()
