"""A command of the user's, run as our child: held until it is watched, then released.

The child is forked before tracing starts and waits on a pipe before its exec, so its
identity is known and its very first exec is seen.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from proctree_bpf.cli.errors import SIGNAL_STATUS, CliError, calling
from proctree_bpf.cli.run import child
from proctree_bpf.cli.run.run_as import chosen_user
from proctree_bpf.sources.system import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator


class Wait(StrEnum):
    """Whose end ends the trace of a command."""

    ALL = "all"
    """That of the last descendant."""
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """The command that the user asked for, and whom to run it as."""

    words: tuple[str, ...]
    wait: Wait
    as_user: str | None = None


class Command:
    """A child of ours. Its exit status is learnt from ``poll``, never by waiting for it."""

    def __init__(self, options: CommandOptions, pid: int, release_fd: int, status_fd: int) -> None:
        self.options = options
        self.key = procfs.read_key(pid)
        self.status: int | None = None
        """What a shell would give as its exit status; None while it runs."""
        self.released = False
        self._pidfd = os.pidfd_open(pid)
        self._release_fd = release_fd
        self._status_fd = status_fd

    @property
    def name(self) -> str:
        """Its first word."""
        return self.options.words[0]

    @property
    def is_running(self) -> bool:
        """Whether it was released and has not ended yet, as far as ``poll`` has seen."""
        return self.released and self.status is None

    def wait_until_ready(self) -> None:
        """Wait until it stands before its exec; a CliError says that it has ended instead."""
        status = os.read(self._status_fd, child.MAX_STATUS_BYTES)
        if status != child.READY:
            raise child.failure(status)

    def release(self) -> None:
        """Let it run; a CliError says that the kernel would not, and that it has ended."""
        self.released = True
        with suppress(BrokenPipeError):  # a signal was faster: poll will tell
            os.write(self._release_fd, child.RELEASE)
        status = os.read(self._status_fd, child.MAX_STATUS_BYTES)  # exec closes the other end
        if status:
            self._wait()
            raise child.failure(status)

    def poll(self) -> None:
        """Learn whether it has ended; does not wait."""
        if self.status is None:
            self._wait(os.WNOHANG)

    def _wait(self, options: int = 0) -> None:
        found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | options)
        if found is not None:
            killed = found.si_code != os.CLD_EXITED
            self.status = found.si_status + (SIGNAL_STATUS if killed else 0)

    def new_stop(self) -> int:
        """Return the signal that stopped it since the last call, if it is stopped; else 0."""
        stopped = os.WSTOPPED | os.WNOHANG
        with suppress(ChildProcessError):  # it has just ended: poll will tell
            # The first look lets a stop that is meant for us as well take effect, and end.
            if self.status is None and os.waitid(os.P_PIDFD, self._pidfd, stopped | os.WNOWAIT):
                found = os.waitid(os.P_PIDFD, self._pidfd, stopped)
                return found.si_status if found is not None else 0
        return 0

    def process_group(self) -> int:
        """Return the process group that it is in; 0 if it is gone."""
        with suppress(ProcessLookupError):
            return os.getpgid(self.key.pid) if self.status is None else 0
        return 0

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """Let go of it; one that was never released is killed."""
        self.poll()
        if not self.released and self.status is None:
            self.send(signal.SIGKILL)
            self._wait()
        for descriptor in (self._release_fd, self._status_fd, self._pidfd):
            os.close(descriptor)


@contextmanager
def hold_command(options: CommandOptions | None) -> Iterator[Command | None]:
    """Fork the command, if there is one, as the user that it is for; hold it before its exec."""
    if options is None:
        yield None
        return
    command = _fork(options)
    try:
        command.wait_until_ready()
        yield command
    finally:
        command.close()


def _fork(options: CommandOptions) -> Command:
    user = chosen_user(options.as_user, os.environ)
    plan = child.ExecPlan(options.words, child.inherited_environment(), user)
    with calling("pidfd_open"):
        os.close(os.pidfd_open(os.getpid()))  # before there is anybody to be ended
    with calling("pipe"):
        release_read, release_write = os.pipe()
        status_read, status_write = os.pipe()
    # Were it ignored, the kernel would throw the exit status away.
    at_child_end = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # No signal may find the child with handlers that are ours.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with calling("fork"):
            pid = os.fork()
    except CliError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid == 0:
        os.close(release_write)
        os.close(status_read)
        signal.signal(signal.SIGCHLD, at_child_end or signal.SIG_DFL)
        child.exec_when_released(plan, mask, release_read, status_write)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(release_read)
    os.close(status_write)
    return Command(options, pid, release_write, status_read)
