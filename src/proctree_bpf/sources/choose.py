"""Which source: the one asked for, or the best that this machine allows, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.sources.bpf import BpfOptions, BpfSource
from proctree_bpf.sources.proc_connector import DEFAULT_RECEIVE_BUFFER, ProcConnectorSource
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.walker import DEFAULT_WALK_INTERVAL_S, WalkerSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.sources.base import EventSource
    from proctree_bpf.sources.recorder import Recorder

AUTO = "auto"
REPLAY_PREFIX = "replay:"
LIVE = ("bpf", "proc-connector", "proc-walker")
"""The live sources, best first: the order in which ``auto`` tries them."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What to use and how; ``wanted`` is auto, a live source, or replay:FILE."""

    wanted: str = AUTO
    bpf: BpfOptions = field(default_factory=BpfOptions)
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER
    walk_interval_s: float = DEFAULT_WALK_INTERVAL_S


def is_source(text: str) -> bool:
    """Tell whether this names a source."""
    return text in (AUTO, *LIVE) or (
        text.startswith(REPLAY_PREFIX) and len(text) > len(REPLAY_PREFIX)
    )


def candidates(
    options: SourceOptions, recorder: Recorder | None
) -> list[Callable[[], EventSource]]:
    """Return makers of the sources to try, in their order."""
    if options.wanted.startswith(REPLAY_PREFIX):
        path = Path(options.wanted.removeprefix(REPLAY_PREFIX))
        return [lambda: ReplaySource(path)]
    makers: dict[str, Callable[[], EventSource]] = {
        "bpf": lambda: BpfSource(options.bpf, recorder),
        "proc-connector": lambda: ProcConnectorSource(options.receive_buffer, recorder=recorder),
        "proc-walker": lambda: WalkerSource(options.walk_interval_s, recorder=recorder),
    }
    names = LIVE if options.wanted == AUTO else (options.wanted,)
    return [makers[name] for name in names]
