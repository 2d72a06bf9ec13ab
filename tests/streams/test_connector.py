"""What the proc connector says, folded into processes: threads, names, clocks and losses."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Exit, Fork, Gap, ProcessKey, Rename
from proctree_bpf.core.events import Setid
from proctree_bpf.core.identity import Sameness, compare
from support import connector_messages as wire
from support.fake_connector import CHILD, MS, PARENT, SECOND, FakeConnector
from support.fake_proc_reader import TICK_NS

if TYPE_CHECKING:
    from proctree_bpf import ProcEvent

_OTHER = 400


@pytest.fixture
def scene() -> FakeConnector:
    return FakeConnector()


class TestForks:
    def test_a_fork_tells_the_child_and_its_creator_with_their_starts(
        self, scene: FakeConnector
    ) -> None:
        datagram = scene.kernel.fork(PARENT, CHILD)
        scene.proc.add(CHILD, scene.now_ns())
        (fork,) = scene.poll(datagram)
        assert isinstance(fork, Fork)
        assert (fork.child.pid, fork.child.ticks) == (CHILD, scene.now_ns() // TICK_NS)
        assert fork.creator == ProcessKey(PARENT, SECOND)
        assert (fork.timestamp_ns, fork.approximate) == (scene.now_ns(), False)

    def test_two_processes_of_one_pid_and_one_tick_are_two(self, scene: FakeConnector) -> None:
        first = scene.child()
        scene.poll(scene.kernel.exit(CHILD))
        second = scene.child()
        assert first.ticks == second.ticks
        assert first != second

    def test_two_processes_of_one_pid_and_one_tick_are_two_for_the_tree(
        self, scene: FakeConnector
    ) -> None:
        first = scene.child()
        scene.poll(scene.kernel.exit(CHILD))
        second = scene.child()
        assert compare(first, second) is Sameness.DIFFERENT

    def test_a_start_is_in_the_tick_that_proc_shows_though_the_fork_is_reported_later(
        self, scene: FakeConnector
    ) -> None:
        datagram = scene.kernel.fork(PARENT, CHILD)
        ticks = scene.now_ns() // TICK_NS - 3
        scene.proc.add(CHILD, ticks * TICK_NS)
        (fork,) = scene.poll(datagram)
        assert isinstance(fork, Fork)
        assert (fork.child.ticks, fork.approximate) == (ticks, False)

    def test_a_child_that_has_called_exec_already_has_its_start(self, scene: FakeConnector) -> None:
        """One look answers both: it cannot be about another process."""
        datagrams = [scene.kernel.fork(PARENT, CHILD), scene.kernel.exec(CHILD)]
        ticks = scene.now_ns() // TICK_NS - 1
        scene.proc.add(CHILD, ticks * TICK_NS, "prog")
        fork, exec_ = scene.poll(*datagrams)
        assert isinstance(fork, Fork)
        assert isinstance(exec_, Exec)
        assert (fork.child.ticks, fork.approximate) == (ticks, False)
        assert (exec_.key, exec_.comm) == (fork.child, "prog")
        assert scene.proc.asked.count(("entry", CHILD)) == 1

    def test_a_word_about_the_former_holder_of_a_pid_that_comes_late_is_about_the_former(
        self, scene: FakeConnector
    ) -> None:
        former = scene.child()
        late = scene.kernel.send(wire.EXIT, wire.exit_body(CHILD, 3 << 8), cpu=1)
        latter = scene.child()
        (end,) = scene.poll(late)
        assert isinstance(end, Exit)
        assert (end.key, end.exit_code) == (former, 3)
        (end,) = scene.poll(scene.kernel.exit(CHILD, 4 << 8))
        assert isinstance(end, Exit)
        assert (end.key, end.exit_code) == (latter, 4)

    def test_a_child_that_is_gone_keeps_its_edge_and_an_approximate_start(
        self, scene: FakeConnector
    ) -> None:
        (fork,) = scene.poll(scene.kernel.fork(PARENT, CHILD))
        now_ns = scene.now_ns()
        creator = ProcessKey(PARENT, SECOND)
        assert fork == Fork(now_ns, ProcessKey(CHILD, now_ns), creator, approximate=True)

    def test_a_later_process_with_the_childs_pid_is_not_taken_for_it(
        self, scene: FakeConnector
    ) -> None:
        datagram = scene.kernel.fork(PARENT, CHILD)
        scene.proc.add(CHILD, scene.now_ns() + TICK_NS, "another")
        (fork,) = scene.poll(datagram)
        assert isinstance(fork, Fork)
        assert fork.approximate
        assert fork.child == ProcessKey(CHILD, scene.now_ns())

    def test_a_much_older_process_is_not_taken_for_the_child(self, scene: FakeConnector) -> None:
        scene.kernel.time_ns += 10 * SECOND
        datagram = scene.kernel.fork(PARENT, CHILD)
        scene.proc.add(CHILD, scene.now_ns() - 5 * SECOND, "another")
        (fork,) = scene.poll(datagram)
        assert isinstance(fork, Fork)
        assert fork.approximate

    def test_a_creator_that_is_gone_is_known_by_its_pid_alone(self, scene: FakeConnector) -> None:
        (fork,) = scene.poll(scene.kernel.fork(_OTHER, CHILD))
        assert isinstance(fork, Fork)
        assert fork.creator == ProcessKey(_OTHER)

    def test_a_creator_is_asked_for_once(self, scene: FakeConnector) -> None:
        scene.poll(*(scene.kernel.fork(PARENT, CHILD + n) for n in range(5)))
        assert scene.proc.asked.count(("stat", PARENT)) == 1

    def test_a_chain_of_forks_links_the_starts_that_were_told(self, scene: FakeConnector) -> None:
        first, second = scene.poll(
            scene.kernel.fork(PARENT, CHILD), scene.kernel.fork(CHILD, _OTHER)
        )
        assert isinstance(first, Fork)
        assert isinstance(second, Fork)
        assert second.creator == first.child


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
            scene.proc.add(_OTHER, SECOND, threads=threads, state="Z")
            tid = 0 if threads == 3 else 401
            assert scene.poll(scene.kernel.exit(_OTHER, tid=tid)) == []
        scene.proc.end(_OTHER)
        scene.proc.add(_OTHER, SECOND, threads=1, state="Z")
        (end,) = scene.poll(scene.kernel.exit(_OTHER, tid=402))
        assert isinstance(end, Exit)
        assert end.key == ProcessKey(_OTHER, SECOND)

    def test_an_end_that_proc_shows_before_it_is_told_is_not_counted_twice(
        self, scene: FakeConnector
    ) -> None:
        """Three threads are left by the count, one of which has ended: its word is on the way."""
        scene.proc.add(_OTHER, SECOND, threads=3, state="Z")
        scene.poll(scene.kernel.exit(_OTHER))
        assert scene.poll(scene.kernel.exit(_OTHER, tid=401)) == []
        assert scene.poll(scene.kernel.exit(_OTHER, tid=402)) == []

    def test_a_process_that_lost_its_leader_before_it_was_met_ends_with_its_last_thread(
        self, scene: FakeConnector
    ) -> None:
        stat, _ = scene.proc.add(_OTHER, SECOND, threads=2, state="Z")
        scene.stream.meet([stat])
        scene.proc.remove(_OTHER)
        (end,) = scene.poll(scene.kernel.exit(_OTHER, 5 << 8, tid=401))
        assert end == Exit(scene.now_ns(), ProcessKey(_OTHER, SECOND), ProcessKey(1), status=None)

    def test_the_end_of_a_process_without_a_leader_is_seen_if_nobody_tells_it(
        self, scene: FakeConnector
    ) -> None:
        """A traced thread is there until its tracer knows; its last word came before."""
        stat, _ = scene.proc.add(_OTHER, SECOND, threads=2, state="Z")
        scene.stream.meet([stat])
        assert scene.poll(scene.kernel.exit(_OTHER, tid=401)) == []
        scene.proc.remove(_OTHER)
        events: list[ProcEvent] = []
        for _ in range(5):
            scene.kernel.time_ns += 100 * MS
            events += scene.poll()
        assert [(type(event), event.key) for event in events] == [
            (Exit, ProcessKey(_OTHER, SECOND))
        ]

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
        stat, _ = scene.proc.add(_OTHER, SECOND, threads=2)
        scene.stream.meet([stat])
        scene.proc.remove(_OTHER)
        ends = [scene.kernel.exit(_OTHER, leader)]
        if other is not None:
            ends.append(scene.kernel.exit(_OTHER, other, tid=401))
        (end,) = scene.poll(*ends)
        assert isinstance(end, Exit)
        assert end.status == status

    def test_a_thread_that_ends_is_no_event_for_a_process_met_on_the_way(
        self, scene: FakeConnector
    ) -> None:
        scene.proc.add(_OTHER, SECOND, threads=2)
        assert scene.poll(scene.kernel.exit(_OTHER, tid=401)) == []

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
        leader_ends = scene.kernel.exit(_OTHER)
        scene.proc.add(_OTHER, SECOND, "new program", threads=1)
        events = scene.poll(leader_ends, scene.kernel.exec(_OTHER))
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
        leader, thread = scene.kernel.exit(_OTHER), scene.kernel.exit(_OTHER, tid=401)
        events = scene.poll(leader, thread)
        assert [type(event) for event in events] == [Exit]
        assert not scene.stream.knows(_OTHER)


class TestExits:
    @pytest.mark.parametrize("status", [0, 1 << 8, 255 << 8, 9, 6 | 0x80])
    def test_an_exit_has_the_status_and_the_parent(self, scene: FakeConnector, status: int) -> None:
        key = scene.child()
        (end,) = scene.poll(scene.kernel.exit(CHILD, status, parent=PARENT))
        now_ns = scene.now_ns()
        assert end == Exit(now_ns, key, ProcessKey(PARENT, SECOND), status=status)

    def test_an_exit_of_a_process_never_met_is_told(self, scene: FakeConnector) -> None:
        (end,) = scene.poll(scene.kernel.exit(_OTHER, parent=0))
        assert end == Exit(scene.now_ns(), ProcessKey(_OTHER), status=0)

    def test_a_later_holder_of_the_pid_does_not_lend_its_start(self, scene: FakeConnector) -> None:
        datagram = scene.kernel.exit(_OTHER)
        scene.proc.add(_OTHER, scene.now_ns() + TICK_NS)
        (end,) = scene.poll(datagram)
        assert end.key == ProcessKey(_OTHER)

    def test_the_leaders_status_counts_when_another_thread_ends_last(
        self, scene: FakeConnector
    ) -> None:
        """wait(2) returns the leader's code unless the group was ended as a whole."""
        scene.child()
        scene.poll(scene.kernel.thread(CHILD, 301), scene.kernel.exit(CHILD, 3 << 8))
        scene.proc.end(CHILD)
        (end,) = scene.poll(scene.kernel.exit(CHILD, 5 << 8, tid=301))
        assert isinstance(end, Exit)
        assert end.status in (3 << 8, None)


