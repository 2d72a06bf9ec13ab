"""A tracker that knows a few processes, and a filter that is asked about their records."""

from __future__ import annotations

from proctree_bpf.core.events import Exec, Exit, Fork, ProcEvent
from proctree_bpf.core.identity import ProcessKey
from proctree_bpf.core.model import PidNode, ProcInfo
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.filters.record_filter import BoundFilter
from proctree_bpf.filters.terms import Filter

S = 1_000_000_000
INIT, SSHD, SHELL = ProcessKey(1, 10_000_000), ProcessKey(50, S), ProcessKey(100, 2 * S)


class World:
    """A tracker that knows init, sshd and a shell, and the filter that is tested."""

    def __init__(self, terms: str, **options: bool) -> None:
        self.tracker = Tracker(PidTree(), ProcCache(), {0: "root", 1000: "ada"}.get)
        self.now_ns = 10 * S
        known = [("init", INIT, ProcessKey(0)), ("sshd", SSHD, INIT), ("bash", SHELL, SSHD)]
        self.tracker.merge_snapshot([self.entry(*each) for each in known])
        wanted = Filter.parse(terms, **options)
        self.filter = BoundFilter(wanted, self.tracker.tree, self.tracker.cache)
        self.filter.survey()

    @staticmethod
    def entry(cmd: str, key: ProcessKey, creator: ProcessKey) -> tuple[PidNode, ProcInfo]:
        node = PidNode(creator.pid, cmd, key.start_time_ns, key.pid, creator.start_time_ns)
        info = ProcInfo(
            cmd, "root", creator.pid, key.pid, key.start_time_ns, uid=0,
            executable=f"/usr/bin/{cmd}", args_raw=f"{cmd}\0-x\0".encode(),
        )  # fmt: skip
        return node, info

    def admits(self, event: ProcEvent) -> bool:
        process_event = self.tracker.apply(event)
        assert process_event is not None
        return self.filter.admits(process_event)

    def tick(self) -> int:
        self.now_ns += 1_000_001
        return self.now_ns

    def fork(self, pid: int, creator: ProcessKey, comm: str = "bash", uid: int = 0) -> ProcessKey:
        self.child = ProcessKey(pid, self.tick())
        event = Fork(
            self.now_ns, self.child, creator, parent=creator, uid=uid, comm=comm, cgroup_id=7
        )
        self.admitted = self.admits(event)
        return self.child

    def exec(self, key: ProcessKey, comm: str, args: str = "", path: str = "") -> bool:
        raw = (args or comm).replace(" ", "\0").encode() + b"\0"
        return self.admits(
            Exec(self.tick(), key, comm=comm, args_raw=raw, executable=path or f"/usr/bin/{comm}")
        )

    def exit(self, key: ProcessKey, status: int = 0) -> bool:
        return self.admits(Exit(self.tick(), key, status=status))
