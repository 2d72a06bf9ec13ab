"""The proc connector on a real kernel: threads, ends, names, users, and reused PIDs."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Exit, Fork, Rename
from proctree_bpf.core.events import Setid
from proctree_bpf.sources.proc_connector import ProcConnectorSource
from support.live_collector import as_identity
from support.proc_truth import comm, identity, status_field
from support.real_connector import HUGE_BUFFER
from support.source_session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.actor import Stage

_UNLIMITED = str(2**64 - 1)


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(ProcConnectorSource(receive_buffer=HUGE_BUFFER))
    with session:
        yield session
    assert session.source.stats()["lost"] == 0


class TestThreads:
    def test_threads_that_come_and_go_are_no_events(self, session: Session, stage: Stage) -> None:
        with stage.play("threads", "40") as actor:
            actor.await_report("thread", 40)
            caller = actor.await_report("caller")
        session.await_ends(caller.who)
        assert session.kinds(caller.who) == ["Fork", "Exec", "Exit"]
        tids = {report.said["tid"] for report in actor.all_of("thread")}
        later = [a for a in session.applied if a.event.timestamp_ns // 10**7 >= caller.who.ticks]
        assert not tids & {a.event.key.pid for a in later if a.node.ppid == caller.pid}

    def test_a_process_ends_with_its_last_thread(self, session: Session, stage: Stage) -> None:
        with stage.play("leader-first") as actor:
            survivor = actor.await_report("survivor")
            session.settle()
            assert session.kinds(survivor.who) == ["Fork"]
        session.await_ends(survivor.who)
        assert session.kinds(survivor.who) == ["Fork", "Exit"]

    def test_a_process_whose_leader_ended_first_has_its_status(
        self, session: Session, stage: Stage
    ) -> None:
        with stage.play("leader-first") as actor:
            survivor = actor.await_report("survivor")
            session.settle()
        session.await_ends(survivor.who)
        (end,) = session.events_of(survivor.who, Exit)
        assert end.status in (actor.await_report("process").status, None)

    def test_a_process_that_was_there_before_ends_with_its_last_thread(self, stage: Stage) -> None:
        with stage.play("leader-first") as actor:
            survivor = actor.await_report("survivor")
            with Session(ProcConnectorSource(receive_buffer=HUGE_BUFFER)) as session:
                session.settle()
                assert session.kinds(survivor.who) == []
                actor.finish()
                session.await_ends(survivor.who)
                assert session.kinds(survivor.who) == ["Exit"]

    @pytest.mark.parametrize("threads", ["1", "25"])
    def test_a_killed_process_of_many_threads_ends_once(
        self, session: Session, stage: Stage, threads: str
    ) -> None:
        process = stage.played("killed-threads", threads).await_report("process")
        session.await_ends(process.who)
        assert session.kinds(process.who) == ["Fork", "Exit"]
        assert session.events_of(process.who, Exit)[0].status == process.status

    def test_exit_group_by_a_thread_has_its_code(self, session: Session, stage: Stage) -> None:
        process = stage.played("group-exit", "9").await_report("process")
        session.await_ends(process.who)
        (end,) = session.events_of(process.who, Exit)
        assert end.status == process.status == 9 << 8

    def test_an_exec_by_a_thread_keeps_the_process_alive(
        self, session: Session, stage: Stage
    ) -> None:
        with stage.play("thread-exec", stage.helpers.holder, "x") as actor:
            actor.await_report("holding")
            before = actor.await_report("before")
            session.settle()
            assert session.kinds(before.who) == ["Fork", "Exec"]
            assert session.history(before.who)[-1].info.cmd == comm(before.pid) == "holder"
        session.await_ends(before.who)
        assert session.kinds(before.who) == ["Fork", "Exec", "Exit"]

    def test_an_exec_by_a_thread_keeps_a_process_alive_that_was_there_before(
        self, stage: Stage
    ) -> None:
        with stage.play("leader-first", stage.helpers.holder) as actor:
            survivor = actor.await_report("survivor")
            with Session(ProcConnectorSource(receive_buffer=HUGE_BUFFER)) as session:
                session.settle()
                os.kill(survivor.pid, 0)
                actor.release()
                session.settle_until("the exec", lambda: session.kinds(survivor.who))
                actor.finish()
                session.await_ends(survivor.who)
                assert session.kinds(survivor.who) == ["Exec", "Exit"]

    def test_a_thread_that_a_thread_created_counts(self, session: Session, stage: Stage) -> None:
        actor = stage.played("thread-forks", "6", "5")
        session.await_ends(*(child.who for child in actor.all_of("child")))
        for child in actor.all_of("child"):
            assert session.kinds(child.who) == ["Fork", "Exit"]
            (fork,) = session.events_of(child.who, Fork)
            assert fork.creator.pid == actor.await_report("caller").pid


class TestEnds:
    @pytest.mark.parametrize(
        "number", [signal.SIGHUP, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMAX]
    )
    def test_a_signal_is_told_instead_of_a_code(
        self, session: Session, stage: Stage, number: signal.Signals
    ) -> None:
        child = stage.played("signal", str(int(number)), "0").await_report("child")
        session.await_ends(child.who)
        (end,) = session.events_of(child.who, Exit)
        assert (end.status, end.signal, end.exit_code) == (child.status, number, None)
        assert not end.core_dumped

    def test_a_core_dump_is_told(self, session: Session, stage: Stage, tmp_path: Path) -> None:
        played = stage.played("signal", str(int(signal.SIGABRT)), _UNLIMITED, cwd=tmp_path)
        child = played.await_report("child")
        assert os.WCOREDUMP(child.status), "this machine writes no core dumps: see core(5)"
        session.await_ends(child.who)
        (end,) = session.events_of(child.who, Exit)
        assert (end.status, end.signal, end.core_dumped) == (child.status, signal.SIGABRT, True)

    def test_a_core_dump_of_a_process_with_threads_is_told(
        self, session: Session, tmp_path: Path
    ) -> None:
        script = (
            "import resource, signal, threading\n"
            "limit = (resource.RLIM_INFINITY,) * 2\n"
            "resource.setrlimit(resource.RLIMIT_CORE, limit)\n"
            "die = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGABRT)\n"
            "threading.Thread(target=die).start()\n"
            "signal.pause()\n"
        )
        python = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
        os.waitid(os.P_PID, python.pid, os.WEXITED | os.WNOWAIT)
        who = identity(python.pid)
        _, status = os.waitpid(python.pid, 0)
        python.returncode = os.waitstatus_to_exitcode(status)
        assert os.WCOREDUMP(status), "this machine writes no core dumps: see core(5)"
        session.await_ends(who)
        (end,) = session.events_of(who, Exit)
        assert end.status == status

    def test_every_code_is_the_one_of_wait(self, session: Session, stage: Stage) -> None:
        children = stage.played("codes").all_of("child")
        session.await_ends(*(child.who for child in children))
        # Who plays with ns_last_pid can make a PID come back within a tick.
        told = Counter(
            (who, end.status)
            for who in {child.who for child in children}
            for end in session.events_of(who, Exit)
        )
        assert told == Counter((child.who, child.status) for child in children)


class TestNamesAndUsers:
    def test_a_name_that_a_process_takes_is_told(self, session: Session, stage: Stage) -> None:
        with stage.play("rename", b"a) \xff\n") as actor:
            renamed = actor.await_report("renamed")
            session.settle()
            assert session.history(renamed.who)[-1].info.cmd == comm(actor.pid) == "a) \udcff\n"
            told = {e.comm for e in session.delivered if isinstance(e, Rename)}
            assert "a) \udcff\n" in told

    def test_a_name_that_a_thread_takes_is_not_its_processs(
        self, session: Session, stage: Stage
    ) -> None:
        with stage.play("thread-rename", "the thread") as actor:
            process = actor.await_report("process")
            actor.await_report("thread")
            session.settle()
            assert session.events_of(process.who, Rename) == []
            assert session.history(process.who)[-1].info.cmd == "actor"

    def test_another_user_and_group_are_told(self, session: Session, stage: Stage) -> None:
        nobody = pwd.getpwnam("nobody")
        with stage.hold(
            "x", user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], cwd="/"
        ) as actor:
            who = identity(actor.pid)
            session.settle()
            told = session.events_of(who, Setid)
            assert {event.uid for event in told} == {nobody.pw_uid, None}
            assert {event.gid for event in told} == {nobody.pw_gid, None}
            info = session.history(who)[-1].info
            assert info.uid == status_field(actor.pid, "Uid")[0]
            assert (info.gid, info.user) == (nobody.pw_gid, "nobody")

    def test_a_child_of_that_user_is_that_users(self, session: Session, stage: Stage) -> None:
        nobody = pwd.getpwnam("nobody")
        with stage.play("fork", user=nobody.pw_uid, group=nobody.pw_gid, cwd="/") as actor:
            child = actor.await_report("child")
            session.settle()
            assert session.history(child.who)[-1].info.user == "nobody"

    def test_a_process_that_is_gone_at_once_keeps_its_edge_and_its_creators_name(
        self, session: Session, stage: Stage
    ) -> None:
        pid = os.posix_spawn(stage.helpers.quit, [os.fspath(stage.helpers.quit), "5"], {})
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        who = identity(pid)
        os.waitpid(pid, 0)  # only then is /proc looked at
        session.await_ends(who)
        assert session.kinds(who) == ["Fork", "Exec", "Exit"]
        for process_event in session.history(who):
            assert process_event.info.inherited
            assert process_event.info.cmd == comm(os.getpid())
            assert as_identity(process_event.node.creator) == identity(os.getpid())
        assert session.events_of(who, Exit)[0].exit_code == 5

    def test_the_name_of_the_dead_is_read_if_nobody_has_waited_for_them(
        self, session: Session, stage: Stage
    ) -> None:
        pid = os.posix_spawn(stage.helpers.quit, [os.fspath(stage.helpers.quit), "5"], {})
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            who = identity(pid)
            session.await_ends(who)
        finally:
            os.waitpid(pid, 0)
        assert session.history(who)[-1].info.cmd == "quit"

    def test_a_daemon_keeps_its_creators(self, session: Session, stage: Stage) -> None:
        with stage.play("daemon") as actor:
            daemon = actor.await_report("daemon")
            middle, caller = actor.await_report("middle"), actor.await_report("caller")
            session.settle()
            for child, creator in ((daemon, middle), (middle, caller)):
                (fork,) = session.events_of(child.who, Fork)
                assert fork.creator.pid == creator.pid
        session.await_ends(daemon.who)
        assert session.kinds(daemon.who) == ["Fork", "Exit"]

    def test_a_program_that_ran_before_another_does_not_get_its_name(
        self, session: Session, stage: Stage, tmp_path: Path
    ) -> None:
        first = tmp_path / "first"
        first.symlink_to("/bin/sh")
        with stage.hold(
            "first", "-c", 'exec "$0"', stage.helpers.holder, program=os.fsencode(first)
        ) as actor:
            who = identity(actor.pid)
            session.settle()
            execs = [a for a in session.history(who) if isinstance(a.event, Exec)]
            assert len(execs) == 2
            assert execs[1].info.cmd == comm(actor.pid) == "holder"
            assert execs[0].info.cmd == "first" or execs[0].info.inherited


class TestReusedPids:
    def test_who_has_a_pid_now_is_not_who_had_it(self, session: Session, stage: Stage) -> None:
        with stage.play_with_pid("latter", "reuse") as actor:
            former, latter = actor.await_report("former"), actor.await_report("latter")
            orphan, breeder = actor.await_report("orphan"), actor.await_report("breeder")
            assert former.pid == latter.pid
            session.settle()
            newer = session.tree.get_node(latter.pid)
            assert newer is not None
            assert (newer.cmd, newer.ppid) == ("latter", breeder.pid)
            (fork,) = session.events_of(orphan.who, Fork)
            assert fork.creator.pid == former.pid
            assert fork.creator.start_time_ns < newer.start_time_ns

    def test_fifty_lives_of_one_pid_are_fifty_processes(
        self, session: Session, stage: Stage
    ) -> None:
        with stage.play_with_pid("done", "lives", "50") as actor:
            pass
        session.await_ends(actor.await_report("caller").who)
        lives, caller = actor.all_of("life"), actor.await_report("caller")
        born = [
            process_event.event.child
            for process_event in session.applied
            if isinstance(process_event.event, Fork)
            and process_event.event.child.pid == lives[0].pid
            and process_event.event.creator.pid == caller.pid
        ]
        assert len(born) == len(set(born)) == 50
        ends = {
            process_event.event.key: process_event.event.status
            for process_event in session.applied
            if isinstance(process_event.event, Exit)
        }
        # Where word of two ends came so late that it may be either's, none is told.
        told = [ends[key] for key in born]
        assert all(
            status in {life.status, None} for status, life in zip(told, lives, strict=True)
        ), told
        assert told.count(None) <= 2

    def test_a_name_is_never_taken_from_a_later_life_of_the_pid(
        self, session: Session, stage: Stage, tmp_path: Path
    ) -> None:
        """Programs run one after another with one PID, and only then is ``/proc`` looked at."""
        for k in range(20):
            (tmp_path / f"life-{k}").symlink_to(stage.helpers.quit)
        (tmp_path / "life-20").symlink_to(stage.helpers.holder)
        with stage.play_with_pid("last", "names", "20", tmp_path) as actor:
            actor.await_report("holding")
            pid = actor.await_report("last").pid
            session.settle()
            named = [
                process_event.info.cmd
                for process_event in session.applied
                if isinstance(process_event.event, Exec)
                and process_event.event.key.pid == pid
                and not process_event.info.inherited
                and process_event.info.cmd.startswith("life-")  # others may have had the PID
            ]
        # All but the last were gone: whoever has a name must be the last.
        assert named == ["life-20"]
