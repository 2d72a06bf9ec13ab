"""``proctree-bpf siblings``: the other children of a process's parent."""

from __future__ import annotations

from proctree_bpf.cli.commands.snapshot import Format, Pid, Snapshot, Style
from proctree_bpf.core import subtree


def siblings(pid: Pid, style: Style = Format.TEXT) -> None:
    """List the other children of PID's parent.

    \b
    Example:
      proctree-bpf siblings $$
    """
    now = Snapshot.take()
    now.require(pid)
    now.show(subtree.siblings(now.tree, pid), style)