class TestExecs:
    def test_an_exec_that_could_be_looked_at_tells_all(self, scene: FakeConnector) -> None:
        key = scene.child()
        _, info = scene.proc.add(CHILD, key.start_time_ns, "prog", args=b"a\0", exe="/x")
        (event,) = scene.poll(scene.kernel.exec(CHILD))
        assert event == Exec(
            scene.now_ns(), key, uid=info.uid, gid=info.gid, comm="prog", executable="/x",
            args_raw=b"a\0",
        )  # fmt: skip

    def test_an_exec_of_a_process_that_is_gone_tells_that_it_happened(
        self, scene: FakeConnector
    ) -> None:
        key = scene.child()
        scene.proc.remove(CHILD)
        (event,) = scene.poll(scene.kernel.exec(CHILD))
        assert event == Exec(scene.now_ns(), key)
        assert scene.stream.execs_unnamed == 1

    @pytest.mark.parametrize("later_ns", [TICK_NS, SECOND])
    def test_an_answer_about_a_later_holder_of_the_pid_is_rejected(
        self, scene: FakeConnector, later_ns: int
    ) -> None:
        key = scene.child()
        datagram = scene.kernel.exec(CHILD)
        scene.proc.add(CHILD, scene.now_ns() + later_ns, "another")
        (event,) = scene.poll(datagram)
        assert event == Exec(scene.now_ns(), key)

    def test_an_answer_about_a_later_holder_is_rejected_though_the_first_start_is_not_known(
        self, scene: FakeConnector
    ) -> None:
        fork, exec_ = scene.kernel.fork(PARENT, CHILD), scene.kernel.exec(CHILD)
        scene.proc.add(CHILD, scene.now_ns() + 2 * TICK_NS, "another")
        _, event = scene.poll(fork, exec_)
        assert isinstance(event, Exec)
        assert event.comm is None

    def test_an_answer_is_not_trusted_if_the_pid_was_forked_again_meanwhile(
        self, scene: FakeConnector
    ) -> None:
        """Two processes can have one PID within one tick: their starts look the same."""
        key = scene.child()
        datagrams = [
            scene.kernel.exec(CHILD),
            scene.kernel.exit(CHILD),
            scene.kernel.fork(PARENT, CHILD),
            scene.kernel.exec(CHILD),
        ]
        scene.proc.add(CHILD, key.start_time_ns, "the second")
        first, _, _, second = scene.poll(*datagrams)
        assert isinstance(first, Exec)
        assert isinstance(second, Exec)
        assert first.comm is None
        assert second.comm == "the second"

    def test_an_answer_is_not_given_to_an_exec_that_another_one_followed(
        self, scene: FakeConnector
    ) -> None:
        key = scene.child()
        scene.proc.add(CHILD, key.start_time_ns, "the second")
        first, second = scene.poll(scene.kernel.exec(CHILD), scene.kernel.exec(CHILD))
        assert isinstance(first, Exec)
        assert isinstance(second, Exec)
        assert first.comm is None
        assert second.comm == "the second"

    def test_an_exec_of_a_process_never_met_gets_its_start_from_proc(
        self, scene: FakeConnector
    ) -> None:
        scene.proc.add(_OTHER, SECOND, "other")
        (event,) = scene.poll(scene.kernel.exec(_OTHER))
        assert isinstance(event, Exec)
        assert (event.key, event.comm) == (ProcessKey(_OTHER, SECOND), "other")

    def test_the_name_that_was_missed_is_read_from_the_dead(self, scene: FakeConnector) -> None:
        key = scene.child()
        scene.proc.remove(CHILD)
        scene.poll(scene.kernel.exec(CHILD))
        scene.proc.add(CHILD, key.start_time_ns, "late", state="Z")
        (end,) = scene.poll(scene.kernel.exit(CHILD))
        assert isinstance(end, Exit)
        assert end.comm == "late"

    def test_a_name_that_is_known_is_not_asked_for_at_the_end(self, scene: FakeConnector) -> None:
        scene.child()
        scene.proc.asked.clear()
        (end,) = scene.poll(scene.kernel.exit(CHILD))
        assert isinstance(end, Exit)
        assert end.comm is None
        assert scene.proc.asked == []


