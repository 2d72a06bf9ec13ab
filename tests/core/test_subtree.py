"""Relatives, searches and drawings, on small trees by hand."""

from __future__ import annotations

import pytest

from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.lineage import Answer, ancestry, is_descendant
from proctree_bpf.core.model import Edge, PidNode, ProcInfo
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.subtree import (
    children,
    descendants,
    display,
    find_by_cmd,
    find_by_user,
    siblings,
    tree_len,
)
from support.small_trees import NOBODY, end, grow, start


class TestRelatives:
    def test_children_are_those_it_created(self, tree: PidTree) -> None:
        assert children(tree, 10) == [20, 21]
        assert children(tree, 40) == []

    def test_children_come_oldest_first(self, tree: PidTree) -> None:
        tree = PidTree()
        for pid in (20, 30, 40):
            tree.insert_node(pid, PidNode(1, "x", pid * TICK_NS, pid))
        tree.insert_node(20, PidNode(1, "x", start(20), 20))  # seen exactly, later
        assert children(tree, 1) == [20, 30, 40]

    def test_descendants_come_level_by_level(self, tree: PidTree) -> None:
        assert descendants(tree, 1) == [10, 11, 20, 21, 30, 31, 40]
        assert descendants(tree, 20) == [30, 31, 40]
        assert descendants(tree, 40) == []

    def test_descendants_come_by_generation_and_not_by_branch(self) -> None:
        tree = grow((1, 0, "a"), (2, 1, "b"), (3, 1, "c"), (4, 2, "d"), (5, 3, "e"), (6, 4, "f"))
        assert descendants(tree, 1) == [2, 3, 4, 5, 6]

    def test_siblings_have_the_same_creator(self, tree: PidTree) -> None:
        assert siblings(tree, 20) == [21]
        assert siblings(tree, 10) == [11]
        assert siblings(tree, 40) == []

    def test_siblings_need_not_have_a_creator_that_is_remembered(self) -> None:
        tree = grow((5, 4, "x"), (6, 4, "y"))
        assert siblings(tree, 5) == [6]

    def test_roots_are_not_siblings(self) -> None:
        assert siblings(grow((1, 0, "init"), (2, 0, "kthreadd")), 1) == []

    def test_a_process_said_to_be_its_own_parent_has_children_but_no_siblings(self) -> None:
        tree = grow((7, 7, "loop"), (8, 7, "child"))
        assert children(tree, 7) == [8]
        assert siblings(tree, 7) == []

    @pytest.mark.parametrize("pid", NOBODY)
    def test_an_unknown_process_has_no_relatives(self, tree: PidTree, pid: int) -> None:
        assert siblings(tree, pid) == []
        if pid:
            assert children(tree, pid) == descendants(tree, pid) == []

    def test_children_of_process_0_are_the_roots(self, tree: PidTree) -> None:
        tree.insert_node(2, PidNode(0, "kthreadd", start(2), 2))
        assert children(tree, 0) == [1, 2]
        assert len(descendants(tree, 0)) == len(tree)

    def test_the_ended_are_left_out_if_asked_but_those_below_them_are_not(
        self, tree: PidTree
    ) -> None:
        end(tree, 20)
        end(tree, 21)
        assert children(tree, 10, live_only=True) == []
        assert descendants(tree, 10, live_only=True) == [30, 31, 40]
        assert siblings(tree, 20, live_only=True) == []
        assert siblings(tree, 20) == [21]

    def test_a_later_holder_of_a_pid_has_none_of_its_relatives(self, tree: PidTree) -> None:
        end(tree, 20)
        tree.insert_node(20, PidNode(11, "new", start(90), 20, start(11), Edge.CREATED))
        assert descendants(tree, 20) == []
        assert siblings(tree, 20) == []
        assert descendants(tree, ProcessKey(20, start(20))) == [30, 31, 40]


class TestFinding:
    def test_processes_are_found_by_their_name(self, tree: PidTree) -> None:
        assert find_by_cmd(tree, "bash") == [20, 21]
        assert find_by_cmd(tree, "bas") == []
        assert find_by_cmd(tree, "") == []

    @pytest.mark.parametrize("asked", ["a-name-of-15-by", "a-name-of-15-bytes-and-more"])
    @pytest.mark.parametrize("shown", ["a-name-of-15-by", "a-name-of-15-bytes, of a thread"])
    def test_of_a_name_counts_what_the_kernel_keeps(self, asked: str, shown: str) -> None:
        tree = grow((1, 0, "init"), (10, 1, shown), (20, 10, "sh"))
        assert find_by_cmd(tree, asked) == [10]
        assert is_descendant(tree, 20, asked)
        assert ancestry(tree, 20, asked) is Answer.YES
        assert find_by_cmd(tree, asked[:14]) == []

    def test_a_name_is_cut_in_the_middle_of_a_letter_as_the_kernel_does(self) -> None:
        tree = grow((1, 0, "init"), (10, 1, "fourteen-bytes\udcc3"))
        assert find_by_cmd(tree, "fourteen-bytes\u00e9t\u00e9") == [10]

    def test_processes_are_found_by_their_user(self, tree: PidTree) -> None:
        cache = ProcCache()
        for pid, user in ((40, "ada"), (20, "ada"), (10, "root")):
            cache.insert_info(pid, ProcInfo("x", user, 1, pid, start(pid)))
        assert find_by_user(tree, cache, "ada") == [20, 40]
        assert find_by_user(tree, cache, "nobody") == []

    def test_the_ended_are_found_unless_they_are_not_asked_for(self, tree: PidTree) -> None:
        cache = ProcCache()
        cache.insert_info(21, ProcInfo("bash", "ada", 10, 21, start(21)))
        end(tree, 21)
        assert find_by_cmd(tree, "bash") == [20, 21]
        assert find_by_cmd(tree, "bash", live_only=True) == [20]
        assert find_by_user(tree, cache, "ada") == [21]
        assert find_by_user(tree, cache, "ada", live_only=True) == []

    def test_tree_len_counts_the_ended_too(self, tree: PidTree) -> None:
        end(tree, 21)
        assert tree_len(tree) == 8


class TestDisplay:
    def test_a_tree_is_drawn_as_pstree_does(self, tree: PidTree) -> None:
        end(tree, 21)
        assert display(tree, 10).splitlines() == [
            "sshd(10)",
            "├─ bash(20)",
            "│  ├─ vim(30)",
            "│  └─ make(31)",
            "│     └─ cc(40)",
            "└─ bash(21) [exited]",
        ]

    def test_a_leaf_is_one_line(self, tree: PidTree) -> None:
        assert display(tree, 40) == "cc(40)"

    @pytest.mark.parametrize("pid", NOBODY)
    def test_an_unknown_process_is_drawn_as_unknown(self, tree: PidTree, pid: int) -> None:
        assert display(tree, pid) == f"unknown({pid})"

    def test_a_process_without_a_name_is_drawn_as_unknown(self) -> None:
        assert display(grow((5, 1, "")), 5) == "unknown(5)"

    def test_a_name_cannot_draw_a_line_of_its_own(self) -> None:
        text = display(grow((1, 0, "init"), (2, 1, "a\n├─ evil(3)\x1b[2J")), 1)
        assert len(text.splitlines()) == 2
        assert all(line.isprintable() for line in text.split("\n"))

    def test_the_ended_can_be_left_out(self, tree: PidTree) -> None:
        end(tree, 21)
        assert "21" not in display(tree, 10, live_only=True)
