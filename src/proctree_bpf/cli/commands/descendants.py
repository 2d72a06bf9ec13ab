"""``proctree-bpf descendants``: everything below a process."""

from __future__ import annotations

from proctree_bpf.cli.commands.snapshot import Format, Pid, Snapshot, Style
from proctree_bpf.core import subtree


def descendants(pid: Pid, style: Style = Format.TEXT) -> None:
    """List everything below PID, nearest first.

    \b
    Example:
      proctree-bpf descendants $$
    """
    now = Snapshot.take()
    now.require(pid)
    now.show(subtree.descendants(now.tree, pid), style)