class TestNamesAndUsers:
    @pytest.mark.parametrize(
        ("raw", "name"),
        [(b"plain", "plain"), (b"a) S (b", "a) S (b"), (b"\xff\n\x1b", "\udcff\n\x1b"), (b"", "")],
    )
    def test_a_new_name_is_told_as_it_is(self, scene: FakeConnector, raw: bytes, name: str) -> None:
        key = scene.child()
        (event,) = scene.poll(scene.kernel.comm(CHILD, raw))
        assert event == Rename(scene.now_ns(), key, name)

    def test_a_new_user_is_the_real_one(self, scene: FakeConnector) -> None:
        key = scene.child()
        (event,) = scene.poll(scene.kernel.send(wire.UID, wire.id_body(CHILD, 1000, 0)))
        assert event == Setid(scene.now_ns(), key, uid=1000)

    def test_a_new_group_is_the_real_one(self, scene: FakeConnector) -> None:
        key = scene.child()
        (event,) = scene.poll(scene.kernel.send(wire.GID, wire.id_body(CHILD, 100, 0)))
        assert event == Setid(scene.now_ns(), key, gid=100)

    @pytest.mark.parametrize(
        ("what", "body"),
        [
            (wire.SID, wire.task(CHILD)),
            (wire.PTRACE, wire.id_body(CHILD, 1, 1)),
            (wire.COREDUMP, wire.id_body(CHILD, 1, 1)),
            (wire.NONE, wire.ACKNOWLEDGEMENT),
            (0x8, b"unknown"),
        ],
    )
    def test_any_other_kind_is_counted_but_no_event(
        self, scene: FakeConnector, what: int, body: bytes
    ) -> None:
        scene.child()
        received = scene.stream.summary()["received"]
        assert scene.poll(scene.kernel.send(what, body)) == []
        assert scene.stream.summary()["received"] == received + 1
        assert scene.gaps == []


