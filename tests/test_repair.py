"""When ``/proc`` is read again after a loss, and what of it is taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proctree_bpf import Exec, Exit, Fork, Gap, PidTree, ProcCache, ProcessEvent, ProcessKey
from proctree_bpf.codecs.proc_files import Stat
from proctree_bpf.core.identity import TICK_NS
from proctree_bpf.core.model import ProcInfo
from proctree_bpf.core.tracker import Tracker
from proctree_bpf.pipeline import Pipeline
from proctree_bpf.sources.base import Delivery, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.codecs.proc_files import Reading

S = 1_000_000_000
INIT = ProcessKey(1, S)
SHELL = ProcessKey(100, 50 * S)


def reading(key: ProcessKey, ppid: int, args: bytes) -> Reading:
    """Return what ``/proc`` shows of a process."""
    name = args.partition(b"\0")[0].decode()
    info = ProcInfo(name, "root", ppid, key.pid, key.ticks * TICK_NS, uid=0, args_raw=args)
    return Stat(key.pid, name, "S", ppid, 0, 1, key.ticks), info


class Scripted:
    """A source that delivers what a test gives it, and shows what the test says."""

    name = "scripted"
    blind_spots = ()

    def __init__(self) -> None:
        self.delivery = Delivery(0)
        self.shown: list[Reading] = []
        self.seconds = 0.0
        self.looks = 0

    def open(self) -> None:
        """Nothing is to be opened."""

    def poll(self) -> Delivery:
        delivery, self.delivery = self.delivery, Delivery(self.delivery.watermark_ns)
        return delivery

    def is_quiet(self) -> bool:
        return False

    def read_snapshot(self, _progress: Callable[[], object], not_before_ns: int = 0) -> Any:
        if self.now_ns() < not_before_ns:
            return None
        self.looks += 1
        return Snapshot(self.now_ns(), self.now_ns() + S, self.shown)

    def now_ns(self) -> int:
        return int(self.seconds * S)

    def fileno(self) -> int | None:
        return None

    def stop(self) -> None:
        """Nothing is to be stopped."""

    def close(self) -> None:
        """Nothing is to be given back."""

    def stats(self) -> dict[str, Any]:
        return {}


class Machine:
    """A pipeline over such a source, which has shown init and a shell. It keeps what it writes."""

    def __init__(self) -> None:
        self.source = Scripted()
        self.source.seconds = 60
        self.source.shown = [reading(INIT, 0, b"init\0"), reading(SHELL, 1, b"bash\0")]
        self.tracker = Tracker(PidTree(), ProcCache())
        self.pipeline = Pipeline(self.source, self.tracker, self)
        self.pipeline.start()
        self.written: list[ProcessEvent] = []
        self.source.looks = 0

    def at(self, seconds: float, *events: Any, until: float = 0, lost: Gap | None = None) -> None:
        """Pump once, at that time; all from before ``until`` has come, else before that time."""
        self.source.seconds = seconds
        watermark_ns = int((until or seconds) * S)
        self.source.delivery = Delivery(watermark_ns, list(events), [lost] if lost else [])
        self.pipeline.pump()

    def write(self, process_event: ProcessEvent) -> None:
        self.written.append(process_event.keep())

    def gap(self, gap: Gap) -> None:
        """Keep no gaps."""

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Nothing is owed."""


def lost(kind: str, from_s: float, until_s: float) -> Gap:
    return Gap(int(until_s * S), "scripted", 1, kind, 0, int(from_s * S), int(until_s * S))


def an_exec(seconds: float, args: bytes, key: ProcessKey = SHELL) -> Exec:
    return Exec(int(seconds * S), key, comm=args.partition(b"\0")[0].decode(), args_raw=args)


class TestAnotherGap:
    def test_that_was_over_before_proc_was_read_does_not_need_another_look(self) -> None:
        machine = Machine()
        machine.at(70, lost=lost("exec", 61, 62))
        machine.at(70.5, until=65, lost=lost("fork", 63, 64))  # it was decoded later
        machine.at(71.5)
        assert machine.source.looks == 1
        assert not machine.tracker.uncertain
        assert machine.pipeline.summary()["repair_seconds"] == 7.5

    def test_that_ended_later_needs_one(self) -> None:
        machine = Machine()
        machine.at(70, lost=lost("exec", 61, 62))
        machine.at(72, lost=lost("fork", 63, 70.5))
        assert machine.tracker.uncertain
        machine.at(74)
        assert machine.source.looks == 2
        assert not machine.tracker.uncertain


class TestWhatHappensWhileProcIsRead:
    def test_is_not_taken_from_there_but_told_in_its_place(self) -> None:
        machine = Machine()
        machine.source.shown[1] = reading(SHELL, 1, b"sleep\0009\0")
        machine.at(70, lost=lost("fork", 61, 62))
        child = ProcessKey(200, int(70.1 * S))
        fork = Fork(child.start_time_ns, child, SHELL, comm="bash")
        machine.at(70.3, fork)
        assert not machine.written, "it cannot be known yet what else had happened by then"
        machine.at(72, an_exec(70.2, b"sleep\0009\0"))
        born, executed = machine.written
        assert (born.info.args_raw, executed.info.args_raw) == (b"bash\0", b"sleep\0009\0")

    def test_is_told_of_one_that_has_ended_by_then(self) -> None:
        machine = Machine()
        machine.source.shown.pop()
        machine.at(70, lost=lost("fork", 61, 62))
        machine.at(72, Exit(int(70.2 * S), SHELL, status=0, comm="bash"))
        (ended,) = machine.written
        assert ended.node.exited_ns == int(70.2 * S)
        assert machine.pipeline.summary()["presumed_exits"] == 0


class TestARecordOfOneThatCouldNotBeLookedUp:
    """It lived when execs were lost, and had ended when ``/proc`` was read."""

    def test_is_uncertain_though_the_tree_is_mended(self) -> None:
        machine = Machine()
        machine.source.shown.pop()
        machine.at(70, lost=lost("exec", 61, 62))
        machine.at(72, Exit(int(70.2 * S), SHELL, status=0, comm="evil"))
        assert not machine.tracker.uncertain
        (ended,) = machine.written
        assert ended.info.cmd == "evil"
        assert ended.info.args_raw == b"bash\0", "what it ran by then is not known"
        assert ended.uncertain

    def test_is_not_if_it_told_what_it_ran_in_the_meantime(self) -> None:
        machine = Machine()
        machine.source.shown.pop()
        machine.at(70, lost=lost("exec", 61, 62))
        ended = Exit(int(70.2 * S), SHELL, status=0, comm="ls")
        machine.at(72, an_exec(70.1, b"ls\0"), ended)
        assert [told.uncertain for told in machine.written] == [False, False]

    def test_is_not_if_no_exec_was_lost(self) -> None:
        machine = Machine()
        machine.source.shown.pop()
        machine.at(70, lost=lost("fork", 61, 62))
        machine.at(72, Exit(int(70.2 * S), SHELL, status=0, comm="bash"))
        assert not machine.written[0].uncertain

    def test_is_uncertain_of_what_a_child_has_from_it(self) -> None:
        machine = Machine()
        machine.source.shown.pop()
        machine.at(70, lost=lost("exec", 61, 62))
        child = ProcessKey(200, int(70.1 * S))
        fork = Fork(child.start_time_ns, child, SHELL, comm="evil")
        machine.at(72, fork, Exit(int(70.2 * S), SHELL, status=0, comm="evil"))
        machine.at(73, an_exec(72.5, b"ls\0", child))
        assert [told.uncertain for told in machine.written] == [True, True, False]
