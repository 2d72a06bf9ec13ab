"""What one run is to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: a forest, what watches it, and what makes that hard."""

    program: str
    python: str
    seed: int
    source: str = "bpf"
    filter: str = ""
    """Terms, as the product has them."""
    is_command: bool = False
    """Whether the forest is what ``trace -- COMMAND`` runs."""
    load: int = 0
    """So many spawners go as fast as they can meanwhile."""
    perf_pages: int = 0
    """Of each CPU's buffer; 0 for as many as usual."""
    stop_reader_s: float = 0.0
    """So long the readers are stopped, while events go on."""
    size: int = 400
    """How many processes each forest may have."""
    duration_s: float = 0.0
    """Forests are grown one after another until so much time is over; one at least."""
    pace_ms: int = 0
    """Up to so long a process waits before it ends."""
    questions: int = 1_000_000
    """How many pairs the library is asked about at most, besides all whose answer is yes."""