class TestClock:
    def test_times_are_converted_to_the_clock_that_counts_sleep(self) -> None:
        scene = FakeConnector(offset_ns=3600 * SECOND)
        (fork,) = scene.poll(scene.kernel.fork(PARENT, CHILD))
        assert fork.timestamp_ns == scene.kernel.time_ns + 3600 * SECOND

    def test_what_happened_after_a_suspend_has_the_new_offset(self, scene: FakeConnector) -> None:
        scene.child()
        scene.offset_ns += 60 * SECOND
        (end,) = scene.poll(scene.kernel.exit(CHILD))
        assert end.timestamp_ns == scene.kernel.time_ns + 60 * SECOND

    def test_what_was_sent_before_the_last_poll_has_the_offset_from_before(
        self, scene: FakeConnector
    ) -> None:
        scene.child()
        late = scene.kernel.exit(CHILD)
        sent_ns = scene.kernel.time_ns
        scene.poll()  # it is still on its way
        scene.offset_ns += 60 * SECOND
        scene.kernel.time_ns += 5 * MS
        (end,) = scene.poll(late)
        assert end.timestamp_ns == sent_ns

    def test_the_time_between_reading_the_clocks_does_not_move_the_events(
        self, scene: FakeConnector
    ) -> None:
        scene.child()
        scene.offset_ns += 4 * MS
        (end,) = scene.poll(scene.kernel.exit(CHILD))
        assert end.timestamp_ns == scene.kernel.time_ns

    def test_the_watermark_is_a_little_before_the_poll_and_after_a_suspend_jumps_with_it(
        self, scene: FakeConnector
    ) -> None:
        scene.child()
        before = scene.watermark_ns
        assert scene.now_ns() - 20 * MS < before < scene.now_ns()
        scene.offset_ns += 60 * SECOND
        scene.poll()
        assert scene.watermark_ns == before + 60 * SECOND


