"""What the pipeline needs of a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proctree_bpf.core.events import Gap
    from proctree_bpf.core.process_event import ProcessEvent


class Sink(Protocol):
    """Takes records in causal order, from one thread."""

    def write(self, process_event: ProcessEvent) -> None:
        """Take one event and what is known of its process."""

    def gap(self, gap: Gap) -> None:
        """Take the news that events were lost."""

    def flush(self) -> None:
        """Make what was written visible; called after each batch."""

    def finish(self) -> None:
        """Write what is owed at the end; called once, after the last record."""
