"""What a child of ours does between fork and exec, and how it reports a failure.

It writes ``READY`` to the status pipe, waits for ``RELEASE`` from the release pipe, and becomes
the command. If it cannot, it writes why to the status pipe; if that closes, the exec succeeded.
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from proctree_bpf.cli.errors import CliError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proctree_bpf.cli.run.run_as import User

READY, RELEASE = b"ready", b"release"
MAX_STATUS_BYTES = 4096
"""PIPE_BUF: what is written at once is read at once."""

# Python ignores these from its start; a program does not expect to inherit that.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_SHELL = "/bin/sh"
_FIRST_LINE_BYTES = 256


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """What to run and in which environment; ``user`` is whom to become first, if not None."""

    words: tuple[str, ...]
    environ: Mapping[bytes, bytes]
    user: User | None


def failure(status: bytes) -> CliError:
    """Return the error that a child wrote to its status pipe."""
    code, _, sentence = status.partition(b" ")
    if not code.isdigit():
        return CliError("the command was killed before it could start.", ExitCode.NOT_EXECUTABLE)
    return CliError(os.fsdecode(sentence), ExitCode(int(code)))


def inherited_environment() -> dict[bytes, bytes]:
    """Return the environment that we were started with: Python may have set LC_CTYPE since."""
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in block.split(b"\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def exec_when_released(
    plan: ExecPlan, mask: Iterable[int], release_fd: int, status_fd: int
) -> NoReturn:
    """Become the command once released, or write why not. ``mask`` is the signal mask to have."""
    code: int = ExitCode.NOT_EXECUTABLE
    try:
        _prepare(plan, mask)
        path = _find(plan.words[0])
        os.write(status_fd, READY)
        if os.read(release_fd, len(RELEASE)) == RELEASE:
            _execute(path, plan)
    except CliError as error:
        code = error.code
        os.write(status_fd, os.fsencode(f"{code} {error}")[:MAX_STATUS_BYTES])
    finally:
        os._exit(code)


def _prepare(plan: ExecPlan, mask: Iterable[int]) -> None:
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if plan.user is None:
        return
    try:
        plan.user.become()
    except OSError as error:
        who = plan.user.name or f"with id {plan.user.uid}"
        raise CliError(
            f"the command cannot be run as user {who} ({error.strerror}); run it with sudo.",
            ExitCode.NO_PRIVILEGE,
        ) from error


def _find(name: str) -> str:
    """Return the path of a command, found as a shell does; a CliError says that none can be run."""
    places = (
        [name]
        if "/" in name
        else [os.path.join(d or ".", name) for d in os.get_exec_path() if name]  # noqa: PTH118
    )
    not_executable: CliError | None = None
    for path in places:
        why = _why_not(path)
        if why is None:
            return path
        if why.errno != errno.ENOENT:
            not_executable = not_executable or _cannot_run(name, why)
    raise not_executable or CliError(
        f"{name or repr(name)} cannot be found; give its path, or the name of a program on PATH.",
        ExitCode.NOT_FOUND,
    )


def _why_not(path: str) -> OSError | None:
    try:
        Path(path).stat()
    except OSError as error:
        return error
    except ValueError:  # a NUL, which only a caller from Python can pass
        return OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if Path(path).is_dir():
        return OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.X_OK):
        return OSError(errno.EACCES, os.strerror(errno.EACCES))
    return None


def _cannot_run(name: str, why: OSError) -> CliError:
    return CliError(f"{name} cannot be run ({why.strerror}).", ExitCode.NOT_EXECUTABLE)


def _execute(path: str, plan: ExecPlan) -> NoReturn:
    name, *rest = plan.words
    try:
        os.execve(path, plan.words, plan.environ)  # noqa: S606 - the user's command
    except FileNotFoundError as error:
        raise CliError(
            f"{name} cannot be run (the interpreter in its first line is missing).",
            ExitCode.NOT_EXECUTABLE,
        ) from error
    except OSError as error:
        if error.errno != errno.ENOEXEC or not _is_script(path):
            raise _cannot_run(name, error) from error
    # A script that does not name its interpreter is for the shell.
    try:
        os.execve(_SHELL, [_SHELL, path, *rest], plan.environ)  # noqa: S606 - as above
    except OSError as error:
        raise _cannot_run(name, error) from error


def _is_script(path: str) -> bool:
    """Tell text from a program for another machine, as bash does: by a NUL in its first line."""
    try:
        with Path(path).open("rb") as file:
            return b"\0" not in file.readline(_FIRST_LINE_BYTES)
    except OSError:
        return True
