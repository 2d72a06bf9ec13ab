"""What helps against losses: each source has buffers, or none, of its own."""

from __future__ import annotations

_NEAR_A_GAP = "names and ancestors near a gap may be incomplete"
_HELPS = {
    "bpf": "a larger --perf-pages or fewer events help",
    "proc-connector": "a larger --receive-buffer or fewer events help",
    "proc-walker": "a shorter --walk-interval helps",
}


def after_losses(source: str) -> str:
    """Say what losses mean, and what helps; of a recording, nothing does."""
    return "; ".join([_NEAR_A_GAP, *filter(None, [_HELPS.get(source)])])
