"""A BPF map as bytes: what BCC's own tables would wrap into ctypes objects."""

from __future__ import annotations

import ctypes
from typing import Any

# Enough for a full table, read several times over.
_MOST_STEPS = 1_000_000


class BpfTable:
    """One map; ``lib`` is libbcc as ctypes has it."""

    def __init__(self, lib: Any, fd: int, key_size: int, value_size: int) -> None:
        self._lib = lib
        self._fd = fd
        self._key_size = key_size
        self._value = ctypes.create_string_buffer(value_size)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        if self._lib.bpf_lookup_elem(self._fd, ctypes.c_char_p(key), self._value) != 0:
            return None
        return self._value.raw

    def put(self, key: bytes, value: bytes) -> bool:
        """Set a value; return whether there was room."""
        result: int = self._lib.bpf_update_elem(
            self._fd, ctypes.c_char_p(key), ctypes.c_char_p(value), 0
        )
        return result == 0

    def remove(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        self._lib.bpf_delete_elem(self._fd, ctypes.c_char_p(key))

    def keys(self) -> list[bytes]:
        """Return all keys that are there throughout, and perhaps some that came or went.

        The kernel begins anew if the key that it is to go on from has gone.
        """
        key = ctypes.create_string_buffer(self._key_size)
        found = ctypes.create_string_buffer(self._key_size)
        if self._lib.bpf_get_first_key(self._fd, found, self._key_size) != 0:
            return []
        keys: dict[bytes, None] = {}
        for _ in range(_MOST_STEPS):
            keys[found.raw] = None
            key.raw = found.raw
            if self._lib.bpf_get_next_key(self._fd, key, found) != 0:
                break
        return list(keys)
