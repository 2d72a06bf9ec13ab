"""The held child by itself: it runs when told to, and its end is told as a shell tells it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from proctree_bpf.cli.errors import CliError
from proctree_bpf.cli.run.command import CommandOptions, Wait, hold_command
from proctree_bpf.cli.run.supervisor import supervised
from proctree_bpf.cli.stopping import Stopper
from proctree_bpf.sources.system.clock import boottime_ns
from support.proc_truth import comm
from support.waiting import wait_until


def outcome(*words: str) -> int:
    """Run a command to its end; return its exit status."""
    with hold_command(CommandOptions(words, Wait.ALL)) as command:
        assert command is not None
        command.release()
        assert command.is_running

        def status() -> list[int]:
            command.poll()
            return [] if command.status is None else [command.status]

        (found,) = wait_until("it ends", status)
        return found


def test_every_exit_status_comes_back() -> None:
    assert [outcome("sh", "-c", f"exit {code}") for code in range(256)] == list(range(256))


_HARMLESS = {
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
}


@pytest.mark.parametrize("number", sorted(signal.valid_signals() - _HARMLESS), ids=int)
def test_every_signal_that_ends_it_is_told(number: int) -> None:
    kill = f"import os; os.kill(os.getpid(), {int(number)})"
    clean = "import resource, signal; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    default = f"signal.signal({int(number)}, signal.SIG_DFL); "
    if number in (signal.SIGKILL, signal.SIGSTOP):
        default = ""
    script = clean + default + kill
    assert outcome(sys.executable, "-S", "-E", "-c", script) == 128 + number


def test_one_that_has_ended_between_two_looks_has_not_stopped() -> None:
    with hold_command(CommandOptions(("true",), Wait.ALL)) as command:
        assert command is not None
        command.release()

        def has_ended() -> bool:
            ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, command.key.pid, ended) is not None

        wait_until("it has ended, and nobody asked", has_ended)
        assert command.new_stop() == 0
        command.poll()
        assert command.status == 0


def test_it_does_nothing_before_it_is_told_to(tmp_path: Path) -> None:
    with hold_command(CommandOptions(("touch", f"{tmp_path}/ran"), Wait.ALL)) as command:
        assert command is not None
        pid = command.key.pid
        assert comm(pid) == comm(os.getpid())
    assert not Path(f"/proc/{pid}").exists()
    assert list(tmp_path.iterdir()) == []


def test_it_ends_with_us_when_it_was_never_told(tmp_path: Path) -> None:
    command = CommandOptions(("touch", f"{tmp_path}/ran"), Wait.ALL)
    us = os.fork()
    if us == 0:
        manager = hold_command(command)
        held_command = manager.__enter__()
        assert held_command is not None
        (tmp_path / "new").write_text(str(held_command.key.pid))
        (tmp_path / "new").rename(tmp_path / "pid")
        signal.pause()
    wait_until("it is held", (tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    os.kill(us, signal.SIGKILL)
    os.waitpid(us, 0)
    wait_until("it is gone", lambda: not Path(f"/proc/{pid}").exists())
    assert not (tmp_path / "ran").exists()


def test_a_file_that_vanishes_while_it_is_held_is_an_error_and_leaves_no_child(
    tmp_path: Path,
) -> None:
    program = tmp_path / "program"
    program.symlink_to("/bin/true")
    with hold_command(CommandOptions((str(program),), Wait.ALL)) as command:
        assert command is not None
        pid = command.key.pid
        program.unlink()
        with pytest.raises(CliError, match="program cannot be run") as caught:
            command.release()
    assert caught.value.code == 126
    wait_until("it is gone", lambda: not Path(f"/proc/{pid}").exists())


def test_no_descriptor_is_left_open() -> None:
    descriptors = Path("/proc/self/fd")
    before = sorted(descriptors.iterdir())
    assert outcome("true") == 0
    with pytest.raises(CliError):
        outcome("/nonsuch")
    assert sorted(descriptors.iterdir()) == before


def test_the_trace_ends_although_no_end_was_told() -> None:
    """As after a loss: not one event of the command is heard of."""
    options = CommandOptions(("sh", "-c", "sleep 0.1; exit 42"), Wait.ALL)
    complete_until_ns = 0
    with hold_command(options) as command:
        assert command is not None
        with supervised(command, Stopper()) as supervisor:
            supervisor.release(lambda: complete_until_ns)
            wait_until("it has ended", lambda: supervisor.is_set() or not command.is_running)
            # A child may have been born whose fork is still on its way.
            assert not supervisor.wait(1.2)
            complete_until_ns = boottime_ns()
            assert supervisor.wait(10)
            assert supervisor.exit_status == 42
