"""``proctree-bpf find``: processes by name and user."""

from __future__ import annotations

from typing import Annotated

import typer

from proctree_bpf.cli.commands.snapshot import Format, Snapshot, Style
from proctree_bpf.cli.errors import CliError, ExitCode
from proctree_bpf.core import subtree


def find(
    cmd: Annotated[
        str | None, typer.Option(metavar="NAME", help="Processes with this name (comm).")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Processes of the user with this name.")
    ] = None,
    style: Style = Format.TEXT,
) -> None:
    """List the processes with a name, of a user, or both. The exit status is 1 if there are none.

    The kernel keeps only 15 bytes of a name, so a longer NAME is cut to that.

    \b
    Example:
      proctree-bpf find --cmd sshd --user root
    """
    if cmd is None and user is None:
        raise CliError("find needs --cmd, --user or both.", ExitCode.USAGE)
    now = Snapshot.take()
    found = set(now.tree.all_pids())
    if cmd is not None:
        found &= set(subtree.find_by_cmd(now.tree, cmd))
    if user is not None:
        found &= set(subtree.find_by_user(now.tree, now.cache, user))
    now.show(sorted(found), style)
    if not found:
        named = f" is named {cmd}" if cmd is not None else ""
        owned = f" belongs to user {user}" if user is not None else ""
        raise CliError(f"no process{' and'.join(filter(None, (named, owned)))}.", ExitCode.NO)
