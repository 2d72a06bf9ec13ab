"""Writes whole lines, or whole frames, to where the output goes, and knows when to give up.

As long as nobody stops us we wait for a slow reader, as every program does. Once we are to
stop, a reader that takes nothing for a while is waited for no longer.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from proctree_bpf.cli.output.channel import Channel, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 3.0
"""How long a reader may take nothing once we are to stop."""
_BUFFERED = 65_536
_LOOK_EVERY_S = 0.1
_TELL_AFTER_S = 0.5
# Room for a long line is looked for so often while there is some, but too little.
_LITTLE_ROOM_S = 0.005


class WritingAbandoned(Exception):  # noqa: N818 - what has become of the writing
    """There is no point in waiting any longer for who should read, or no time."""


class OutputError(OSError):
    """What was written did not arrive; if its reader has gone, it is a BrokenPipeError instead."""


class EndRequest(Protocol):
    """Whether, and how urgently, we are to stop."""

    def is_due(self) -> bool:
        """Tell whether we are to stop."""

    def is_final(self) -> bool:
        """Tell whether to stop at once, whatever is lost."""


class _Writer:
    """What is common to all that writes into a channel.

    Args:
        channel: where to; closed by ``close``.
        name: what messages call it.
        by_line: whether a line is what must be written whole, or all of each ``send``.

    """

    def __init__(self, channel: Channel, name: object, *, by_line: bool) -> None:
        self._channel = channel
        self._sender = _Sender(channel, name, by_line=by_line)

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._channel.fileno()

    def end_with(self, ending: EndRequest, on_wait: Callable[[], object] = lambda: None) -> None:
        """Say who knows when we are to stop, and what to do once we wait though we should."""
        self._sender.ending, self._sender.on_wait = ending, on_wait

    def close(self) -> None:
        """Close the file."""
        self._channel.close()


class LineWriter(_Writer):
    """A file of text that ends in a whole line, come what may; has what sinks need of one."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, "the output", by_line=True)
        self._texts: list[str] = []
        self._held = 0

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._channel.fileno())

    def write(self, text: str) -> int:
        """Take whole lines; they are written later, or by ``flush``."""
        self._texts.append(text)
        self._held += len(text)
        if self._held >= _BUFFERED:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what was taken.

        Raises:
            WritingAbandoned: nobody reads it, and we are to stop.
            BrokenPipeError: its reader has closed it.
            OutputError: it cannot be written. What does not fit is lost, except for whole lines.

        """
        if self._texts:
            data = "".join(self._texts).encode("utf-8", "backslashreplace")
            self._texts, self._held = [], 0
            self._sender.send(data)

    @property
    def lost_lines(self) -> int:
        """How many lines were taken and did not arrive."""
        held = sum(text.count("\n") for text in self._texts)
        return held + self._sender.lost.count(b"\n")

    def close(self) -> None:
        """Write what was taken, and close the file; raises what ``flush`` does."""
        try:
            self.flush()
        finally:
            super().close()

    def discard(self) -> None:
        """Write nothing more, and forget what was taken since the last ``flush``."""
        self._texts, self._held = [], 0
        self._sender.is_open = False


class FrameWriter(_Writer):
    """A binary file whose frames are written whole, at once, each by a call of ``write``."""

    def __init__(self, channel: Channel, name: object) -> None:
        super().__init__(channel, name, by_line=False)

    def write(self, data: bytes) -> int:
        """Write a frame; raises what ``LineWriter.flush`` does."""
        self._sender.send(data)
        return len(data)


class _Sender:
    """Brings bytes into a channel, whole piece by whole piece."""

    def __init__(self, channel: Channel, name: object, *, by_line: bool) -> None:
        self._channel = channel
        self._name = name
        self._by_line = by_line
        self.ending: EndRequest | None = None
        self.on_wait: Callable[[], object] = lambda: None
        self.is_open = True
        self.lost = b""
        self._progress_s = 0.0
        self._due_s: float | None = None
        self._told = False
        self._waiting = 0

    def send(self, data: bytes) -> None:
        """Write all of it, or raise what ``LineWriter.flush`` does."""
        if not self.is_open:
            return
        view, at = memoryview(data), 0
        self._progress_s = time.monotonic()
        try:
            while at < len(data):
                end = self._fitting(data, at)
                sent = self._channel.put(view[at:end]) if end > at else 0
                if sent:
                    at += sent
                    self._progress_s = time.monotonic()
                else:
                    self._wait(has_room=end == at)
        except BaseException as error:
            self.is_open = False
            whole = self._end_of_pieces(data, 0, at)
            self.lost = data[whole:]
            self._channel.take_back(at - whole)
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise OutputError(error.errno, error.strerror) from error
            raise

    def _fitting(self, data: bytes, at: int) -> int:
        """Return up to where it can be written now without stopping within a piece."""
        room = self._channel.room()
        if room is None:
            return len(data)
        fits = min(at + room, len(data))
        if self._channel.kind is Kind.TERMINAL:
            return fits
        end = max(self._end_of_pieces(data, at, fits), at)
        if end == at and fits > at:
            needed = self._length_of_piece(data, at)
            if needed > self._channel.largest():
                self._channel.enlarge(2 * needed)
            if needed > self._channel.largest():
                return fits  # it can only be had in parts
        return end

    def _end_of_pieces(self, data: bytes, begin: int, end: int) -> int:
        """Return where the last piece ends that is whole before ``end``; 0 if none is."""
        if self._by_line:
            return data.rfind(b"\n", begin, end) + 1
        return end if end == len(data) else 0

    def _length_of_piece(self, data: bytes, at: int) -> int:
        newline = data.find(b"\n", at) if self._by_line else -1
        return (newline + 1 if newline >= 0 else len(data)) - at

    def _wait(self, *, has_room: bool) -> None:
        waiting = self._channel.waiting()
        if waiting < self._waiting:
            self._progress_s = time.monotonic()
        self._waiting = waiting
        if self.ending is not None and self.ending.is_final():
            raise WritingAbandoned(f"{self._name} could not be written in time")
        if self.ending is not None and self.ending.is_due():
            self._be_impatient()
        if has_room:
            time.sleep(_LITTLE_ROOM_S)
        self._channel.wait(_LOOK_EVERY_S)

    def _be_impatient(self) -> None:
        now_s = time.monotonic()
        self._due_s = now_s if self._due_s is None else self._due_s
        if now_s - max(self._progress_s, self._due_s) > PATIENCE_S:
            raise WritingAbandoned(f"{self._name} could not be written (nobody reads it)")
        if not self._told and now_s - self._due_s > _TELL_AFTER_S:
            self._told = True
            self.on_wait()
