"""When a trace is to end: told by a signal, after a time, or because its reader has gone."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.errors import calling
from proctree_bpf.cli.output.writers import WritingAbandoned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopper:
    """Set by a signal, a time limit, or a reader that has gone away."""

    def __init__(self) -> None:
        # Not a threading.Event: a handler that sets one while its lock is held hangs.
        self._is_set = False
        with calling("eventfd"):
            self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)
        self._deadline: float | None = None
        self.reader_gone: Callable[[], bool] = lambda: False
        """Tells whether writing has become pointless."""
        self.pipe_closed = False
        """Whether that has ended it."""
        self.is_writing = False
        """Whether there is anything that a signal must not cut short."""
        self.final = 0
        """The second signal's number, which ends it at once; 0 if there was none."""

    def set(self) -> None:
        """Stop; may be called from a signal handler."""
        self._is_set = True
        os.eventfd_write(self._wakeup, 1)

    def hurry(self, number: int) -> None:
        """Stop at once, because of a second signal; may be called from its handler."""
        self.final = number
        self.set()

    def is_set(self) -> bool:
        """Tell whether it was told to stop."""
        return self._is_set

    def is_due(self) -> bool:
        """Tell whether it was told to stop, or the time is up."""
        return self._is_set or (self._deadline is not None and time.monotonic() >= self._deadline)

    def is_final(self) -> bool:
        """Tell whether to stop at once, whatever is lost."""
        return self.final != 0

    def check(self) -> None:
        """Raise WritingAbandoned if we are to stop at once."""
        if self.final:
            raise WritingAbandoned("the trace was cut short")

    def limit(self, seconds: float | None) -> None:
        """Stop after so many seconds from now."""
        if seconds is not None:
            self._deadline = time.monotonic() + seconds

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep, but not past the time limit."""
        with calling("poll"):
            is_gone = self.reader_gone()
        if is_gone:
            self.pipe_closed = True
            self.set()
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self.set()
            timeout = left if timeout is None else min(timeout, max(left, 0.0))
        with calling("poll"):
            self._poll.poll(None if timeout is None else timeout * 1000)
        return self._is_set


class InterruptedEarly(BaseException):
    """Ctrl-C came before there was anything to stop in good order."""


class EarlyInterrupt:
    """Lets Ctrl-C end the start of a trace in good order, unless it is ignored."""

    def __init__(self) -> None:
        self.is_over = False
        """Whether the start is over: then Ctrl-C does what it does to any program."""

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Let Ctrl-C raise ``InterruptedEarly``, wherever the block is."""
        if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
            yield
            return
        with handled({signal.SIGINT: self._on_signal}):
            yield

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self.is_over:
            raise InterruptedEarly
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


@contextmanager
def stopped_by_signals(stop: Stopper) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP stop in good order; a second one is final.

    Final means at once, but for whole lines and statistics. Where nothing was written yet,
    and after a second one, the signal does what it does to any program.
    """

    def on_signal(number: int, _frame: FrameType | None) -> None:
        second = stop.is_set()
        if second or not stop.is_writing:
            signal.signal(number, signal.SIG_DFL)
        if second:
            stop.hurry(number)
        else:
            stop.set()

    # nohup's wish is respected.
    hangup_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    caught = [number for number in _STOP_SIGNALS if number != signal.SIGHUP or not hangup_ignored]
    with handled(dict.fromkeys(caught, on_signal)):
        yield


@contextmanager
def handled(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Have signals handled so in the block, and as before after it."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
