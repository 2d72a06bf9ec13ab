"""What the proc connector says, folded into processes: forks, execs, ends, names and clocks."""

from __future__ import annotations

import pytest

from proctree_bpf import Exec, Exit, Fork, ProcessKey, Rename
from proctree_bpf.core.events import Setid
from proctree_bpf.core.identity import Sameness, compare
from support import connector_messages as wire
from support.fake_connector import CHILD, MS, OTHER, PARENT, SECOND, FakeConnector
from support.fake_proc_reader import TICK_NS


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
        assert fork == Fork(
            now_ns, ProcessKey(CHILD, now_ns), creator,
            observed=True, approximate=True, name_unsure=True,
        )  # fmt: skip

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
        (fork,) = scene.poll(scene.kernel.fork(OTHER, CHILD))
        assert isinstance(fork, Fork)
        assert fork.creator == ProcessKey(OTHER)

    def test_a_creator_is_asked_for_once(self, scene: FakeConnector) -> None:
        scene.poll(*(scene.kernel.fork(PARENT, CHILD + n) for n in range(5)))
        assert scene.proc.asked.count(("stat", PARENT)) == 1

    def test_a_chain_of_forks_links_the_starts_that_were_told(self, scene: FakeConnector) -> None:
        first, second = scene.poll(
            scene.kernel.fork(PARENT, CHILD), scene.kernel.fork(CHILD, OTHER)
        )
        assert isinstance(first, Fork)
        assert isinstance(second, Fork)
        assert second.creator == first.child


class TestExits:
    @pytest.mark.parametrize("status", [0, 1 << 8, 255 << 8, 9, 6 | 0x80])
    def test_an_exit_has_the_status_and_the_parent(self, scene: FakeConnector, status: int) -> None:
        key = scene.child()
        (end,) = scene.poll(scene.kernel.exit(CHILD, status, parent=PARENT))
        now_ns = scene.now_ns()
        assert end == Exit(now_ns, key, ProcessKey(PARENT, SECOND), status=status)

    def test_an_exit_of_a_process_never_met_is_told(self, scene: FakeConnector) -> None:
        (end,) = scene.poll(scene.kernel.exit(OTHER, parent=0))
        assert end == Exit(scene.now_ns(), ProcessKey(OTHER), ProcessKey(0), status=0)

    def test_a_later_holder_of_the_pid_does_not_lend_its_start(self, scene: FakeConnector) -> None:
        datagram = scene.kernel.exit(OTHER)
        scene.proc.add(OTHER, scene.now_ns() + TICK_NS)
        (end,) = scene.poll(datagram)
        assert end.key == ProcessKey(OTHER)

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
        _, info = scene.proc.add(
            CHILD, key.start_time_ns, "prog", ppid=PARENT, args=b"a\0", exe="/x"
        )
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
        scene.proc.add(OTHER, SECOND, "other")
        (event,) = scene.poll(scene.kernel.exec(OTHER))
        assert isinstance(event, Exec)
        assert (event.key, event.comm) == (ProcessKey(OTHER, SECOND), "other")

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