class TestLosses:
    def test_a_hole_in_a_cpus_numbers_is_a_gap_of_that_size(self, scene: FakeConnector) -> None:
        scene.child()
        before_ns = scene.now_ns()
        scene.kernel.drop(7)
        scene.poll(scene.kernel.exec(CHILD))
        now_ns = scene.now_ns()
        assert scene.gaps == [Gap(now_ns, "proc-connector", 7, None, 0, before_ns, now_ns)]
        assert scene.stream.summary()["lost"] == 7

    def test_numbers_are_counted_by_cpu(self, scene: FakeConnector) -> None:
        first = [scene.kernel.fork(PARENT, 500 + cpu, cpu) for cpu in range(4)]
        scene.kernel.drop(5, cpu=2)
        second = [scene.kernel.fork(PARENT, 510 + cpu, cpu) for cpu in range(4)]
        scene.poll(*first, *second)
        assert [(gap.cpu, gap.count) for gap in scene.gaps] == [(2, 5)]
        by_cpu = scene.stream.summary()["by_cpu"]
        assert [(c["cpu"], c["received"], c["lost"]) for c in by_cpu] == [
            (0, 2, 0), (1, 2, 0), (2, 2, 5), (3, 2, 0),
        ]  # fmt: skip

    @pytest.mark.parametrize("lost", [0, 1, 5])
    def test_the_numbers_start_again_after_32_bits(self, scene: FakeConnector, lost: int) -> None:
        scene.kernel.seq[0] = 2**32 - 2
        scene.poll(scene.kernel.fork(PARENT, 500), scene.kernel.fork(PARENT, 501))
        scene.kernel.drop(lost)
        scene.poll(scene.kernel.fork(PARENT, 502), scene.kernel.fork(PARENT, 503))
        assert sum(gap.count or 0 for gap in scene.gaps) == lost

    def test_where_a_cpus_numbers_begin_is_no_gap(self, scene: FakeConnector) -> None:
        scene.kernel.seq[0] = 123_456
        scene.child()
        assert scene.gaps == []

    def test_a_message_from_the_past_is_no_gap(self, scene: FakeConnector) -> None:
        first, second = scene.kernel.exec(PARENT), scene.kernel.exec(PARENT)
        scene.poll(second)
        scene.poll(first)
        assert scene.gaps == []

    def test_a_message_from_the_past_does_not_make_the_next_one_a_gap(
        self, scene: FakeConnector
    ) -> None:
        first, second, third = (scene.kernel.exec(PARENT) for _ in range(3))
        scene.poll(second, first, third)
        assert scene.gaps == []

    def test_an_overrun_that_numbers_explain_is_one_gap(self, scene: FakeConnector) -> None:
        scene.child()
        assert scene.poll(overrun=True) == []
        scene.kernel.drop(3)
        scene.poll(scene.kernel.exec(CHILD))
        assert [gap.count for gap in scene.gaps] == [3]
        scene.poll()
        assert len(scene.gaps) == 1

    def test_an_overrun_without_an_explanation_is_a_gap_of_unknown_size(
        self, scene: FakeConnector
    ) -> None:
        scene.child()
        scene.poll(overrun=True)
        scene.poll(complete=False)
        assert scene.gaps == []
        scene.poll()
        scene.poll()
        (gap,) = scene.gaps
        assert (gap.source, gap.count, gap.kind) == ("proc-connector", None, None)
        assert scene.stream.summary()["overruns"] == 1

    def test_an_overrun_message_counts_as_an_overrun(self, scene: FakeConnector) -> None:
        scene.poll(wire.netlink(b"", wire.OVERRUN) + scene.kernel.exec(PARENT))
        assert scene.stream.summary()["overruns"] == 1
        assert [gap.count for gap in scene.gaps] == [None]

    def test_what_cannot_be_read_counts_as_lost(self, scene: FakeConnector) -> None:
        events = scene.poll(b"garbage", scene.kernel.exec(PARENT)[:-10], b"\0" * 40)
        assert events == []
        summary = scene.stream.summary()
        assert summary["undecodable"] == summary["lost"] == 3

    def test_after_what_cannot_be_read_the_rest_of_the_datagram_is(
        self, scene: FakeConnector
    ) -> None:
        bad = wire.netlink(wire.connector(b"", idx=9))
        events = scene.poll(bad + scene.kernel.exec(PARENT))
        assert [type(event) for event in events] == [Exec]


def test_every_kind_is_counted_by_its_name(scene: FakeConnector) -> None:
    scene.poll(
        scene.kernel.fork(PARENT, CHILD),
        scene.kernel.exec(CHILD),
        scene.kernel.send(wire.SID, wire.task(CHILD)),
        scene.kernel.send(0x8, b""),
        scene.kernel.exit(CHILD),
    )
    counts = {kind: n["received"] for kind, n in scene.stream.summary()["by_kind"].items()}
    assert counts == {"fork": 1, "exec": 1, "sid": 1, "other": 1, "exit": 1}
