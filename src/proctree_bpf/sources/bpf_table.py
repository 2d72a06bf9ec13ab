"""A BPF map as bytes: what BCC's own tables would wrap into ctypes objects."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

_NO_ROOM = (errno.E2BIG, errno.ENOMEM)
# So often, on the average, a key may come up again before a walk is given up.
_MOST_ROUNDS = 16
_LEAST_PATIENCE = 100_000


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"a BPF map could not be {what}: {os.strerror(number)}")


class BpfTable:
    """One map; ``lib`` is libbcc as ctypes has it.

    Each method raises OSError if the kernel refuses.
    """

    def __init__(self, lib: Any, fd: int, key_size: int, value_size: int) -> None:
        self._lib = lib
        self._fd = fd
        self._key_size = key_size
        self._value = ctypes.create_string_buffer(value_size)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        if self._lib.bpf_lookup_elem(self._fd, ctypes.c_char_p(key), self._value) == 0:
            return self._value.raw
        if ctypes.get_errno() != errno.ENOENT:
            raise _failed("read")
        return None

    def put(self, key: bytes, value: bytes) -> bool:
        """Set a value; return whether there was room."""
        if (
            self._lib.bpf_update_elem(self._fd, ctypes.c_char_p(key), ctypes.c_char_p(value), 0)
            == 0
        ):
            return True
        if ctypes.get_errno() not in _NO_ROOM:
            raise _failed("written")
        return False

    def remove(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        if self._lib.bpf_delete_elem(self._fd, ctypes.c_char_p(key)) == 0:
            return
        if ctypes.get_errno() != errno.ENOENT:
            raise _failed("written")

    def keys(self) -> list[bytes]:
        """Return all keys that are there throughout, and perhaps some that came or went.

        The kernel begins anew if the key that it is to go on from has gone; where that
        happens all the time, there is no end, and OSError is raised.
        """
        key = ctypes.create_string_buffer(self._key_size)
        found = ctypes.create_string_buffer(self._key_size)
        keys: dict[bytes, None] = {}
        again = 0
        status = self._lib.bpf_get_first_key(self._fd, found, self._key_size)
        while status == 0:
            key.raw = found.raw
            again += key.raw in keys
            if again > _MOST_ROUNDS * len(keys) + _LEAST_PATIENCE:
                raise OSError(errno.EAGAIN, "a BPF map changes faster than it can be read")
            keys[key.raw] = None
            status = self._lib.bpf_get_next_key(self._fd, key, found)
        if ctypes.get_errno() != errno.ENOENT:
            raise _failed("read")
        return list(keys)
