"""Commands, options and their help. Everything else is in the modules beside this one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer

from proctree_bpf.cli import completion, queries, usage
from proctree_bpf.cli.command import SIGNAL_STATUS, CommandOptions, Wait
from proctree_bpf.cli.display import (
    MOST,
    Colour,
    ColourWhen,
    DisplayOptions,
    Events,
    Fields,
    Format,
    MaxAncestors,
    MaxArgs,
    Quiet,
    Time,
    Timestamp,
    Utc,
    events_of,
    most_ancestors,
    split_list,
)
from proctree_bpf.cli.doctor import run_doctor
from proctree_bpf.cli.exits import (
    CliError,
    CommandEnded,
    EndedBySignal,
    ExitCode,
    output_failed,
    say,
)
from proctree_bpf.cli.filter_options import FilterIn, FilterOptions, with_filter_options
from proctree_bpf.cli.output import keep_standard_descriptors, reader_of_stdout_is_gone
from proctree_bpf.cli.trace import TraceOptions, run_trace
from proctree_bpf.core import subtree
from proctree_bpf.core.model import MAX_TTL_SECS, PID_TREE_CAP, PID_TREE_TTL_SECS, CacheParams
from proctree_bpf.filters.terms import Question
from proctree_bpf.sources.bpf import (
    DEFAULT_ARGS_BYTES,
    DEFAULT_PERF_PAGES,
    MAX_PERF_PAGES,
    BpfOptions,
)
from proctree_bpf.sources.choose import AUTO, LIVE, REPLAY_PREFIX, SourceOptions, is_source
from proctree_bpf.sources.proc_connector import DEFAULT_RECEIVE_BUFFER
from proctree_bpf.sources.system.procfs import MAX_ARGS_BYTES

_PID_MAX_LIMIT = 4_194_304  # include/linux/threads.h
_MAX_SECONDS = 1_000_000_000  # thirty years
_debug = threading.Event()
"""Whether --debug was given: to us, not to a command that is traced."""

_NAME = "proctree-bpf"

app = typer.Typer(
    name=_NAME,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Pid = Annotated[int, typer.Argument(min=1, max=_PID_MAX_LIMIT, metavar="PID", help="A process id.")]
Style = Annotated[queries.Format, typer.Option("--format", "-f", help="How to show the answer.")]


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
    """Show who started what on this Linux machine, even after it is gone.

    'trace' watches live and needs root; the other commands look at /proc as it is now.
    """


def _check_source(text: str) -> str:
    if not is_source(text):
        raise typer.BadParameter(f"choose from {', '.join((AUTO, *LIVE))}, replay:FILE")
    return text


def _parse_duration(text: str) -> float:
    if text.lower() == "inf":
        return inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not 0 <= seconds <= _MAX_SECONDS:
        raise typer.BadParameter(f"must be from 0 to {_MAX_SECONDS}, or inf")
    return seconds


def _parse_pages(pages: int) -> int:
    if pages < 1 or pages & (pages - 1):
        raise typer.BadParameter("must be a power of two")
    return pages


def _command_options(
    words: list[str] | None, wait: Wait, as_user: str | None, source: str
) -> CommandOptions | None:
    if words and source.startswith(REPLAY_PREFIX):
        raise CliError("a recording is replayed without a COMMAND.", ExitCode.USAGE)
    if as_user is not None and not words:
        raise CliError("--as-user needs a COMMAND to run.", ExitCode.USAGE)
    return CommandOptions(tuple(words), wait, as_user) if words else None


@app.command(
    short_help="Watch processes start, exec and end, live.",
    # The first word that is no option begins the command.
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
)
@with_filter_options
def trace(
    command: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="COMMAND",
            help="Run this, and trace only it and its descendants.",
            show_default=False,
        ),
    ] = None,
    style: Annotated[
        Format,
        typer.Option("--format", "-f", help="Table, tree, JSON lines (ECS), or chain strings."),
    ] = Format.TABLE,
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", metavar="FILE", help="Write there.", readable=False),
    ] = None,
    duration: Annotated[
        Optional[float],
        typer.Option(
            "--duration",
            "-d",
            parser=_parse_duration,
            metavar="SECONDS",
            help="Stop after this time; inf: never.",
        ),
    ] = None,
    events: Events = None,
    fields: Fields = None,
    time: Time = False,
    timestamp: Timestamp = False,
    utc: Utc = False,
    max_args: MaxArgs = None,
    max_ancestors: MaxAncestors = None,
    colour: ColourWhen = Colour.AUTO,
    quiet: Quiet = False,
    stats_file: Annotated[
        Optional[Path],
        typer.Option(
            "--stats-file", metavar="FILE", help="Write statistics there as JSON.", readable=False
        ),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            callback=_check_source,
            help="auto, bpf, proc-connector, proc-walker or replay:FILE.",
        ),
    ] = AUTO,
    record: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE",
            help="Write what the source reads there, for replay:FILE.",
            readable=False,
        ),
    ] = None,
    exclude_self: Annotated[bool, typer.Option(help="Leave out this program's own events.")] = True,
    interval: Annotated[
        int,
        typer.Option(
            min=1, max=1000, metavar="MS", help="Time between drains of the perf buffers, in ms."
        ),
    ] = 20,
    max_args_bytes: Annotated[
        int,
        typer.Option(min=1, max=MAX_ARGS_BYTES, metavar="BYTES", help="Arguments kept per exec."),
    ] = DEFAULT_ARGS_BYTES,
    perf_pages: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_PERF_PAGES,
            metavar="PAGES",
            callback=_parse_pages,
            help="Pages per CPU's perf buffer, a power of two.",
        ),
    ] = DEFAULT_PERF_PAGES,
    program_cache: Annotated[
        bool,
        typer.Option(help="Keep compiled BPF programs below /var/cache, for a faster start."),
    ] = True,
    receive_buffer: Annotated[
        int,
        typer.Option(
            min=1, max=2**31 - 1, metavar="BYTES", help="The proc connector's receive buffer."
        ),
    ] = DEFAULT_RECEIVE_BUFFER,
    walk_interval: Annotated[
        int,
        typer.Option(min=10, max=60_000, metavar="MS", help="Time between walks of /proc, in ms."),
    ] = 100,
    capacity: Annotated[
        int,
        typer.Option(min=1, max=MOST, metavar="N", help="Processes remembered, dead and alive."),
    ] = PID_TREE_CAP,
    ttl: Annotated[
        float,
        typer.Option(
            min=0,
            max=MAX_TTL_SECS,
            metavar="SECONDS",
            help="How long the dead are remembered.",
        ),
    ] = PID_TREE_TTL_SECS,
    include_self: Annotated[
        bool, typer.Option(help="Whether an ancestor that is asked for is shown itself.")
    ] = True,
    by_parent: Annotated[
        bool,
        typer.Option(
            "--by-parent", help="Ask for the kernel's present parents instead of the creators."
        ),
    ] = False,
    filter_in: Annotated[
        FilterIn, typer.Option(help="Where to decide about ancestry: in the kernel if it can.")
    ] = FilterIn.AUTO,
    wait: Annotated[
        Wait, typer.Option(help="End with COMMAND's last descendant, or with COMMAND.")
    ] = Wait.ALL,
    as_user: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME", help="Run COMMAND as NAME, not as who called sudo.", show_default=False
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show compiler output and tracebacks on a failure.")
    ] = False,
    *,
    questions: tuple[Question, ...] = (),
) -> None:
    """Watch every process of the machine start, exec and end.

    The best source that the machine allows is used: BPF (needs root), else the proc
    connector, else a walk of /proc; each step down is explained.

    Records go to stdout (or -o), messages to stderr; with a COMMAND, records go to
    stderr too (or -o), because stdout is the command's. A row names the process, its
    user, its command and its ancestors, nearest first; a command in parentheses is
    inherited from the creator, because the process has not called exec itself.

    Filters choose records: values separated by commas, and an option given again, are
    alternatives; different options must all hold. Ancestry means creation: whoever was
    started by sshd's children stays under sshd, also when they are gone.

    -f tree shows a line per process, indented below its creator. On a terminal the
    line is completed when the process ends, elsewhere another line says so. At the
    end the whole tree is drawn once.

    \b
    Examples:
      proctree-bpf trace                               a table until Ctrl-C
      proctree-bpf trace --ancestor sshd               what was started over ssh
      proctree-bpf trace --ancestor-pid 4242 --failed  what failed below one process
      proctree-bpf trace -d 10 -e fork,exec,exit       everything, for ten seconds
      proctree-bpf trace -f tree                       a line per process, below its creator
      proctree-bpf trace -f jsonl -o events.jsonl      one ECS object a line
      proctree-bpf trace -o build.log -- make -j4      what a build runs

    COMMAND runs as the user who called sudo, with the environment that sudo left; it
    shares the terminal with proctree-bpf and gets the keyboard's signals. The exit
    status is COMMAND's, 128+N if signal N ended it, 126 or 127 if it cannot be run.
    If --duration ends first, COMMAND is left running and the exit status is 0.
    """
    display = DisplayOptions(
        fields=None if fields is None else split_list(fields),
        time=time,
        timestamp=timestamp,
        utc=utc,
        max_args=max_args,
        max_ancestors=max_ancestors,
        colour=colour,
        quiet=quiet,
        shared=bool(command),
    )
    display.check(style, events)
    if debug:
        _debug.set()
    bpf = BpfOptions(max_args_bytes, perf_pages)
    if not program_cache:
        bpf = replace(bpf, program_cache=None)
    options = TraceOptions(
        format=style,
        events=events_of(style, events),
        display=display,
        output=output,
        duration_s=duration,
        stats_file=stats_file,
        interval_s=interval / 1000,
        exclude_self=exclude_self,
        record=record,
        source=SourceOptions(source, bpf, receive_buffer, walk_interval / 1000),
        cache=CacheParams(capacity, ttl),
        filters=FilterOptions(questions, include_self, by_parent, filter_in),
        debug=debug,
        command=_command_options(command, wait, as_user, source),
    )
    run_trace(options)


@app.command(short_help="Draw the process tree.")
def tree(
    pid: Annotated[
        Optional[int],
        typer.Argument(min=1, max=_PID_MAX_LIMIT, metavar="[PID]", help="Where to begin."),
    ] = None,
    style: Style = queries.Format.TEXT,
) -> None:
    """Draw the process tree, or the part below PID.

    \b
    Example:
      proctree-bpf tree $$
    """
    queries.show_tree(pid, style)


@app.command(short_help="Show who started a process.")
def chain(pid: Pid, style: Style = queries.Format.TEXT, max_ancestors: MaxAncestors = None) -> None:
    """Show PID and its ancestors as pid|name|user;… links.

    A snapshot knows present parents only: an orphan shows whoever adopted it. A link
    that is only … stands for more ancestors than were asked for.

    \b
    Example:
      proctree-bpf chain $$
    """
    queries.show_chain(pid, style, most_ancestors(max_ancestors))


@app.command()
def children(pid: Pid, style: Style = queries.Format.TEXT) -> None:
    """List the children of PID.

    \b
    Example:
      proctree-bpf children $$
    """
    queries.show_related(pid, subtree.children, style)


@app.command()
def descendants(pid: Pid, style: Style = queries.Format.TEXT) -> None:
    """List everything below PID, nearest first.

    \b
    Example:
      proctree-bpf descendants $$
    """
    queries.show_related(pid, subtree.descendants, style)


@app.command()
def siblings(pid: Pid, style: Style = queries.Format.TEXT) -> None:
    """List the other children of PID's parent.

    \b
    Example:
      proctree-bpf siblings $$
    """
    queries.show_related(pid, subtree.siblings, style)


@app.command(short_help="List processes by name and user.")
def find(
    cmd: Annotated[Optional[str], typer.Option(metavar="NAME", help="Name (comm).")] = None,
    user: Annotated[Optional[str], typer.Option(metavar="USER", help="User name.")] = None,
    style: Style = queries.Format.TEXT,
) -> None:
    """List the processes with a name, of a user, or both; exit status 1 if there are none.

    The kernel keeps 15 bytes of a name; a longer NAME is cut like that.

    \b
    Example:
      proctree-bpf find --cmd sshd --user root
    """
    queries.show_found(cmd, user, style)


@app.command(name="is-descendant", short_help="Say whether PID runs under NAME.")
def is_descendant(
    pid: Pid,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name (comm) of an ancestor.")],
    style: Style = queries.Format.TEXT,
) -> None:
    """Say whether PID is, or runs under, a process named NAME: exit status 0 yes, 1 no.

    The kernel keeps 15 bytes of a name; a longer NAME is cut like that.

    \b
    Example:
      proctree-bpf is-descendant $$ sshd && echo "somebody logged in over ssh"
    """
    queries.show_is_descendant(pid, name, style)


@app.command(short_help="Try what this machine allows.")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try everything that proctree-bpf needs on this machine, and say how to mend what fails.

    Exit status 0 if some source of events works, 69 if none does.

    \b
    Example:
      sudo proctree-bpf doctor
    """
    run_doctor(as_json=as_json)


