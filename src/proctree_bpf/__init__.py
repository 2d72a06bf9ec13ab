"""A live, exact process tree of a Linux machine: who created whom, even after they are gone.

``Collector`` keeps one up to date from the kernel's events, ``ProcessTree.from_proc()`` is a
snapshot, which needs no privilege. Both answer with ``Process`` objects, which have psutil's
habits, and are pinned to PID and start time:

>>> import os
>>> tree = ProcessTree.from_proc()
>>> process = tree.process(os.getpid())
>>> process.is_running(), process.ppid() == os.getppid()
(True, True)
>>> tree.is_descendant(process, os.getppid())
<Answer.YES: 'yes'>

All times are ns on ``CLOCK_BOOTTIME`` where their names end with ``_ns``, and else seconds. Names
are ``str``; bytes that are not UTF-8 are kept by surrogateescape, as in ``os.fsdecode``.
What can be raised is drawn in ``proctree_bpf.errors``. The names that other projects gave to
all this are in ``proctree_bpf.compat``, and can be imported from here as well.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from proctree_bpf.collector import Collector
from proctree_bpf.core.events import Exec, Exit, Fork, Gap, ProcEvent, Rename, Setid
from proctree_bpf.core.identity import ProcessKey, entity_id
from proctree_bpf.core.lineage import Answer
from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.core.text import unescape
from proctree_bpf.errors import (
    DecodeError,
    FilterError,
    NoSuchProcessError,
    ProctreeError,
    SourceFailedError,
    SourceUnavailableError,
)
from proctree_bpf.event_stream import EventStream
from proctree_bpf.filters.terms import Filter
from proctree_bpf.process import Process
from proctree_bpf.process_tree import ProcessTree
from proctree_bpf.sources.base import EventSource
from proctree_bpf.sources.bpf import BpfOptions, BpfSource
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.walker import WalkerSource

if TYPE_CHECKING:
    from proctree_bpf.compat import *  # noqa: F403 - for those who check types; see __getattr__

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "BpfOptions",
    "BpfSource",
    "Collector",
    "DecodeError",
    "EventSource",
    "EventStream",
    "Exec",
    "Exit",
    "Filter",
    "FilterError",
    "Fork",
    "Gap",
    "NoSuchProcessError",
    "ProcConnectorSource",
    "ProcEvent",
    "Process",
    "ProcessEvent",
    "ProcessKey",
    "ProcessTree",
    "ProctreeError",
    "Rename",
    "ReplaySource",
    "Setid",
    "SourceFailedError",
    "SourceUnavailableError",
    "WalkerSource",
    "entity_id",
    "unescape",
]


def __getattr__(name: str) -> Any:
    """Return a name of ``proctree_bpf.compat``, which is imported when it is asked for."""
    compat = import_module("proctree_bpf.compat")
    if name in compat.__all__:
        return getattr(compat, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
