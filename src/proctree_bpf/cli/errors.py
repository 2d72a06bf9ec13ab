"""Exit statuses, and errors that become one sentence on stderr."""

from __future__ import annotations

import errno
import threading
import traceback
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

from proctree_bpf.cli.messages import counted
from proctree_bpf.errors import FilterError, Refusal, SourceFailedError, SourceUnavailableError
from proctree_bpf.sources.system.causes import forbidden, shortage, what_helps

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNAL_STATUS = 128
"""What a shell adds to the number of the signal that ended a command."""

_shows_tracebacks = threading.Event()
"""Whether --debug was given: to us, not to a command that is traced."""


class ExitCode(IntEnum):
    """What the program's exit status means; numbers above 63 as in sysexits(3head)."""

    DONE = 0
    NO = 1
    """The answer is no, or there is nothing to answer with."""
    USAGE = 2
    BAD_DATA = 65
    """A recording that cannot be replayed."""
    UNAVAILABLE = 69
    """No source of events can be used on this machine."""
    INTERNAL = 70
    """A fault of this program, of BPF, of another source or of the output while it ran."""
    NO_PRIVILEGE = 77
    NOT_EXECUTABLE = 126
    """The command to trace cannot be run; as a shell has it."""
    NOT_FOUND = 127
    """There is no such command to trace; as a shell has it."""


class CliError(Exception):
    """An error to be told in one sentence, with the exit status that goes with it.

    Whatever in ``cli`` cannot do what it says raises one.
    """

    def __init__(self, sentence: str, code: ExitCode) -> None:
        super().__init__(sentence)
        self.code = code


class CommandEnded(Exception):  # noqa: N818 - no error of ours
    """The end of a traced command, whose exit status is to be our own."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class EndedBySignal(Exception):  # noqa: N818 - no error of ours
    """The end by a signal that is to be seen in how we end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


_CODE_OF_REFUSAL = {
    Refusal.PRIVILEGE: ExitCode.NO_PRIVILEGE,
    Refusal.UNSUPPORTED: ExitCode.UNAVAILABLE,
    Refusal.BROKEN: ExitCode.INTERNAL,
    Refusal.BAD_DATA: ExitCode.BAD_DATA,
}


def no_source(refusals: list[SourceUnavailableError]) -> CliError:
    """Turn the refusals of every source that was tried into a sentence.

    The exit status is the one of the best source.
    """
    # All may lack the same.
    distinct = list(dict.fromkeys(refusal.reason for refusal in refusals))
    if len(distinct) == 1:
        sentence = f"{refusals[0].reason}; {refusals[0].remedy}."
    else:
        reasons = "; ".join(distinct)
        sentence = f"no source of events can be used: {reasons}; {refusals[0].remedy}."
    return CliError(sentence, _CODE_OF_REFUSAL[refusals[0].refusal])


def show_tracebacks() -> None:
    """Show where an error comes from, for a bug report."""
    _shows_tracebacks.set()


def show_origin(error: Exception) -> None:
    """Show where an error comes from, if that was asked for."""
    if _shows_tracebacks.is_set():
        traceback.print_exception(error)


def _short_of(error: Exception) -> CliError | None:
    """Say what the system has too little of, if that is what the error tells."""
    short = shortage(error)
    if short is None:
        return None
    return CliError(f"{short.reason}; {short.remedy}.", ExitCode.UNAVAILABLE)


def unexpected(error: Exception) -> CliError:
    """Say that something failed which should not have: no traceback reaches a user."""
    lack = _short_of(error) if isinstance(error, OSError) else None
    return lack or CliError(
        f"internal error: {error!r}; run again with --debug and report it as a bug.",
        ExitCode.INTERNAL,
    )


def no_proc(error: OSError) -> CliError:
    """Say that ``/proc`` cannot be listed."""
    helps = what_helps(error, "mount it with 'mount -t proc proc /proc'")
    return CliError(f"/proc cannot be listed ({error.strerror}); {helps}.", ExitCode.UNAVAILABLE)


@contextmanager
def calling(call: str) -> Iterator[None]:
    """Let what the kernel refuses in the block be a CliError that names the system call."""
    try:
        yield
    except OSError as error:
        helps = what_helps(error, forbidden(f"{call}(2)").remedy)
        if error.errno == errno.EAGAIN:
            helps = "end some processes, or allow more (ulimit -u, or pids.max of the cgroup)"
        raise CliError(
            f"the kernel refused {call}(2) ({error.strerror}); {helps}.", ExitCode.UNAVAILABLE
        ) from error


def as_cli_error(error: Exception) -> CliError:
    """Turn what may come out of a command into a sentence."""
    match error:
        case CliError():
            return error
        case FilterError():
            code = ExitCode.UNAVAILABLE if error.is_unsupported else ExitCode.NO
            return CliError(f"{error}.", code)
        case SourceUnavailableError():
            return no_source([error])
        case SourceFailedError():
            return _source_failed(error)
        case OSError():  # outside of a command, only help and the like are written
            return output_failed(error)
        case _:
            return unexpected(error)


def _source_failed(error: SourceFailedError) -> CliError:
    """Say that a source broke while it ran."""
    return _short_of(error) or CliError(
        f"the source of events has failed: {error.reason}; "
        f"what was written before is intact; {error.remedy}.",
        ExitCode.INTERNAL,
    )


def output_failed(error: OSError, name: object = "the output", *, lost_lines: int = 0) -> CliError:
    """Say that what was written did not arrive."""
    why = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
    missing = ""
    if lost_lines:
        verb = "is" if lost_lines == 1 else "are"
        missing = f", so at least {counted(lost_lines, 'line')} {verb} missing"
    return _short_of(error) or CliError(
        f"{name} could not be written ({why}){missing}; what was written before is intact.",
        ExitCode.INTERNAL,
    )
