"""Where records and answers go: stdout, stderr or a named file."""

from __future__ import annotations

import os
import select
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeGuard

from proctree_bpf.cli.errors import CliError, ExitCode, output_failed
from proctree_bpf.cli.output.channel import Channel
from proctree_bpf.cli.output.safe_open import open_for_writing
from proctree_bpf.cli.output.writers import LineWriter
from proctree_bpf.sources.system.causes import what_helps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def start_over(descriptor: int) -> None:
    """Empty a regular file."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.ftruncate(descriptor, 0)


def is_named(path: Path | None) -> TypeGuard[Path]:
    """Tell whether the output is a file of a name: stdout may hold what others wrote."""
    return path is not None and str(path) != "-"


def unwritable(path: Path, error: OSError, option: str) -> CliError:
    """Say that a file cannot be written: another name will do."""
    return CliError(
        f"{path} cannot be written ({error.strerror}); "
        f"{what_helps(error, f'choose another file for {option}')}.",
        ExitCode.USAGE,
    )


@contextmanager
def opened(path: Path | None, standard: int = 1) -> Iterator[LineWriter]:
    """Open the output: a file, emptied by ``start_over``, or where ``standard`` leads.

    ``-`` is stdout. Writes are buffered; sinks flush after each batch. A CliError says that it
    cannot be opened, or that what was written last did not arrive.
    """
    try:
        if is_named(path):
            descriptor = open_for_writing(path)
        else:
            descriptor = os.dup(standard if path is None else 1)
    except OSError as error:
        raise unwritable(path, error, "-o") if path is not None else output_failed(error) from error
    try:
        out = LineWriter(Channel(descriptor, shared=not is_named(path)))
    except OSError as error:
        raise output_failed(error) from error
    try:
        yield out
    except BaseException:
        out.discard()
        with suppress(OSError):
            out.close()
        raise
    else:
        try:
            out.close()
        except OSError as error:
            raise output_failed(error, lost_lines=out.lost_lines) from error


def reader_is_gone(descriptor: int) -> bool:
    """Tell whether nobody reads a pipe or socket any more (``| head``), before a write fails."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(flags & select.POLLERR for _, flags in poll.poll(0))


def write_text(text: str) -> None:
    """Write a query's answer to stdout, with a newline at its end.

    A reader that has gone away is no error: it has seen what it wanted.
    """
    encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
    data = memoryview((text + "\n").encode(encoding, "backslashreplace"))
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        return
    except OSError as error:
        raise output_failed(error) from error


def keep_standard_descriptors() -> None:
    """Fill in stdin, stdout and stderr where our parent closed them.

    Otherwise the next file opened would take their place, and get what is not meant for
    it. Writing to such a stdout fails; what is said on such a stderr is lost.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)
