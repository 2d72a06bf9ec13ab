"""A BPF map as bytes."""

from __future__ import annotations

import errno
import os

from proctree_bpf.sources.loading.bpf_syscall import Elements

_NO_ROOM = (errno.E2BIG, errno.ENOMEM)
# So often, on the average, a key may come up again before a walk is given up.
_MOST_ROUNDS = 16
_LEAST_PATIENCE = 100_000


def _failed(what: str, number: int) -> OSError:
    return OSError(number, f"a BPF map could not be {what}: {os.strerror(number)}")


class BpfTable:
    """One map. Each method raises OSError if the kernel refuses."""

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        self._fd = fd
        self._elements = Elements(fd, key_size, value_size)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None."""
        elements = self._elements
        elements.key.raw = key
        number = elements.lookup()
        if number == 0:
            return elements.value.raw
        if number != errno.ENOENT:
            raise _failed("read", number)
        return None

    def put(self, key: bytes, value: bytes) -> bool:
        """Set a value; return whether there was room."""
        elements = self._elements
        elements.key.raw = key
        elements.value.raw = value
        number = elements.update()
        if number and number not in _NO_ROOM:
            raise _failed("written", number)
        return number == 0

    def remove(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        self._elements.key.raw = key
        number = self._elements.delete()
        if number not in (0, errno.ENOENT):
            raise _failed("written", number)

    def keys(self) -> list[bytes]:
        """Return all keys that are there throughout, and perhaps some that came or went.

        The kernel begins anew if the key that it is to go on from has gone; where that
        happens all the time, there is no end, and OSError is raised.
        """
        elements = self._elements
        keys: dict[bytes, None] = {}
        again = 0
        number = elements.first()
        while number == 0:
            key = elements.next_key.raw
            again += key in keys
            if again > _MOST_ROUNDS * len(keys) + _LEAST_PATIENCE:
                raise OSError(errno.EAGAIN, "a BPF map changes faster than it can be read")
            keys[key] = None
            elements.key.raw = key
            number = elements.step()
        if number != errno.ENOENT:
            raise _failed("read", number)
        return list(keys)
