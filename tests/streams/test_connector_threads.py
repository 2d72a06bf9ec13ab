"""What the proc connector says of threads, folded into processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Exit, ProcessKey
from support import connector_messages as wire
from support.fake_connector import CHILD, MS, OTHER, SECOND, FakeConnector
from support.fake_proc_reader import TICK_NS

if TYPE_CHECKING:
    from proctree_bpf import ProcEvent


class TestThreads:
    def test_a_new_thread_is_no_event(self, scene: FakeConnector) -> None:
        scene.child()
        assert scene.poll(scene.kernel.thread(CHILD, 301)) == []

    def test_a_process_ends_with_its_last_thread(self, scene: FakeConnector) -> None:
        key = scene.child()
        threads = [scene.kernel.thread(CHILD, tid) for tid in (301, 302)]
        assert scene.poll(*threads, scene.kernel.exit(CHILD, 0, tid=301)) == []
        assert scene.poll(scene.kernel.exit(CHILD, 0)) == []
        (end,) = scene.poll(scene.kernel.exit(CHILD, 5 << 8, tid=302))
        assert isinstance(end, Exit)
        assert (end.key, end.timestamp_ns) == (key, scene.now_ns())

    def test_a_process_whose_leader_ends_last_ends_once(self, scene: FakeConnector) -> None:
        scene.child()
        thread = scene.kernel.thread(CHILD, 301)
        ends = [scene.kernel.exit(CHILD, 9, tid=301), scene.kernel.exit(CHILD, 9)]
        (end,) = scene.poll(thread, *ends)
        assert isinstance(end, Exit)
        assert end.signal == signal.SIGKILL

    def test_threads_that_were_there_before_are_asked_for_when_the_leader_has_ended(
        self, scene: FakeConnector
    ) -> None:
        for threads in (3, 2):
            scene.proc.add(OTHER, SECOND, threads=threads, state="Z")
            tid = 0 if threads == 3 else 401
            assert scene.poll(scene.kernel.exit(OTHER, tid=tid)) == []
        scene.proc.end(OTHER)
        scene.proc.add(OTHER, SECOND, threads=1, state="Z")
        (end,) = scene.poll(scene.kernel.exit(OTHER, tid=402))
        assert isinstance(end, Exit)
        assert end.key == ProcessKey(OTHER, SECOND)

    def test_an_end_that_proc_shows_before_it_is_told_is_not_counted_twice(
        self, scene: FakeConnector
    ) -> None:
        """Three threads are left by the count, one of which has ended: its word is on the way."""
        scene.proc.add(OTHER, SECOND, threads=3, state="Z")
        scene.poll(scene.kernel.exit(OTHER))
        assert scene.poll(scene.kernel.exit(OTHER, tid=401)) == []
        assert scene.poll(scene.kernel.exit(OTHER, tid=402)) == []

    def test_a_process_that_lost_its_leader_before_it_was_met_ends_with_its_last_thread(
        self, scene: FakeConnector
    ) -> None:
        stat, _ = scene.proc.add(OTHER, SECOND, threads=2, state="Z")
        scene.stream.meet([stat])
        scene.proc.remove(OTHER)
        (end,) = scene.poll(scene.kernel.exit(OTHER, 5 << 8, tid=401))
        assert end == Exit(scene.now_ns(), ProcessKey(OTHER, SECOND), ProcessKey(1), status=None)

    def test_the_end_of_a_process_without_a_leader_is_seen_if_nobody_tells_it(
        self, scene: FakeConnector
    ) -> None:
        """A traced thread is there until its tracer knows; its last word came before."""
        stat, _ = scene.proc.add(OTHER, SECOND, threads=2, state="Z")
        scene.stream.meet([stat])
        assert scene.poll(scene.kernel.exit(OTHER, tid=401)) == []
        scene.proc.remove(OTHER)
        events: list[ProcEvent] = []
        for _ in range(5):
            scene.kernel.time_ns += 100 * MS
            events += scene.poll()
        assert [(type(event), event.key) for event in events] == [(Exit, ProcessKey(OTHER, SECOND))]

    def test_what_proc_showed_does_not_replace_what_was_told(self, scene: FakeConnector) -> None:
        key = scene.child()
        stat, _ = scene.proc.add(CHILD, key.start_time_ns - 5 * TICK_NS, threads=2, state="Z")
        scene.stream.meet([stat])
        (end,) = scene.poll(scene.kernel.exit(CHILD, 3 << 8))
        assert isinstance(end, Exit)
        assert (end.key, end.exit_code) == (key, 3)

    @pytest.mark.parametrize(
        ("leader", "other", "status"),
        [(3 << 8, 3 << 8, 3 << 8), (0, 5 << 8, None), (9, None, 9), (0, None, None)],
    )
    def test_the_status_of_a_process_with_threads_that_was_met_is_told_if_all_agree(
        self, scene: FakeConnector, leader: int, other: int | None, status: int | None
    ) -> None:
        stat, _ = scene.proc.add(OTHER, SECOND, threads=2)
        scene.stream.meet([stat])
        scene.proc.remove(OTHER)
        ends = [scene.kernel.exit(OTHER, leader)]
        if other is not None:
            ends.append(scene.kernel.exit(OTHER, other, tid=401))
        (end,) = scene.poll(*ends)
        assert isinstance(end, Exit)
        assert end.status == status

    def test_a_thread_that_ends_is_no_event_for_a_process_met_on_the_way(
        self, scene: FakeConnector
    ) -> None:
        scene.proc.add(OTHER, SECOND, threads=2)
        assert scene.poll(scene.kernel.exit(OTHER, tid=401)) == []

    @pytest.mark.parametrize("dumping", [0, 301, 302])
    def test_a_core_dump_is_told_whichever_thread_told_of_it_and_when(
        self, scene: FakeConnector, dumping: int
    ) -> None:
        """Only the thread that the signal came to has the flag."""
        scene.child()
        threads = [scene.kernel.thread(CHILD, tid) for tid in (301, 302)]
        ends = [
            scene.kernel.exit(CHILD, 6 | (0x80 if tid == dumping else 0), tid=tid)
            for tid in (301, 0, 302)
        ]
        (end,) = scene.poll(*threads, *ends)
        assert isinstance(end, Exit)
        assert end.status == 6 | 0x80

    def test_an_exec_leaves_one_thread(self, scene: FakeConnector) -> None:
        scene.child()
        threads = [scene.kernel.thread(CHILD, tid) for tid in (301, 302)]
        # Thread 302 calls exec: the others end, and it becomes the leader.
        others = [scene.kernel.exit(CHILD, 0, tid=301), scene.kernel.exit(CHILD, 0)]
        events = scene.poll(*threads, *others, scene.kernel.exec(CHILD))
        assert [type(event) for event in events] == [Exec]
        (end,) = scene.poll(scene.kernel.exit(CHILD, 3 << 8))
        assert isinstance(end, Exit)
        assert end.exit_code == 3

    def test_an_exec_by_a_thread_does_not_end_a_process_met_on_the_way(
        self, scene: FakeConnector
    ) -> None:
        """Its threads are not known, and ``/proc`` shows the new program already."""
        leader_ends = scene.kernel.exit(OTHER)
        scene.proc.add(OTHER, SECOND, "new program", threads=1)
        events = scene.poll(leader_ends, scene.kernel.exec(OTHER))
        assert [type(event) for event in events] == [Exec]

    def test_a_threads_name_and_user_are_not_its_processs(self, scene: FakeConnector) -> None:
        scene.child()
        uid = scene.kernel.send(wire.UID, wire.id_body(CHILD, 5, 5, tid=301))
        gid = scene.kernel.send(wire.GID, wire.id_body(CHILD, 5, 5, tid=301))
        assert scene.poll(scene.kernel.comm(CHILD, b"worker", tid=301), uid, gid) == []

    def test_after_a_loss_thread_counts_are_looked_up_again(self, scene: FakeConnector) -> None:
        key = scene.child()
        scene.poll(scene.kernel.thread(CHILD, 301))
        scene.kernel.drop(1)  # the end of thread 301
        scene.proc.end(CHILD)
        (end,) = scene.poll(scene.kernel.exit(CHILD))
        assert isinstance(end, Exit)
        assert end.key == key

    def test_a_process_that_ended_is_forgotten(self, scene: FakeConnector) -> None:
        scene.child()
        scene.poll(scene.kernel.exit(CHILD))
        scene.proc.remove(CHILD)
        assert not scene.stream.knows(CHILD)

    def test_the_end_of_a_thread_that_is_told_late_is_not_remembered(
        self, scene: FakeConnector
    ) -> None:
        """Its process ended when its leader did, for all that ``/proc`` could say by then."""
        leader, thread = scene.kernel.exit(OTHER), scene.kernel.exit(OTHER, tid=401)
        events = scene.poll(leader, thread)
        assert [type(event) for event in events] == [Exit]
        assert not scene.stream.knows(OTHER)
