"""``proctree-bpf trace``: its options and its help. What it does is in ``tracing``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from proctree_bpf.cli.errors import CliError, ExitCode, show_tracebacks
from proctree_bpf.cli.run.command import CommandOptions
from proctree_bpf.cli.tracing.display_options import DisplayOptions
from proctree_bpf.cli.tracing.filter_options import FilterOptions
from proctree_bpf.cli.tracing.options import (
    CollectionOptions,
    OutputOptions,
    RunOptions,
    TraceOptions,
)
from proctree_bpf.cli.tracing.session import run_trace
from proctree_bpf.filters.terms import Question

HELP = """Watch every process of the machine start, exec and end.

The best source of events that this machine allows is used: BPF (which needs root), else the
proc connector, else a walk of /proc. Why a better one cannot be used is explained on stderr.

Records go to stdout, or to the FILE of -o; messages go to stderr. With a COMMAND, stdout
belongs to the command, so records go to stderr too, or to the FILE of -o. A row names the
process, its user, its command and its ancestors, nearest first. A command in parentheses is
inherited from the creator, because the process has not called exec itself.

Filters choose records. Values separated by commas, and an option given again, are
alternatives; different options must all hold. An ancestor is who created the process, or its
creator, and so on: what sshd's children start stays under sshd, even when they have ended.

-f tree shows a line for each process, indented below its creator. On a terminal the line is
completed when the process ends; elsewhere another line is written then. At the end the whole
tree is drawn once.

\b
Examples:
  proctree-bpf trace                               a table until Ctrl-C
  proctree-bpf trace --ancestor sshd               what was started over ssh
  proctree-bpf trace --ancestor-pid 4242 --failed  what failed below one process
  proctree-bpf trace -d 10 -e fork,exec,exit       everything, for ten seconds
  proctree-bpf trace -f tree                       a line for each process, below its creator
  proctree-bpf trace -f jsonl -o events.jsonl      one ECS object a line
  proctree-bpf trace -o build.log -- make -j4      what a build runs

COMMAND runs as the user who called sudo, with the environment that sudo left. It shares the
terminal with proctree-bpf and receives the signals of the keyboard. The exit status is
COMMAND's: 128+N if signal N ended it, 126 or 127 if it cannot be run. If --duration ends
first, COMMAND goes on untraced and the exit status is 0.
"""


def trace(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="Run COMMAND, and trace only it and its descendants.",
            show_default=False,
        ),
    ] = None,
    *,
    output: OutputOptions,
    display: DisplayOptions,
    questions: tuple[Question, ...] = (),
    filters: FilterOptions,
    run: RunOptions,
    collection: CollectionOptions,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="On a failure, show the compiler's output and a traceback."),
    ] = False,
) -> None:
    """Check what the options mean together, and trace."""
    if debug:
        show_tracebacks()
    display.check(output.format)
    if command and collection.is_replay:
        raise CliError("a recording is replayed without a COMMAND.", ExitCode.USAGE)
    if run.as_user is not None and not command:
        raise CliError("--as-user needs a COMMAND to run.", ExitCode.USAGE)
    options = TraceOptions(
        output,
        replace(display, shares_terminal=bool(command)),
        collection,
        replace(filters, questions=questions),
        CommandOptions(tuple(command), run.wait, run.as_user) if command else None,
        debug,
    )
    run_trace(options)
