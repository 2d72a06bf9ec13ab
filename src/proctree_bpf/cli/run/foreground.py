"""The terminal that we share with a command: who is in its foreground, and stopping together.

The command is in our process group, as it would be in our place; a shell makes a group of
its own and takes the terminal for it.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from proctree_bpf.cli.stopping import handled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from proctree_bpf.cli.run.command import Command

_JOB_CONTROL = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class Foreground:
    """The foreground of our controlling terminal, if we have one."""

    def __init__(self, terminal: int | None) -> None:
        self._terminal = terminal
        self._own = os.getpgrp()
        self._was_ours = self._group() == self._own

    def _group(self) -> int:
        """Return the process group in the foreground; 0 if there is no terminal any more."""
        if self._terminal is None:
            return 0
        with suppress(OSError):
            return os.tcgetpgrp(self._terminal)
        return 0

    def _give_to(self, group: int) -> None:
        if self._terminal is not None:
            with suppress(OSError):  # the terminal has hung up
                os.tcsetpgrp(self._terminal, group)

    def take_back(self, may_lose_it: Callable[[int], bool]) -> None:
        """Take the terminal back from a group that is gone, or for which the call is true.

        A shell that has put us into the background keeps it.
        """
        group = self._group()
        is_others = self._was_ours and group not in (0, self._own)
        if is_others and (_is_gone(group) or may_lose_it(group)):
            self._give_to(self._own)

    def stop_with(self, command: Command, number: int) -> None:
        """Stop as the command was stopped, by signal ``number``, and go on with it.

        So whoever runs us sees a stopped job, as it would without us. A command that is
        stopped in the background by a plain SIGSTOP is left to whoever did that.
        """
        group = command.process_group()
        if number not in _JOB_CONTROL and self._group() not in (self._own, group):
            return
        # Our own group is continued as a whole; a SIGCONT of ours would come late, and undo
        # the next Ctrl-Z.
        if _stop_until_continued() and group not in (0, self._own):
            if self._group() == self._own:  # we were put into the foreground for it
                self._give_to(group)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGCONT)


@contextmanager
def foreground() -> Iterator[Foreground]:
    """Hold our controlling terminal open, if there is one."""
    terminal = None
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield Foreground(terminal)
    finally:
        if terminal is not None:
            os.close(terminal)


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _stop_until_continued() -> bool:
    """Stop; return True once continued, False if nobody could ever do that (setpgid(2))."""
    continued = False

    def on_continue(_number: int, _frame: FrameType | None) -> None:
        nonlocal continued
        continued = True

    with handled({signal.SIGCONT: on_continue, signal.SIGTSTP: signal.SIG_DFL}):
        # The kernel does not let it stop an orphaned process group.
        os.kill(os.getpid(), signal.SIGTSTP)
    return continued
