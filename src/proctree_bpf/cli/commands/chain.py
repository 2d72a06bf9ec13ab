"""``proctree-bpf chain``: who started a process."""

from __future__ import annotations

from proctree_bpf.cli.commands.snapshot import Format, Pid, Snapshot, Style, write_json
from proctree_bpf.cli.output.standard import write_text
from proctree_bpf.cli.tracing.display_options import MaxAncestors, max_ancestors_shown
from proctree_bpf.core import lineage
from proctree_bpf.core.chain import format_chain


def chain(pid: Pid, style: Style = Format.TEXT, max_ancestors: MaxAncestors = None) -> None:
    """Show PID and its ancestors as pid|name|user;… links.

    /proc shows only present parents: for an orphan that is the process which adopted it. A
    link that is only … stands for the ancestors beyond --max-ancestors.

    \b
    Example:
      proctree-bpf chain $$
    """
    now = Snapshot.take()
    now.require(pid)
    links = lineage.build_chain_links(
        now.tree, now.cache, pid, max_ancestors=max_ancestors_shown(max_ancestors)
    )
    if style is Format.TEXT:
        write_text(format_chain(links))
        return
    nodes = [now.tree.get_node(link.pid) for link in links if link.known]
    records = [now.record(node) for node in nodes if node is not None]
    if links[-1].omitted:
        records[-1]["chain_truncated"] = True
    write_json(records)
