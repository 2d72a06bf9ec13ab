"""What streams need of ``/proc``; whoever reads it is passed in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proctree_bpf.codecs.proc_files import Reading, Stat


class ProcReader(Protocol):
    """Reads ``/proc``, now; None if the process is not there."""

    def stat(self, pid: int) -> Stat | None:
        """Read one process's stat file."""

    def entry(self, pid: int) -> Reading | None:
        """Read all that is known of one process, from one opening of its directory."""
