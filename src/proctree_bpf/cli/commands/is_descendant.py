"""``proctree-bpf is-descendant``: whether a process runs under another."""

from __future__ import annotations

from typing import Annotated

import typer

from proctree_bpf.cli.commands.snapshot import Format, Pid, Snapshot, Style, write_json
from proctree_bpf.cli.errors import ExitCode
from proctree_bpf.cli.output.standard import write_text
from proctree_bpf.core import lineage


def is_descendant(
    pid: Pid,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name (comm) of an ancestor.")],
    style: Style = Format.TEXT,
) -> None:
    """Say whether PID is, or runs under, a process named NAME: exit status 0 is yes, 1 is no.

    The kernel keeps only 15 bytes of a name, so a longer NAME is cut to that.

    \b
    Example:
      proctree-bpf is-descendant $$ sshd && echo "somebody logged in over ssh"
    """
    now = Snapshot.take()
    now.require(pid)
    answer = lineage.is_descendant(now.tree, pid, name)
    if style is Format.JSON:
        write_json({"pid": pid, "name": name, "is_descendant": answer})
    else:
        write_text("yes" if answer else "no")
    if not answer:
        raise SystemExit(ExitCode.NO)
