"""The names that other projects gave these things, for programs that are ported from them.

They are those of fsmon's ``proc_cache`` (0.2.6 and 0.3), of the crates ``proc-tree`` and
``proc-connector`` and of cellos' process probe, and work as documented there, or better.
``docs/compat.md`` has for each of them the new way, which is ``ProcessTree`` and ``Collector``.

What they call *parent* is the creator here, who called fork: ``PidNode.ppid``,
``Fork.parent_pid`` and ``ProcInfo.ppid``. The kernel's parent is ``PidNode.parent`` where it
differs, and ``Process.ppid()``.

>>> tree, cache = DefaultTree(), DefaultCache()
>>> handle_events(tree, cache, [
...     Exec(1, ProcessKey(1), comm="init"),
...     Fork(2, ProcessKey(70), creator=ProcessKey(1)), Exec(3, ProcessKey(70), comm="sshd"),
... ])
3
>>> build_chain_string(tree, cache, 70), is_descendant(tree, 70, "init")
('70|sshd|unknown;1|init|unknown', True)
>>> fork = Fork(4, ProcessKey(80), creator=ProcessKey(70))
>>> fork.parent_pid == fork.creator.pid
True
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
from proctree_bpf.compat.functions import (
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
    start_proc_listener,
)
from proctree_bpf.core.chain import parse_chain_string
from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.lineage import ancestry, is_descendant
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
from proctree_bpf.sources.proc_walker import (
    PROCESS_EXITED,
    PROCESS_SPAWNED,
    ProbeEvent,
    ProcWalker,
)
from proctree_bpf.sources.system.connector_socket import ProcConnector, try_create_connector
from proctree_bpf.sources.system.procfs import (
    parse_proc_entry,
    read_proc_comm,
    read_proc_start_time_ns,
    uid_to_username,
)

__all__ = [
    "PID_TREE_CAP",
    "PID_TREE_TTL_SECS",
    "PROCESS_EXITED",
    "PROCESS_SPAWNED",
    "PROC_CACHE_CAP",
    "PROC_CACHE_TTL_SECS",
    "BufferTooSmall",
    "CacheParams",
    "CacheStore",
    "CnProcEvent",
    "ConnectionClosed",
    "ConnectorError",
    "DefaultCache",
    "DefaultTree",
    "Edge",
    "Exec",
    "Exit",
    "Fork",
    "Interrupted",
    "NetlinkMessageIter",
    "Overrun",
    "PidNode",
    "PidTree",
    "ProbeEvent",
    "ProcCache",
    "ProcConnector",
    "ProcEvent",
    "ProcInfo",
    "ProcWalker",
    "ProcessKey",
    "ProcessLink",
    "TreeStore",
    "Truncated",
    "UnexpectedConnector",
    "WouldBlock",
    "ancestry",
    "build_chain",
    "build_chain_links",
    "build_chain_string",
    "children",
    "descendants",
    "display",
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
]
