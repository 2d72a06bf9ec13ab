"""What the functions of the library read in the real /proc, of processes started for it."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import (
    Collector,
    Edge,
    PidNode,
    PidTree,
    ProcCache,
    ProcessKey,
    build_chain_links,
    children,
    descendants,
    display,
    find_by_cmd,
    find_by_user,
    is_descendant,
    parse_proc_entry,
    read_proc_comm,
    read_proc_start_time_ns,
    resolve,
    siblings,
    snapshot,
    snapshot_process_tree,
    tree_len,
    uid_to_username,
)
from proctree_bpf.core.identity import TICK_NS
from support.fake_proc import FakeProc
from support.living_family import living_family
from support.this_process import ME, boottime_ns, my_ancestors, my_user, sleeper
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = [0, -1, 2**31 - 1, 2**32 - 1, 2**64]


@contextmanager
def zombie() -> Iterator[int]:
    """Have a process that has ended and is waited for only after the block."""
    child = subprocess.Popen(["true"])
    try:
        wait_until("the child is a zombie", lambda: state_of(child.pid) == "Z")
        yield child.pid
    finally:
        child.wait()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


class TestReadingOneProcess:
    def test_this_process_is_read_as_it_is(self) -> None:
        entry = parse_proc_entry(ME)
        assert entry is not None
        node, info = entry
        assert (node.pid, node.ppid, node.edge) == (ME, os.getppid(), Edge.OBSERVED)
        assert (info.uid, info.gid, info.user) == (os.getuid(), os.getgid(), my_user())
        assert info.executable == str(Path("/proc/self/exe").readlink())
        assert os.fsencode("\0".join(info.args)) == (
            Path("/proc/self/cmdline").read_bytes().rstrip(b"\0")
        )
        assert node.key == info.key

    def test_the_creator_of_a_child_is_this_process(self) -> None:
        with sleeper() as pid:
            entry = parse_proc_entry(pid)
        assert entry is not None
        assert entry[0].creator == ProcessKey(ME, read_proc_start_time_ns(ME))

    def test_a_child_is_read_with_its_arguments(self) -> None:
        argv = ("sh", "-c", "read x", "a b", "", "é\udcff")
        with sleeper(*argv) as pid:
            entry = parse_proc_entry(pid)
        assert entry is not None
        assert entry[1].args == argv
        assert (entry[1].cmd, entry[1].inherited, entry[1].truncated) == ("sh", False, False)

    def test_the_start_time_lies_between_two_looks_at_the_clock(self) -> None:
        before = boottime_ns()
        with sleeper() as pid:
            after = boottime_ns()
            start = read_proc_start_time_ns(pid)
        assert before - TICK_NS < start <= after
        assert start % TICK_NS == 0

    @pytest.mark.parametrize("pid", NOBODY)
    def test_nobody_is_nothing(self, pid: int) -> None:
        assert parse_proc_entry(pid) is None
        assert read_proc_comm(pid) is None
        assert read_proc_start_time_ns(pid) == 0
        assert resolve(ProcCache(), pid) is None

    def test_an_ended_process_is_nothing(self) -> None:
        with sleeper() as pid:
            pass
        assert parse_proc_entry(pid) is None
        assert read_proc_start_time_ns(pid) == 0

    def test_a_thread_is_no_process(self) -> None:
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        try:
            tid = thread.native_id
            assert tid is not None
            assert Path(f"/proc/{tid}").is_dir(), "the kernel shows a thread if it is asked for"
            assert parse_proc_entry(tid) is None
            assert resolve(ProcCache(), tid) is None
        finally:
            done.set()
            thread.join()

    def test_the_name_is_read_as_bytes(self) -> None:
        script = "open('/proc/self/comm','wb').write(b'a) b\\n\\xff'); print(); input()"
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            comm, entry = read_proc_comm(child.pid), parse_proc_entry(child.pid)
            child.communicate("\n")
        assert comm == "a) b\n\udcff"
        assert entry is not None
        assert entry[0].cmd == comm


class TestUsers:
    def test_every_user_of_the_database_has_a_name(self) -> None:
        for user in pwd.getpwall():
            assert uid_to_username(user.pw_uid) == pwd.getpwuid(user.pw_uid).pw_name

    def test_uid_0_is_root(self) -> None:
        assert uid_to_username(0) == "root"

    @pytest.mark.parametrize("uid", [2**32 - 2, -1, 2**32, 2**64, -(2**31)])
    def test_a_uid_without_a_user_has_no_name(self, uid: int) -> None:
        assert uid_to_username(uid) is None


class TestSnapshots:
    def test_a_snapshot_has_this_process_and_its_ancestors(self) -> None:
        tree, cache = PidTree(), ProcCache()
        assert snapshot(tree, cache) == tree_len(tree) == len(cache)
        assert set(my_ancestors()) <= set(tree.all_pids())
        assert [link.pid for link in build_chain_links(tree, cache, ME)] == my_ancestors()

    def test_a_snapshot_of_the_tree_alone_is_the_same_tree(self) -> None:
        tree = PidTree()
        assert snapshot_process_tree(tree) == tree_len(tree)
        assert set(my_ancestors()) <= set(tree.all_pids())

    def test_a_second_snapshot_adds_only_who_is_new(self, tmp_path: Path) -> None:
        tree, cache = PidTree(), ProcCache()
        with living_family(tmp_path) as family:
            snapshot(tree, cache)
            before = {pid: tree.get_node(pid) for pid in family.pids}
            count = tree_len(tree)
            with sleeper() as pid:
                added = snapshot(tree, cache)
                assert tree.get_node(pid) is not None
            assert added == tree_len(tree) - count
            assert {pid: tree.get_node(pid) for pid in family.pids} == before

    def test_a_snapshot_of_what_is_known_changes_nothing(self, tmp_path: Path) -> None:
        proc = FakeProc(tmp_path)
        for pid, ppid in ((1, 0), (5, 1), (6, 5)):
            proc.add(pid, ppid, start_ticks=10 * pid)
        tree, cache = PidTree(), ProcCache()
        assert snapshot(tree, cache, str(proc)) == 3
        before = tree.all_nodes()
        assert snapshot(tree, cache, str(proc)) == 0
        assert tree.all_nodes() == before

    def test_a_reused_pid_is_another_process_in_a_second_snapshot(self, tmp_path: Path) -> None:
        proc = FakeProc(tmp_path)
        proc.add(5, 1, b"old", start_ticks=10)
        tree, cache = PidTree(), ProcCache()
        snapshot(tree, cache, str(proc))
        proc.remove(5)
        proc.add(5, 1, b"new", start_ticks=20)
        assert snapshot(tree, cache, str(proc)) == 1
        node = tree.get_node(5)
        assert node is not None
        assert node.cmd == "new"
        old = tree.get_node(ProcessKey(5, 10 * TICK_NS))
        assert old is not None
        assert old.exited_ns is not None

    def test_relatives_are_found_in_a_snapshot(self, tmp_path: Path) -> None:
        tree, cache = PidTree(), ProcCache()
        with living_family(tmp_path, "prt-relatives") as family:
            snapshot(tree, cache)
        assert children(tree, family.root) == sorted({family.kid, family.other})
        assert set(descendants(tree, family.root)) == family.pids - {family.root}
        assert siblings(tree, family.kid) == [family.other]
        assert set(find_by_cmd(tree, "prt-relatives")) == family.pids
        assert family.pids <= set(find_by_user(tree, cache, my_user()))
        assert is_descendant(tree, family.grandkid, "prt-relatives")
        assert f"({family.grandkid})" in display(tree, family.root)

    def test_a_zombie_does_not_live(self) -> None:
        """Its exit has been told already: nothing would ever end it."""
        tree, cache = PidTree(), ProcCache()
        with zombie() as pid:
            snapshot(tree, cache)
        node = tree.get_node(pid)
        assert node is None or node.exited_ns is not None

    def test_a_process_whose_first_thread_has_ended_lives(self) -> None:
        script = (
            "import ctypes, sys, threading\n"
            "threading.Thread(target=sys.stdin.read).start()\n"
            "ctypes.CDLL(None).pthread_exit(None)\n"
        )
        tree, cache = PidTree(), ProcCache()
        with sleeper(sys.executable, "-c", script) as pid:
            wait_until("the first thread has ended", lambda: state_of(pid) == "Z")
            snapshot(tree, cache)
        node = tree.get_node(pid)
        assert node is not None
        assert node.exited_ns is None

    def test_proc_that_cannot_be_listed_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            snapshot(PidTree(), ProcCache(), str(tmp_path / "nowhere"))
        with pytest.raises(FileNotFoundError):
            snapshot_process_tree(PidTree(), str(tmp_path / "nowhere"))


def test_a_child_can_read_the_tree_whose_lock_another_thread_held_at_the_fork() -> None:
    collector = Collector()
    collector.tree.pid_tree.insert_node(7, PidNode(1, "seven", 5, 7))
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with collector.tree.pid_tree.table.lock:
            held.set()
            over.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends a child that waits for a lock that nobody will ever give back
        os._exit(0 if 7 in collector.tree else 1)
    over.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0