def main() -> None:
    """Run ``proctree-bpf``: every error becomes one sentence and a documented exit status."""
    keep_standard_descriptors()
    code: int
    try:
        completion.check_request()
        command = completion.without_installation(app)
        code = command(prog_name=_NAME, standalone_mode=False) or ExitCode.DONE
    except CommandEnded as ended:
        code = ended.status
    except EndedBySignal as ended_by:
        signal.signal(ended_by.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by.number)
        code = SIGNAL_STATUS + ended_by.number  # should the signal be blocked
    except CliError as error:
        _explain(error)
        say(str(error))
        code = error.code
    except typer.Abort:
        code = SIGNAL_STATUS + signal.SIGINT
    except usage.ParserError as error:
        code = usage.show(error)
    except SystemExit as error:
        # typer ends with 1 when the reader of its help has gone.
        code = error.code if isinstance(error.code, int) else ExitCode.DONE
        if code == ExitCode.NO and reader_of_stdout_is_gone():
            code = ExitCode.DONE
    except OSError as error:
        _explain(error)
        failed = output_failed(error)
        say(str(failed))
        code = failed.code
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        _explain(error)
        say(f"internal error: {error!r}; run again with --debug and report it as a bug.")
        code = ExitCode.INTERNAL
    _exit(code)


def _exit(code: int) -> NoReturn:
    """Exit, even if what Python still holds for stdout can no longer be written."""
    try:
        sys.stdout.flush()
    except AttributeError:
        pass
    except OSError:  # Python tries once more at its end, and from 3.14 on makes that the status
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _explain(error: Exception) -> None:
    if _debug.is_set():
        traceback.print_exception(error)
