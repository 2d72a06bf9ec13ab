"""Chains as the functions of the library tell them, of real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proctree_bpf import (
    Exec,
    Exit,
    Fork,
    PidNode,
    PidTree,
    ProcCache,
    ProcessKey,
    build_chain,
    build_chain_links,
    build_chain_string,
    handle_events,
    parse_chain_string,
    parse_proc_entry,
    read_proc_start_time_ns,
    snapshot,
)
from proctree_bpf.core.identity import TICK_NS
from support.fake_proc import FakeProc
from support.this_process import ME, boottime_ns, my_ancestors, my_user, sleeper
from support.values import replace

if TYPE_CHECKING:
    from pathlib import Path


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
