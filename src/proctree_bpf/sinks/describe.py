"""What happened, in the few words of a cell. Nothing that a process chose can leave it. Pure."""

from __future__ import annotations

import shlex
from signal import Signals
from typing import TYPE_CHECKING

from proctree_bpf.core.events import dumped_core, exit_code_of, exit_signal_of
from proctree_bpf.core.model import OBSERVED
from proctree_bpf.core.text import visible
from proctree_bpf.sinks.layout import DIM, RED
from proctree_bpf.sinks.quoting import plain_args
from proctree_bpf.sinks.wall_time import duration

if TYPE_CHECKING:
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.model import ProcInfo
    from proctree_bpf.core.process import TrackedProcess

_SIGNALS = frozenset(map(int, Signals))


def observed(ancestor: str) -> str:
    """Mark an ancestor that was only seen as the parent, and may not be the creator."""
    return OBSERVED + ancestor


def exit_text(status: int | None) -> str:
    """Return the exit code, or the signal's name with ``*`` if it dumped core."""
    if status is None:
        return "?"
    signal = exit_signal_of(status)
    if signal is None:
        return str(exit_code_of(status))
    name = Signals(signal).name if signal in _SIGNALS else f"SIG{signal}"
    return name[:7] + ("*" if dumped_core(status) else "")


def exit_colour(status: int | None) -> str:
    """Return red for a failure, dim for another end."""
    return RED if status else DIM


def command_text(about: ProcInfo | TrackedProcess, max_args: int | None = None) -> str:
    """Return the quoted arguments, or the name in brackets where there are none.

    Of the arguments behind the command, ``max_args`` are shown, or all.
    """
    plain = plain_args(about.args_raw) if max_args is None else None
    is_cut = about.truncated
    if plain is not None:
        text = plain
    else:
        args = about.args
        if not args:
            return f"[{visible(about.cmd)}]"
        shown = args if max_args is None else args[: max_args + 1]
        text = visible(shlex.join(shown))
        is_cut = is_cut or len(shown) < len(args)
    if is_cut:
        text += " …"
    return f"({text})" if about.inherited else text


def gap_text(gap: Gap) -> str:
    """Return how much of what is missing, where, and from how long a time."""
    count = "some" if gap.count is None else str(gap.count)
    where = "" if gap.cpu is None else f" on CPU {gap.cpu}"
    span = f" within {duration(gap.until_ns - gap.from_ns)}" if gap.from_ns else ""
    records = "record" if gap.count == 1 else "records"
    return f"gap   {count} {gap.kind or 'event'} {records} lost{where}{span}"
