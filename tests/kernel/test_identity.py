"""Who is who: start times, reused PIDs, users, cgroups."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Exit, Fork, entity_id, parse_proc_entry, read_proc_start_time_ns
from support.live_collector import as_identity
from support.proc_truth import identity, status_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.actor import Stage
    from support.live_collector import LiveCollector

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_exact_start_time_floored_to_ticks_is_procs(live: LiveCollector, stage: Stage) -> None:
    with stage.play("crowd", "200") as actor:
        actor.await_report("child", 200)
        live.fence()
        for report in actor.all_of("child"):
            (fork,) = live.events(report.who, Fork)
            assert fork.child.start_time_ns // 10_000_000 == report.who.ticks
            assert read_proc_start_time_ns(report.pid) == report.who.ticks * 10_000_000


def test_an_entity_id_is_the_same_from_bpf_and_from_proc(live: LiveCollector, stage: Stage) -> None:
    with stage.hold("x") as actor:
        live.fence()
        from_proc = parse_proc_entry(actor.pid)
        assert from_proc is not None
        from_bpf = live.history(identity(actor.pid))[-1].node
        assert from_bpf.key != from_proc[0].key
        assert entity_id(_BOOT_ID, from_bpf.key) == entity_id(_BOOT_ID, from_proc[0].key)
        assert entity_id(_BOOT_ID, from_bpf.creator) == entity_id(_BOOT_ID, from_proc[0].creator)


@pytest.mark.parametrize("turn", range(10))
def test_who_had_a_reused_pid_before_is_not_in_the_chain_of_who_has_it_now(
    live: LiveCollector, stage: Stage, turn: int
) -> None:
    with stage.play_with_pid("latter", "reuse") as actor:
        latter, orphan = actor.await_report("latter"), actor.await_report("orphan")
        former, breeder = actor.await_report("former"), actor.await_report("breeder")
        caller = actor.await_report("caller")
        assert latter.pid == former.pid, turn
        live.fence()
        newer = live.collector.process(latter.pid)
        assert [p.name() for p in newer.creators()[:2]] == ["breeder", "actor"]
        assert [p.pid for p in newer.creators()[:2]] == [breeder.pid, caller.pid]
        assert newer.children() == []
        # The child of the former stays the former's.
        parents = live.process(orphan.who).creators()
        assert [p.name() for p in parents[:2]] == ["former", "actor"]
        older = parents[0]
        assert (older.pid, older.is_running(), newer.is_running()) == (former.pid, False, True)
        assert older.key.start_time_ns < newer.key.start_time_ns
        assert [child.pid for child in older.children()] == [orphan.pid]


def test_fifty_lives_of_one_pid_are_fifty_processes(live: LiveCollector, stage: Stage) -> None:
    before = len(live.applied)
    with stage.play_with_pid("done", "lives", "50") as actor:
        pass
    live.fence()
    lives = actor.all_of("life")
    pid = lives[0].pid
    assert {life.pid for life in lives} == {pid}
    caller = actor.await_report("caller").who
    born = [
        process_event.event.child
        for process_event in live.applied[before:]
        if isinstance(process_event.event, Fork)
        and process_event.event.child.pid == pid
        and as_identity(process_event.event.creator) == caller
    ]
    assert len(set(born)) == 50
    told = [
        process_event.event.status
        for process_event in live.applied[before:]
        if isinstance(process_event.event, Exit) and process_event.event.key in set(born)
    ]
    assert told == [life.status for life in lives]


def test_a_process_that_changed_its_user_execs_and_ends_as_that_user(
    live: LiveCollector, stage: Stage
) -> None:
    nobody = pwd.getpwnam("nobody")
    with stage.hold(
        "x", user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], cwd="/"
    ) as actor:
        who = identity(actor.pid)
        live.fence()
        (fork,), (event,) = live.events(who, Fork), live.events(who, Exec)
        assert (fork.uid, fork.gid) == (os.getuid(), os.getgid())
        assert event.uid == status_field(actor.pid, "Uid")[0] == nobody.pw_uid
        assert event.gid == status_field(actor.pid, "Gid")[0] == nobody.pw_gid
        assert live.info(who).user == live.process(who).username() == "nobody"
    assert live.the_exit(who).uid == nobody.pw_uid


def test_a_child_is_created_with_its_creators_user(live: LiveCollector, stage: Stage) -> None:
    nobody = pwd.getpwnam("nobody")
    with stage.play("fork", user=nobody.pw_uid, group=nobody.pw_gid, cwd="/") as actor:
        child = actor.await_report("child")
        fork = live.the_fork(child.who)
        assert fork.uid == status_field(child.pid, "Uid")[0] == nobody.pw_uid
        assert fork.gid == status_field(child.pid, "Gid")[0] == nobody.pw_gid
        assert live.info(child.who).user == "nobody"


def test_the_user_is_the_real_one_where_the_effective_one_differs(
    live: LiveCollector, stage: Stage, tmp_path: Path
) -> None:
    program = stage.helpers.directory / f"{tmp_path.name}-setuid"
    program.write_bytes(stage.helpers.holder.read_bytes())
    program.chmod(0o4755)
    with stage.hold("x", program=os.fsencode(program), user=65534, cwd="/") as actor:
        real, effective, *_ = status_field(actor.pid, "Uid")
        assert (real, effective) == (65534, 0)
        assert live.the_exec(identity(actor.pid)).uid == real


@contextmanager
def _new_cgroup() -> Iterator[Path]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    roots = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    assert roots, "no cgroup v2 hierarchy is mounted: see cgroups(7)"
    directory = Path(roots[0], f"proctree-bpf-test-{os.getpid()}")
    directory.mkdir()
    try:
        yield directory
    finally:
        directory.rmdir()


def test_the_cgroup_id_is_the_inode_of_the_cgroups_directory(
    live: LiveCollector, stage: Stage
) -> None:
    with _new_cgroup() as directory:
        inode = directory.stat().st_ino
        with stage.play("cgroup", directory) as actor:
            moved, placed = actor.await_report("moved"), actor.await_report("placed")
            mover = actor.await_report("mover")
            live.fence()
            assert Path(f"/proc/{moved.pid}/cgroup").read_text().endswith(f"/{directory.name}\n")
            assert live.the_fork(moved.who).cgroup_id == inode
            assert live.the_fork(placed.who).cgroup_id == inode
            assert live.info(moved.who).cgroup_id == inode
            assert live.the_fork(mover.who).cgroup_id != inode


def test_a_process_in_a_pid_namespace_has_the_hosts_pid_and_its_own(
    live: LiveCollector, stage: Stage
) -> None:
    with stage.play("pid-namespace") as actor:
        actor.await_report("inside-child")
        init, child = actor.await_report("init"), actor.await_report("child")
        assert init.pid == actor.await_report("outside").said["pid"]
        assert status_field(init.pid, "NSpid")[-1] == 1
        live.fence()
        assert live.the_fork(init.who).child.pid == init.pid
        assert live.the_fork(init.who).ns_pid == 1
        assert live.info(init.who).ns_pid == actor.await_report("inside").said["getpid"] == 1
        inside = actor.await_report("inside-child").said["getpid"]
        assert live.the_fork(child.who).ns_pid == status_field(child.pid, "NSpid")[-1] == inside
        assert live.chain(child.who)[:3] == [child.who, init.who, identity(actor.pid)]
    assert live.the_exit(init.who).status == actor.await_report("reaped").status


def test_outside_of_a_pid_namespace_both_pids_are_one(live: LiveCollector, stage: Stage) -> None:
    with stage.play("fork") as actor:
        child = actor.await_report("child")
        assert live.the_fork(child.who).ns_pid == child.pid
