"""``proctree-bpf children``: the processes whose parent is another."""

from __future__ import annotations

from proctree_bpf.cli.commands.snapshot import Format, Pid, Snapshot, Style
from proctree_bpf.core import subtree


def children(pid: Pid, style: Style = Format.TEXT) -> None:
    """List the children of PID.

    \b
    Example:
      proctree-bpf children $$
    """
    now = Snapshot.take()
    now.require(pid)
    now.show(subtree.children(now.tree, pid), style)
