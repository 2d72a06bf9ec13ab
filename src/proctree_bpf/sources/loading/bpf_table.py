"""A BPF map as bytes."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from proctree_bpf.sources.loading.bpf_syscall import bpf

_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 1, 2, 3, 4
_ATTR = struct.Struct("=i4xQQQ")  # of union bpf_attr: the map, a key, a value or next key, flags
_NO_ROOM = (errno.E2BIG, errno.ENOMEM)
# So often, on the average, a key may come up again before a walk is given up.
_MOST_ROUNDS = 16
_LEAST_PATIENCE = 100_000


def _failed(what: str, number: int) -> OSError:
    return OSError(number, f"a BPF map could not be {what}: {os.strerror(number)}")


def _do(command: int, attributes: bytes) -> int:
    """Return 0, or the number of what the kernel says is wrong."""
    return 0 if bpf(command, attributes) == 0 else ctypes.get_errno()


class BpfTable:
    """One map, and buffers for its elements. Each method raises OSError if the kernel refuses."""

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        self._fd = fd
        self._key = ctypes.create_string_buffer(key_size)
        self._value = ctypes.create_string_buffer(value_size)
        self._next_key = ctypes.create_string_buffer(key_size)
        buffers = (self._key, self._value, self._next_key)
        key, value, next_key = map(ctypes.addressof, buffers)
        self._element = _ATTR.pack(fd, key, value, 0)
        self._key_alone = _ATTR.pack(fd, key, 0, 0)
        self._first = _ATTR.pack(fd, 0, next_key, 0)
        self._following = _ATTR.pack(fd, key, next_key, 0)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        self._key.raw = key
        number = _do(_LOOKUP, self._element)
        if number == errno.ENOENT:
            return None
        if number:
            raise _failed("read", number)
        return self._value.raw

    def put(self, key: bytes, value: bytes) -> bool:
        """Set a value; return whether there was room."""
        self._key.raw = key
        self._value.raw = value
        number = _do(_UPDATE, self._element)
        if number and number not in _NO_ROOM:
            raise _failed("written", number)
        return number == 0

    def remove(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        self._key.raw = key
        number = _do(_DELETE, self._key_alone)
        if number not in (0, errno.ENOENT):
            raise _failed("written", number)

    def _read_next_key(self, which: bytes) -> int:
        return _do(_NEXT_KEY, which)

    def keys(self) -> list[bytes]:
        """Return all keys that are there throughout, and perhaps some that came or went.

        The kernel begins anew if the key that it is to go on from has gone; where that
        happens all the time, there is no end, and OSError is raised.
        """
        keys: dict[bytes, None] = {}
        again = 0
        number = self._read_next_key(self._first)
        while number == 0:
            key = self._next_key.raw
            again += key in keys
            if again > _MOST_ROUNDS * len(keys) + _LEAST_PATIENCE:
                raise OSError(errno.EAGAIN, "a BPF map changes faster than it can be read")
            keys[key] = None
            self._key.raw = key
            number = self._read_next_key(self._following)
        if number != errno.ENOENT:
            raise _failed("read", number)
        return list(keys)
