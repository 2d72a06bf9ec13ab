"""What the functions of the library make of events, and of processes they have not met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proctree_bpf import (
    Exec,
    Exit,
    Fork,
    PidTree,
    ProcCache,
    ProcessKey,
    ProcEvent,
    ProcInfo,
    build_chain_links,
    children,
    handle_event,
    handle_events,
    read_proc_start_time_ns,
    resolve,
    snapshot,
)
from proctree_bpf.core.identity import TICK_NS
from support.this_process import ME, boottime_ns, my_ancestors, my_user, sleeper
from support.values import replace

if TYPE_CHECKING:
    from pathlib import Path


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
