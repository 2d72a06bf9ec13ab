"""``proctree-bpf tree``: the process tree of this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from proctree_bpf.cli.commands.snapshot import MAX_PID, Format, Snapshot, Style, write_json
from proctree_bpf.cli.output.standard import write_text
from proctree_bpf.core import lineage, subtree

if TYPE_CHECKING:
    from proctree_bpf.core.model import PidNode
    from proctree_bpf.core.stores import PidTree


def tree(
    pid: Annotated[
        int | None,
        typer.Argument(
            min=1, max=MAX_PID, metavar="[PID]", help="Draw only this process and those below it."
        ),
    ] = None,
    style: Style = Format.TEXT,
) -> None:
    """Draw the process tree, or the part below PID.

    \b
    Example:
      proctree-bpf tree $$
    """
    now = Snapshot.take()
    roots = [now.require(pid)] if pid is not None else _roots(now.tree)
    if style is Format.TEXT:
        write_text("\n".join(subtree.display(now.tree, root.key) for root in roots))
        return
    write_json(
        [
            now.record(node)
            for root in roots
            for node in (root, *subtree.descendant_nodes(now.tree, root.key))
        ]
    )


def _roots(tree: PidTree) -> list[PidNode]:
    nodes = sorted(tree.all_nodes(), key=lambda node: node.pid)
    return [node for node in nodes if lineage.creator_of(tree, node) is None]
