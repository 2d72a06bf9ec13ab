"""A descriptor to write to, and how much it takes at once without waiting.

A pipe or a socket takes what fits or nothing, as long as not more is asked of it than it
surely has room for. So whoever waits for room between two lines, and not within one, can
stop at any time and leave whole lines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import struct
import termios
from contextlib import suppress
from enum import Enum
from mmap import PAGESIZE

_INT = struct.Struct("i")
# unix(7): so much is sent in one piece, or not at all.
_SOCKET_PIECE = 16_384
# Pages that are not full for other reasons than that the next piece did not fit.
_SPARE_SLOTS = 3
_PTY_CLONER = os.makedev(5, 2)


class Kind(Enum):
    """What a descriptor leads to."""

    FILE = "a regular file"
    PIPE = "a pipe"
    SOCKET = "a socket"
    TERMINAL = "a terminal"
    DEVICE = "something that never makes us wait"


class Channel:
    """Where bytes go. Takes over a descriptor that is open for writing.

    ``shared`` says that others may have it too, and do not expect it to change.
    """

    def __init__(self, descriptor: int, *, shared: bool) -> None:
        self._descriptor = descriptor
        self.kind = _kind_of(descriptor)
        self._poll = select.poll()
        if self.kind in (Kind.PIPE, Kind.TERMINAL):
            if shared:
                self._reopen()
            else:
                os.set_blocking(descriptor, False)
        self._poll.register(self._descriptor, select.POLLOUT)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close it; an OSError says that what was written before did not arrive."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _reopen(self) -> None:
        """Make it ours alone, so that not waiting is not imposed on who shares it."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with suppress(OSError):  # then we may have to wait now and then
            ours = os.open(f"/proc/self/fd/{self._descriptor}", flags)
            os.dup2(ours, self._descriptor, inheritable=False)
            os.close(ours)

    def wait(self, seconds: float) -> None:
        """Wait for any room, so long at the most."""
        self._poll.poll(seconds * 1000)

    def waiting(self) -> int:
        """Return how many bytes the reader has not taken yet; 0 if nobody can tell."""
        request = {Kind.PIPE: termios.FIONREAD, Kind.SOCKET: termios.TIOCOUTQ}.get(self.kind)
        if request is None:
            return 0
        with suppress(OSError):
            (count,) = _INT.unpack(fcntl.ioctl(self._descriptor, request, bytes(_INT.size)))
            return int(count)
        return 0

    def room(self) -> int | None:
        """Return how many bytes it takes at once; None if it takes all."""
        if self.kind in (Kind.FILE, Kind.DEVICE):
            return None
        if self.kind is Kind.PIPE and (room := self._pipe_room()) > 0:
            return room
        if not self._poll.poll(0):
            return 0
        if self.kind is Kind.SOCKET:
            return self.largest() if self.waiting() == 0 else _SOCKET_PIECE
        return select.PIPE_BUF

    def largest(self) -> int:
        """Return how much it can have room for when its reader has taken all."""
        if self.kind is Kind.PIPE:
            return fcntl.fcntl(self._descriptor, fcntl.F_GETPIPE_SZ)
        if self.kind is Kind.SOCKET:
            with socket.socket(fileno=os.dup(self._descriptor)) as alias:
                half = alias.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
                return max(half, _SOCKET_PIECE)
        return select.PIPE_BUF

    def enlarge(self, size: int) -> None:
        """Ask for a pipe that can take so much, if that is allowed."""
        if self.kind is Kind.PIPE:
            with suppress(OSError):
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, size)

    def _pipe_room(self) -> int:
        """Return what surely fits into a pipe besides what is in it.

        Its slots hold a page each, filled by one or more writes. A piece begins a new page
        only if it does not fit on the last one, so two neighbours hold more than a page.
        """
        slots = fcntl.fcntl(self._descriptor, fcntl.F_GETPIPE_SZ) // PAGESIZE
        unread = self.waiting()
        used = 2 * unread // PAGESIZE + _SPARE_SLOTS if unread else 0
        return (slots - used) * PAGESIZE

    def put(self, data: memoryview) -> int:
        """Write what fits now; return how much that was."""
        try:
            if self.kind is Kind.SOCKET:
                with socket.socket(fileno=os.dup(self._descriptor)) as alias:
                    return alias.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0

    def take_back(self, count: int) -> None:
        """Cut the last so many bytes off a regular file, if they are ours.

        They are not if the file has grown or shrunk since we wrote.
        """
        if self.kind is not Kind.FILE or count <= 0:
            return
        with suppress(OSError):
            position = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if position == os.fstat(self._descriptor).st_size:
                os.ftruncate(self._descriptor, position - count)
                os.lseek(self._descriptor, -count, os.SEEK_CUR)  # or the next one leaves a hole


def _kind_of(descriptor: int) -> Kind:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    found = os.fstat(descriptor)
    kinds = ((stat.S_ISREG, Kind.FILE), (stat.S_ISFIFO, Kind.PIPE), (stat.S_ISSOCK, Kind.SOCKET))
    for is_of_kind, kind in kinds:
        if is_of_kind(found.st_mode):
            return kind
    # The side of a terminal emulator would become another terminal when it is opened again.
    is_terminal = os.isatty(descriptor) and found.st_rdev != _PTY_CLONER
    return Kind.TERMINAL if is_terminal else Kind.DEVICE
