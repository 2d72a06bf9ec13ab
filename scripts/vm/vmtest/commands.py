"""Runs other programs, their output appended to a log, and ends them with this one."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vmtest.failure import SIGNALLED, FailedError, late

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_TAIL_LINES = 12
_COMMAND = "+ "
# What apt and pip say of an archive that they cannot reach, or that has a suite no more.
_UNREACHED = re.compile(
    r"Failed to fetch|does not have a Release file|Could not (?:resolve|connect)|Temporary failure "
    r"resolving|Connection (?:to \S+ )?(?:refused|reset|timed out|failed)|Network is unreachable|"
    r"NewConnectionError|ConnectTimeoutError|ProxyError|RemoteDisconnected|Read timed out"
)


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP end this program as Ctrl-C does: what it has started ends, too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # Not left to whoever has started it: it may not have been told its PID yet.
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(int(child), signal.SIGKILL)
    sys.exit(SIGNALLED + number)


@contextmanager
def fetching() -> Iterator[None]:
    """Tell failures to get from others what was to be tested from those of our own making."""
    try:
        yield
    except FailedError as error:
        error.unable |= error.slow or bool(_UNREACHED.search(_last_output(error.log)))
        raise


def _last_output(log: Path | None) -> str:
    """Return what the last command wrote."""
    text = log.read_text(errors="replace") if log is not None else ""
    return text.rpartition(f"\n{_COMMAND}")[2]


def run(
    step: str,
    log: Path,
    command: Sequence[str | Path],
    *,
    directory: Path | None = None,
    limit_s: float = 900,
) -> None:
    """Run a command, its words and output appended to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with log.open("ab") as out:
        out.write(f"{_COMMAND}{shlex.join(words)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
        )
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise late(step, f"not finished after {limit_s:.0f} s: {words[0]}", log) from None
        finally:
            if process.poll() is None:  # with all that it has started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        raise FailedError(step, f"exit status {status}: {words[0]}\n{tail(log)}", log)


def tail(log: Path) -> str:
    """Return the end of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  | {line}" for line in lines)
