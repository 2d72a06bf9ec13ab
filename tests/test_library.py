"""The functions of the library against the real /proc, with processes started for the purpose."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import (
    Collector,
    Edge,
    Exec,
    Exit,
    Fork,
    PidNode,
    PidTree,
    ProcCache,
    ProcessKey,
    ProcEvent,
    ProcInfo,
    build_chain,
    build_chain_links,
    build_chain_string,
    children,
    descendants,
    display,
    find_by_cmd,
    find_by_user,
    handle_event,
    handle_events,
    is_descendant,
    parse_chain_string,
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
from support.values import replace
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = [0, -1, 2**31 - 1, 2**32 - 1, 2**64]
ME = os.getpid()


@contextmanager
def sleeper(*argv: str) -> Iterator[int]:
    """Run a process that lasts as long as the block does."""
    with subprocess.Popen(argv or ["cat"], stdin=subprocess.PIPE) as child:
        # Popen returns in the middle of exec: the arguments come a little after the name.
        cmdline = Path(f"/proc/{child.pid}/cmdline")
        wait_until("the child has its arguments", cmdline.read_bytes)
        yield child.pid


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


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def my_ancestors() -> list[int]:
    """The PIDs from this process up to the root, as the kernel has them."""
    pids = [ME]
    while parent := parent_of(pids[-1]):
        pids.append(parent)
    return pids


def my_user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


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


class TestResolving:
    def test_what_is_not_cached_is_read_and_cached(self) -> None:
        cache = ProcCache()
        info = resolve(cache, ME)
        assert info is not None
        assert (info.tgid, info.user) == (ME, my_user())
        assert cache.get_info(ME) == info

    def test_what_is_cached_is_not_read_again(self) -> None:
        cache = ProcCache()
        mine = ProcInfo("cached", "ada", 1, ME, read_proc_start_time_ns(ME))
        cache.insert_info(ME, mine)
        assert resolve(cache, ME) == mine

    def test_an_exact_start_time_is_the_same_process(self) -> None:
        cache = ProcCache()
        mine = ProcInfo("cached", "ada", 1, ME, read_proc_start_time_ns(ME) + 1)
        cache.insert_info(ME, mine)
        assert resolve(cache, ME) == mine

    @pytest.mark.parametrize("as_key", [False, True], ids=["bare PID", "key without start"])
    @pytest.mark.parametrize("ended", [False, True], ids=["thought living", "known to have ended"])
    def test_a_reused_pid_gives_the_process_that_has_it_now(
        self, *, ended: bool, as_key: bool
    ) -> None:
        cache = ProcCache()
        with sleeper() as pid:
            start = read_proc_start_time_ns(pid)
            former = ProcInfo("former", "ada", 1, pid, start - 100 * TICK_NS)
            cache.insert_info(pid, former)
            if ended:
                cache.insert_info(pid, replace(former, exited_ns=start - 50 * TICK_NS))
            info = resolve(cache, ProcessKey(pid) if as_key else pid)
        assert info is not None
        assert (info.cmd, info.start_time_ns) == ("cat", start)
        kept = cache.get_info(former.key)
        assert kept is not None
        assert kept.cmd == "former"

    def test_the_former_holder_of_a_reused_pid_is_not_kept_as_living(self) -> None:
        cache = ProcCache()
        former = ProcInfo("former", "ada", 1, ME, TICK_NS)
        cache.insert_info(ME, former)
        resolve(cache, ME)
        kept = cache.get_info(former.key)
        assert kept is None or kept.exited_ns is not None

    def test_what_has_ended_is_answered_from_the_cache(self) -> None:
        cache = ProcCache()
        with sleeper() as pid:
            info = resolve(cache, pid)
        assert info is not None
        assert resolve(cache, pid) == info

    def test_a_key_never_gets_another_process(self) -> None:
        cache = ProcCache()
        assert resolve(cache, ProcessKey(ME, TICK_NS)) is None
        assert len(cache) == 0
        mine = ProcessKey(ME, read_proc_start_time_ns(ME))
        found = resolve(cache, mine)
        assert found is not None
        assert found.key == mine

    def test_a_hidden_proc_leaves_what_is_cached(self, tmp_path: Path) -> None:
        cache = ProcCache()
        cache.insert_info(5, ProcInfo("cached", "ada", 1, 5, TICK_NS))
        assert resolve(cache, 5, str(tmp_path)) is not None
        assert resolve(cache, 6, str(tmp_path)) is None


class TestHandlingEvents:
    def test_an_exec_is_completed_from_proc_while_the_process_lives(self) -> None:
        tree, cache = PidTree(), ProcCache()
        with sleeper("cat", "-") as pid:
            process_event = handle_event(tree, cache, Exec(0, ProcessKey(pid)))
            start = read_proc_start_time_ns(pid)
        assert process_event is not None
        assert (process_event.info.cmd, process_event.info.args) == ("cat", ("cat", "-"))
        assert (process_event.info.user, process_event.info.start_time_ns) == (my_user(), start)
        assert process_event.node.ppid == ME

    def test_an_event_without_a_time_happens_now(self) -> None:
        tree, cache = PidTree(), ProcCache()
        before = boottime_ns()
        process_event = handle_event(tree, cache, Exit(0, ProcessKey(5, 1)))
        assert process_event is not None
        assert process_event.node.exited_ns is not None
        assert before <= process_event.node.exited_ns <= boottime_ns()

    def test_an_exec_of_a_process_that_is_gone_keeps_the_name_it_had(self) -> None:
        tree, cache = PidTree(), ProcCache()
        key = ProcessKey(2**31 - 1)
        events: list[ProcEvent] = [Fork(1, key, ProcessKey(1), comm="worker"), Exec(2, key)]
        assert handle_events(tree, cache, events) == 2
        node = tree.get_node(key)
        assert node is not None
        assert node.cmd == "worker"

    def test_an_exec_is_not_completed_from_a_later_process(self) -> None:
        tree, cache = PidTree(), ProcCache()
        with sleeper() as pid:
            process_event = handle_event(tree, cache, Exec(1, ProcessKey(pid, TICK_NS)))
        assert process_event is not None
        assert (process_event.info.cmd, process_event.info.args) == ("", ())

    def test_an_exec_that_says_all_is_not_looked_up(self) -> None:
        tree, cache = PidTree(), ProcCache()
        process_event = handle_event(tree, cache, Exec(1, ProcessKey(ME), comm="told"))
        assert process_event is not None
        assert process_event.info.cmd == "told"

    def test_an_exact_start_time_is_not_blunted_by_proc(self) -> None:
        tree, cache = PidTree(), ProcCache()
        with sleeper() as pid:
            exact = ProcessKey(pid, read_proc_start_time_ns(pid) + 1)
            handle_event(tree, cache, Fork(1, exact, ProcessKey(ME)))
            process_event = handle_event(tree, cache, Exec(2, exact))
        assert process_event is not None
        assert process_event.node.key == process_event.info.key == exact

    def test_a_life_is_followed_from_fork_to_exit(self) -> None:
        tree, cache = PidTree(), ProcCache()
        snapshot(tree, cache)
        with sleeper() as pid:
            key = ProcessKey(pid)
            mine = ProcessKey(ME, read_proc_start_time_ns(ME))
            birth: list[ProcEvent] = [Fork(0, key, mine), Exec(0, key)]
            assert handle_events(tree, cache, birth) == 2
            assert pid in children(tree, ME)
            node = tree.get_node(pid)
            assert node is not None
            assert node.exited_ns is None
        assert handle_events(tree, cache, [Exit(0, key, status=0)]) == 1
        node = tree.get_node(pid)
        assert node is not None
        assert (node.exited_ns is None, node.cmd) == (False, "cat")
        above = build_chain_links(tree, cache, pid)[1:]
        assert [link.pid for link in above] == my_ancestors()

    def test_an_event_that_is_known_changes_nothing(self) -> None:
        tree, cache = PidTree(), ProcCache()
        exit_event = Exit(5, ProcessKey(5, TICK_NS), status=0)
        assert handle_events(tree, cache, [exit_event, exit_event]) == 1
        assert handle_event(tree, cache, exit_event) is None

    def test_no_events_change_nothing(self) -> None:
        tree, cache = PidTree(), ProcCache()
        assert handle_events(tree, cache, []) == 0
        assert (len(tree), len(cache)) == (0, 0)


class TestChains:
    def test_an_empty_tree_is_completed_from_proc(self) -> None:
        links = build_chain_links(PidTree(), ProcCache(), ME)
        assert [link.pid for link in links] == my_ancestors()
        assert all(link.known for link in links)
        assert links[0].user == my_user()

    def test_the_three_forms_say_the_same(self) -> None:
        tree, cache = PidTree(), ProcCache()
        snapshot(tree, cache)
        text = build_chain_string(tree, cache, ME)
        assert text == build_chain(tree, cache, ME)
        assert [link.pid for link in parse_chain_string(text)] == my_ancestors()

    def test_a_chain_goes_on_in_proc_where_the_tree_ends(self) -> None:
        tree, cache = PidTree(), ProcCache()
        start = read_proc_start_time_ns(ME)
        tree.insert_node(2**30, PidNode(ME, "gone", boottime_ns(), 2**30, start))
        links = build_chain_links(tree, cache, 2**30)
        assert [link.pid for link in links] == [2**30, *my_ancestors()]

    def test_a_chain_goes_back_from_proc_to_the_tree(self) -> None:
        tree, cache = PidTree(), ProcCache()
        mine = parse_proc_entry(ME)
        assert mine is not None
        tree.insert_node(ME, replace(mine[0], cmd="known to the tree"))
        with sleeper() as pid:
            links = build_chain_links(tree, cache, pid)
        assert [link.pid for link in links] == [pid, *my_ancestors()]
        assert links[1].cmd == "known to the tree"

    def test_a_later_process_is_not_taken_for_the_creator(self) -> None:
        tree, cache = PidTree(), ProcCache()
        with sleeper() as pid:
            tree.insert_node(5, PidNode(pid, "elder", TICK_NS, 5))
            links = build_chain_links(tree, cache, 5)
        assert [(link.pid, link.known) for link in links] == [(5, True), (pid, False)]

    def test_a_creator_of_another_start_time_is_not_the_one(self) -> None:
        tree, cache = PidTree(), ProcCache()
        tree.insert_node(5, PidNode(ME, "child", boottime_ns(), 5, TICK_NS))
        assert build_chain_string(tree, cache, 5) == f"5|child|unknown;{ME}|unknown|unknown"

    @pytest.mark.parametrize("pid", [0, 2**31 - 1, 2**32 - 1])
    def test_nobody_is_one_unknown_link(self, pid: int) -> None:
        assert build_chain(PidTree(), ProcCache(), pid) == f"{pid}|unknown|unknown"

    def test_a_circle_through_proc_ends(self, tmp_path: Path) -> None:
        proc = FakeProc(tmp_path)
        proc.add(5, 6, start_ticks=10)
        proc.add(6, 5, start_ticks=10)
        links = build_chain_links(PidTree(), ProcCache(), 5, str(proc))
        assert [link.pid for link in links if link.known] == [5, 6]

    def test_an_orphan_still_has_its_creator(self) -> None:
        """The kernel shows whoever adopted it; the tree knows better."""
        tree, cache = PidTree(), ProcCache()
        snapshot(tree, cache)
        mine = ProcessKey(ME, read_proc_start_time_ns(ME))
        with sleeper() as pid:
            middle = ProcessKey(2**30, boottime_ns())
            orphan = ProcessKey(pid, read_proc_start_time_ns(pid))
            handle_events(
                tree,
                cache,
                [
                    Fork(boottime_ns(), middle, mine, comm="launcher"),
                    Fork(boottime_ns(), orphan, middle, comm="launcher"),
                    Exec(0, orphan),
                    Exit(0, middle, status=0),
                ],
            )
            links = build_chain_links(tree, cache, pid)
        assert [link.pid for link in links] == [pid, 2**30, *my_ancestors()]
        assert [link.cmd for link in links[:2]] == ["cat", "launcher"]


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
