"""Supervises a command: whose a signal is while it runs, and when its trace is over."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.errors import SIGNAL_STATUS, ExitCode
from proctree_bpf.cli.run.command import Wait
from proctree_bpf.cli.run.foreground import foreground
from proctree_bpf.cli.stopping import handled
from proctree_bpf.core.identity import TICK_NS, ProcessKey, Sameness, compare
from proctree_bpf.filters.descendants import DescendantSet
from proctree_bpf.sources.system import procfs
from proctree_bpf.sources.system.clock import boottime_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from proctree_bpf.cli.run.command import Command
    from proctree_bpf.cli.run.foreground import Foreground
    from proctree_bpf.cli.stopping import Stopper
    from proctree_bpf.core.compact import AnyEvent
    from proctree_bpf.core.process import TrackedProcess
    from proctree_bpf.core.table import ProcessTable

# The terminal sends these to the command as well, which decides what comes of them.
_OF_THE_COMMAND = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
# The last two are passed on to it.
_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long the command may take to end after a signal was passed on to it.
_GRACE_S = 2.0
# The command's end and its stops are noticed within this time.
_LOOK_EVERY_S = 0.05
# Where an exit was lost, /proc shows that nobody is left.
_CHECK_EVERY_S = 0.5


class _SurvivorCheck:
    """Finds out from ``/proc`` that nobody is left although not every end was reported.

    ``complete_until_ns`` tells the time (CLOCK_BOOTTIME) before which all has been seen.
    """

    def __init__(self, complete_until_ns: Callable[[], int]) -> None:
        self._complete_until_ns = complete_until_ns
        self._next_s = 0.0
        self._gone: tuple[ProcessKey, ...] | None = None
        self._gone_by_ns = 0

    def finds_nobody(self, members: tuple[ProcessKey, ...]) -> bool:
        """Tell whether these were gone at a time before which no other had been born."""
        if members == self._gone:
            return self._complete_until_ns() > self._gone_by_ns
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _CHECK_EVERY_S
            if not any(_is_alive(member) for member in members):
                self._gone, self._gone_by_ns = members, boottime_ns()
        return False


def _is_alive(key: ProcessKey) -> bool:
    stat = procfs.read_stat(key.pid)
    if stat is None or stat.ended:
        return False
    return compare(ProcessKey(stat.pid, stat.start_ticks * TICK_NS), key) is not Sameness.DIFFERENT


class CommandSupervisor:
    """Looks after a command while it is traced; a ``StopFlag`` for the pipeline.

    The command is held until ``release``; ``stop`` can end the trace, too.
    """

    def __init__(self, command: Command, stop: Stopper, terminal: Foreground) -> None:
        self._command = command
        self._family = DescendantSet(command.key)
        self._stop = stop
        self._terminal = terminal
        self._survivors: _SurvivorCheck | None = None
        self._signal = 0
        self._own_handlers: dict[signal.Signals, Any] = {}

    @property
    def command(self) -> ProcessKey:
        """The command's identity."""
        return self._command.key

    @property
    def exit_status(self) -> int:
        """The command's, as a shell has it; while it runs, that of the signal that stopped us."""
        if self._command.status is not None:
            return self._command.status
        return SIGNAL_STATUS + self._signal if self._signal else ExitCode.DONE

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended, so that its caller waits for us."""
        return self._command.status is not None

    @property
    def start_note(self) -> str:
        """What to tell the user before the command runs."""
        return f"running {self._command.name}"

    @property
    def end_note(self) -> str:
        """What the user should know at the end; empty if all is as expected."""
        if not self._command.released:
            return f"{self._command.name} was not run"
        if self._command.is_running:
            who = f"{self._command.name} (PID {self._command.key.pid})"
            return f"{who} is still running and is no longer traced"
        return ""

    def hides(self, event: AnyEvent) -> bool:
        """Tell whether an event is of no interest: not the command's, nor a descendant's."""
        return not self._family.includes(event)

    def meet(self, table: ProcessTable) -> None:
        """Learn of descendants whose events were not told."""
        self._family.survey(table)

    def follows(self, node: TrackedProcess) -> bool:
        """Tell whether a living process is the command, or a descendant."""
        return self._family.has(node.key)

    def release(self, complete_until_ns: Callable[[], int]) -> None:
        """Let the command run, unless we were told to stop before.

        ``complete_until_ns`` tells the time (CLOCK_BOOTTIME) before which ``hides`` was asked
        about all that happened.
        """
        if self._stop.is_set():
            return
        for number in _OF_THE_COMMAND:
            self._own_handlers[number] = signal.signal(number, signal.SIG_IGN)
        self._survivors = _SurvivorCheck(complete_until_ns)
        self._command.release()

    def is_set(self) -> bool:
        """Tell whether the trace is over."""
        if self._command.is_running:
            self._command.poll()
            number = self._command.new_stop()
            if number:
                self._terminal.stop_with(self._command, number)
            if not self._command.is_running:
                self._end()
        return self._stop.is_set() or self._is_over()

    def is_due(self) -> bool:
        """Tell whether the trace is over, or its time is up."""
        return self.is_set() or self._stop.is_due()

    def is_final(self) -> bool:
        """Tell whether it is to end at once."""
        return self._stop.is_final()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep, but not past the end of the trace."""
        deadline = inf if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = deadline - time.monotonic()
            self._stop.wait(min(max(left, 0.0), _LOOK_EVERY_S))
            if left <= _LOOK_EVERY_S:
                break
        return self.is_set()

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Stop in good order; a second signal is final."""
        second, self._signal = bool(self._signal), number
        if second or not self._stop.is_writing:
            signal.signal(number, signal.SIG_DFL)
        if second:
            self._stop.hurry(number)
        elif self._command.is_running and number != signal.SIGINT:
            self._command.send(number)
            self._stop.limit(_GRACE_S)
        else:
            self._stop.set()

    def _end(self) -> None:
        """Let signals be ours again, and the terminal."""
        for number, handler in self._own_handlers.items():
            signal.signal(number, handler)
        self.take_terminal_back()

    def take_terminal_back(self) -> None:
        """Take the terminal back from the command, and from what it has left behind."""
        pids = {member.pid for member in self._family.living}
        self._terminal.take_back(lambda group: group in pids)

    def _is_over(self) -> bool:
        if self._command.status is None:
            return False
        if self._signal or self._command.options.wait is Wait.COMMAND:
            return True
        living = self._family.living
        return not living or (self._survivors is not None and self._survivors.finds_nobody(living))


@contextmanager
def supervised(command: Command, stop: Stopper) -> Iterator[CommandSupervisor]:
    """Share signals and the terminal with a command."""
    with foreground() as terminal:
        supervisor = CommandSupervisor(command, stop, terminal)
        # A signal that was ignored when we were started stays ignored (nohup, a shell's &).
        caught = [n for n in _CAUGHT if signal.getsignal(n) != signal.SIG_IGN]
        # SIGTTOU would stop us when we write while the command has the terminal.
        handlers = {**dict.fromkeys(caught, supervisor.on_signal), signal.SIGTTOU: signal.SIG_IGN}
        with handled(handlers):
            try:
                yield supervisor
            finally:
                command.poll()
                if not command.is_running:
                    supervisor.take_terminal_back()
