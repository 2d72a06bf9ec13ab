"""The commands, and what becomes of every error: one sentence and a documented exit status."""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from proctree_bpf.cli import completion
from proctree_bpf.cli.commands.chain import chain
from proctree_bpf.cli.commands.children import children
from proctree_bpf.cli.commands.descendants import descendants
from proctree_bpf.cli.commands.doctor import doctor
from proctree_bpf.cli.commands.find import find
from proctree_bpf.cli.commands.is_descendant import is_descendant
from proctree_bpf.cli.commands.siblings import siblings
from proctree_bpf.cli.commands.trace import HELP as TRACE_HELP
from proctree_bpf.cli.commands.trace import trace
from proctree_bpf.cli.commands.tree import tree
from proctree_bpf.cli.errors import (
    SIGNAL_STATUS,
    CommandEnded,
    EndedBySignal,
    ExitCode,
    as_cli_error,
    show_origin,
    unexpected,
)
from proctree_bpf.cli.messages import say
from proctree_bpf.cli.option_groups import with_option_groups
from proctree_bpf.cli.output.standard import keep_standard_descriptors, reader_is_gone
from proctree_bpf.cli.tracing.filter_options import with_filter_options
from proctree_bpf.core.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = "proctree-bpf"
# click's, or that of the copy which newer typers bring along.
_ParserError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    name=_NAME,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - a typer callback
    if wanted:
        from proctree_bpf import __version__  # noqa: PLC0415 - the package imports much

        typer.echo(f"proctree-bpf {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Show who started what on this Linux machine, even after it has ended.

    'trace' watches processes as they start and end, and needs root for its best source. The
    other commands show what /proc shows now.
    """


def _add(command: Callable[..., None], **how: Any) -> None:
    """Add a command. In it, only the output's own errors may be taken for the output's."""

    @functools.wraps(command)
    def guarded(**values: Any) -> None:
        try:
            command(**values)
        except OSError as error:
            show_origin(error)
            raise unexpected(error) from error

    app.command(**how)(guarded)


_add(
    with_filter_options(with_option_groups(trace)),
    help=TRACE_HELP,
    short_help="Watch processes start, exec and end, live.",
    # The first word that is no option begins the command.
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
)
_add(tree, short_help="Draw the process tree.")
_add(chain, short_help="Show who started a process.")
_add(children)
_add(descendants)
_add(siblings)
_add(find, short_help="List processes by name and user.")
_add(is_descendant, name="is-descendant", short_help="Say whether PID runs under NAME.")
_add(doctor, short_help="Check what proctree-bpf can use on this machine.")


def main() -> None:
    """Run ``proctree-bpf``: every error becomes one sentence and a documented exit status."""
    keep_standard_descriptors()
    try:
        completion.check_request()
        command = completion.without_installation(app)
        code = command(prog_name=_NAME, standalone_mode=False) or ExitCode.DONE
    except EndedBySignal as ended_by:
        signal.signal(ended_by.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by.number)
        code = SIGNAL_STATUS + ended_by.number  # should the signal be blocked
    except SystemExit as error:
        # typer ends with 1 when the reader of its help has gone.
        code = error.code if isinstance(error.code, int) else ExitCode.DONE
        if code == ExitCode.NO and reader_is_gone(1):
            code = ExitCode.DONE
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        code = _status_of(error)
    _exit(code)


def _status_of(error: Exception) -> int:
    """Say what went wrong, if anything did; return the exit status."""
    if isinstance(error, CommandEnded):
        return error.status
    if isinstance(error, typer.Abort):
        return SIGNAL_STATUS + signal.SIGINT
    if isinstance(error, _ParserError):
        return _show_usage_error(error)
    show_origin(error)
    told = as_cli_error(error)
    say(str(told))
    return told.code


def _show_usage_error(error: Any) -> int:
    """Say what is wrong with the command line, and return the exit status that goes with it.

    The message repeats words of the command line, and they may be anybody's. Without
    words, it is the help.
    """
    if sys.argv[1:]:
        error.message = visible(error.message)
    error.show()
    return int(error.exit_code)


def _exit(code: int) -> NoReturn:
    """Exit, even if what Python still holds for stdout can no longer be written."""
    try:
        sys.stdout.flush()
    except AttributeError:
        pass
    except OSError:  # Python tries once more at its end, and from 3.14 on makes that the status
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
