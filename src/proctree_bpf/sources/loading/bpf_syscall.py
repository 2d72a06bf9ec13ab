"""bpf(2) itself: creates maps, loads and attaches programs, with neither libbpf nor a compiler."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct

# arch/*/syscalls; most others have the generic table's number.
_NUMBERS = {"x86_64": 321, "ppc64le": 361, "s390x": 351, "armv7l": 386, "i686": 357}
_GENERIC_NUMBER = 280
_MAP_CREATE, _PROG_LOAD, _TRACEPOINT_OPEN = 0, 5, 17
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
# The same with arguments whose types the verifier knows: BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP.
_TRACING, _OF_RAW_TRACEPOINT = 26, 23
_NAME_ROOM = 16  # BPF_OBJ_NAME_LEN
_LOG_ROOM = 16 << 20

# The members of union bpf_attr that are used; those behind them are 0 where the kernel knows more.
_MAP_ATTR = struct.Struct("=IIIII8x16s")
_PROG_ATTR = struct.Struct("=IIQQIIQI4x16s4xI36xI4x")
_TRACEPOINT_ATTR = struct.Struct("=QI4x")

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_syscall.restype = ctypes.c_long
_number = _NUMBERS.get(os.uname().machine, _GENERIC_NUMBER)


class LoadError(OSError):
    """The kernel did not take a program; ``log`` is what the verifier said."""

    def __init__(self, number: int, text: str, log: str) -> None:
        super().__init__(number, text)
        self.log = log


def bpf(command: int, attributes: bytes) -> int:
    """Make the system call; if its result is negative, ``ctypes.get_errno()`` says why."""
    result: int = _syscall(_number, command, attributes, len(attributes))
    return result


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{os.strerror(number)}: {what}")


def _lift_memory_limit() -> bool:
    """Lift the limit that maps and programs counted against before Linux 5.11."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    except (OSError, ValueError):
        return False
    return True


def _create(command: int, attributes: bytes) -> int:
    fd = bpf(command, attributes)
    if fd < 0 and ctypes.get_errno() == errno.EPERM and _lift_memory_limit():
        fd = bpf(command, attributes)
    return fd


def create_map(name: str, shape: tuple[int, int, int, int, int]) -> int:
    """Create a map; return its descriptor, which is closed on exec. OSError if it is refused.

    ``shape`` is its kind, the sizes of a key and a value, how many there can be, and flags.
    """
    room = name.encode()[: _NAME_ROOM - 1]
    fd = _create(_MAP_CREATE, _MAP_ATTR.pack(*shape, room))
    if fd < 0:
        raise _error(f"the map {name}")
    return fd


def load_raw_tracepoint(
    name: str, code: bytes, license_text: str, kernel_version: int, type_id: int | None = None
) -> int:
    """Have a program verified; return its descriptor, which is closed on exec. Else LoadError.

    ``type_id``: in the kernel's BTF, that of the tracepoint, if the program reads what its
    arguments point to by plain loads.
    """
    text = license_text.encode()
    room = name.encode()[: _NAME_ROOM - 1]
    instructions, terms = ctypes.create_string_buffer(code), ctypes.create_string_buffer(text)

    kind, attached = (_RAW_TRACEPOINT, 0) if type_id is None else (_TRACING, _OF_RAW_TRACEPOINT)

    def load(level: int, size: int, log: int) -> int:
        attributes = _PROG_ATTR.pack(
            kind, len(code) // 8, ctypes.addressof(instructions),
            ctypes.addressof(terms), level, size, log, kernel_version, room,
            attached, type_id or 0,
        )  # fmt: skip
        return _create(_PROG_LOAD, attributes)

    fd = load(0, 0, 0)
    if fd >= 0:
        return fd
    failed = _error(f"the program {name}")
    log = ctypes.create_string_buffer(_LOG_ROOM)
    fd = load(1, _LOG_ROOM, ctypes.addressof(log))
    if fd >= 0:  # it was refused for a moment only
        return fd
    raise LoadError(failed.errno or 0, failed.strerror or "", log.value.decode("utf-8", "replace"))


def open_raw_tracepoint(tracepoint: str | None, program: int) -> int:
    """Attach a program; closing the descriptor that is returned detaches it.

    None: to the tracepoint of the type that it was loaded for. OSError if it is refused.
    """
    name = None if tracepoint is None else ctypes.create_string_buffer(tracepoint.encode())
    address = 0 if name is None else ctypes.addressof(name)
    fd = bpf(_TRACEPOINT_OPEN, _TRACEPOINT_ATTR.pack(address, program))
    if fd < 0:
        raise _error(f"the tracepoint {tracepoint}")
    return fd
