"""A live, exact process tree of a Linux machine: who created whom, even after they are gone.

Two ways to use it. ``Collector`` keeps a tree up to date from kernel events:

>>> with Collector() as live:  # doctest: +SKIP
...     print(build_chain_string(live.tree, live.cache, 1234))

Or keep one yourself, from ``/proc`` and from events of any source:

>>> tree, cache = PidTree(), ProcCache()
>>> added = snapshot(tree, cache)
>>> print(display(tree, 1))  # doctest: +SKIP

All times are ns on ``CLOCK_BOOTTIME``. Names are ``str``; bytes that are not UTF-8 are
kept by surrogateescape, as in ``os.fsdecode``.
"""

from proctree_bpf.codecs.cn_proc import (
    BufferTooSmall,
    CnProcEvent,
    ConnectionClosed,
    ConnectorError,
    Interrupted,
    NetlinkMessageIter,
    Overrun,
    Truncated,
    UnexpectedConnector,
    WouldBlock,
)
from proctree_bpf.codecs.errors import DecodeError
from proctree_bpf.collector import Collector, start_proc_listener
from proctree_bpf.core.chain import parse_chain_string
from proctree_bpf.core.events import (
    AncestorAnnounced,
    Exec,
    Exit,
    Fork,
    Gap,
    ProcEvent,
    Rename,
    Setid,
)
from proctree_bpf.core.identity import ProcessKey, Sameness, compare, entity_id
from proctree_bpf.core.lineage import Answer, ancestry, is_descendant
from proctree_bpf.core.model import (
    PID_TREE_CAP,
    PID_TREE_TTL_SECS,
    PROC_CACHE_CAP,
    PROC_CACHE_TTL_SECS,
    CacheParams,
    Edge,
    PidNode,
    ProcessLink,
    ProcInfo,
)
from proctree_bpf.core.process_event import ProcessEvent
from proctree_bpf.core.stores import (
    CacheStore,
    PidTree,
    ProcCache,
    TreeStore,
    new_cache,
    new_cache_with,
    new_pid_tree,
    new_pid_tree_with,
)
from proctree_bpf.core.subtree import (
    children,
    descendants,
    display,
    find_by_cmd,
    find_by_user,
    siblings,
    tree_len,
)
from proctree_bpf.core.text import escape, unescape, visible
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.core.view import NoSuchProcessError, Process
from proctree_bpf.filters.ancestry import AncestryFilter
from proctree_bpf.filters.record_filter import Filter
from proctree_bpf.filters.terms import FilterError
from proctree_bpf.library import (
    DefaultCache,
    DefaultTree,
    build_chain,
    build_chain_links,
    build_chain_string,
    handle_event,
    handle_events,
    handle_proc_events,
    resolve,
    snapshot,
    snapshot_process_tree,
)
from proctree_bpf.sources.base import EventSource, SourceFailedError, SourceUnavailableError
from proctree_bpf.sources.bpf import BpfOptions, BpfSource
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from proctree_bpf.sources.proc_walker import ProbeEvent, ProcWalker
from proctree_bpf.sources.replay import ReplaySource
from proctree_bpf.sources.system.connector_socket import ProcConnector, try_create_connector
from proctree_bpf.sources.system.procfs import (
    parse_proc_entry,
    read_proc_comm,
    read_proc_start_time_ns,
    uid_to_username,
)
from proctree_bpf.sources.walker import WalkerSource

__version__ = "0.1.0"

__all__ = [
    "PID_TREE_CAP",
    "PID_TREE_TTL_SECS",
    "PROC_CACHE_CAP",
    "PROC_CACHE_TTL_SECS",
    "AncestorAnnounced",
    "AncestryFilter",
    "Answer",
    "BpfOptions",
    "BpfSource",
    "BufferTooSmall",
    "CacheParams",
    "CacheStore",
    "CnProcEvent",
    "Collector",
    "ConnectionClosed",
    "ConnectorError",
    "DecodeError",
    "DefaultCache",
    "DefaultTree",
    "Edge",
    "EventSource",
    "Exec",
    "Exit",
    "Filter",
    "FilterError",
    "Fork",
    "Gap",
    "Interrupted",
    "NetlinkMessageIter",
    "NoSuchProcessError",
    "Overrun",
    "PidNode",
    "PidTree",
    "ProbeEvent",
    "ProcCache",
    "ProcConnector",
    "ProcConnectorSource",
    "ProcEvent",
    "ProcInfo",
    "ProcWalker",
    "Process",
    "ProcessEvent",
    "ProcessKey",
    "ProcessLink",
    "Rename",
    "ReplaySource",
    "Sameness",
    "Setid",
    "SourceFailedError",
    "SourceUnavailableError",
    "Tracker",
    "TreeStore",
    "Truncated",
    "UnexpectedConnector",
    "WalkerSource",
    "WouldBlock",
    "ancestry",
    "build_chain",
    "build_chain_links",
    "build_chain_string",
    "children",
    "compare",
    "descendants",
    "display",
    "entity_id",
    "escape",
    "find_by_cmd",
    "find_by_user",
    "handle_event",
    "handle_events",
    "handle_proc_events",
    "is_descendant",
    "new_cache",
    "new_cache_with",
    "new_pid_tree",
    "new_pid_tree_with",
    "parse_chain_string",
    "parse_proc_entry",
    "read_proc_comm",
    "read_proc_start_time_ns",
    "resolve",
    "siblings",
    "snapshot",
    "snapshot_process_tree",
    "start_proc_listener",
    "tree_len",
    "try_create_connector",
    "uid_to_username",
    "unescape",
    "visible",
]
