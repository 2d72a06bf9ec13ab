"""An event, and its process as it was after it: what is handed on. Values only."""

from __future__ import annotations

import msgspec

from proctree_bpf.core.compact import AnyEvent, value_of
from proctree_bpf.core.events import ProcEvent  # noqa: TC001 - as struct types
from proctree_bpf.core.model import PidNode, ProcInfo  # noqa: TC001 - as struct types
from proctree_bpf.core.process import TrackedProcess, info_of, node_of
from proctree_bpf.core.text import escape


class ProcessEvent(msgspec.Struct, eq=False, gc=False):
    """An event, and what is known of its process once it has been applied.

    Attributes:
        as_received: the event, perhaps a compact one.
        process: the process, as it is *now*: only to be looked at, before the next event.
        uncertain: events are known to be lost, and the tree is not repaired yet, or what this
            process ran could not be looked up: names and ancestors may be out of date.

    """

    as_received: AnyEvent
    process: TrackedProcess
    uncertain: bool = False
    kept_node: PidNode | None = None
    kept_info: ProcInfo | None = None

    def __str__(self) -> str:
        kind, info = self.as_received.kind, self.info
        return f"{kind} {info.tgid} {escape(info.cmd)} {escape(info.user)}"

    @property
    def event(self) -> ProcEvent:
        """What happened."""
        event = self.as_received = value_of(self.as_received)
        return event

    @property
    def node(self) -> PidNode:
        """The process's place in the tree."""
        return self.kept_node or node_of(self.process)

    @property
    def info(self) -> ProcInfo:
        """The process's details."""
        return self.kept_info or info_of(self.process)

    @property
    def age_ns(self) -> int | None:
        """How long a process that has just ended ran; None for other events, or if unknown."""
        began_ns = self.process.began_ns
        if not began_ns or self.as_received.kind != "exit":
            return None
        return self.as_received.timestamp_ns - began_ns

    def keep(self) -> ProcessEvent:
        """Let ``node`` and ``info`` stay as they are now, whatever happens to the process."""
        self.kept_node, self.kept_info = node_of(self.process), info_of(self.process)
        return self
