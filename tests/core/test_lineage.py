"""Questions of ancestry, on small trees by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.chain import parse_chain_string
from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.lineage import (
    Answer,
    ancestry,
    build_chain_links,
    build_chain_string,
    creator_of,
    is_descendant,
    lineage,
)
from proctree_bpf.core.model import Edge, PidNode, ProcInfo
from proctree_bpf.core.stores import PidTree, ProcCache
from proctree_bpf.core.subtree import (
    child_nodes,
    children,
    descendants,
    display,
    find_by_cmd,
    find_by_user,
    siblings,
    tree_len,
)
from support.small_trees import MAX_PID, NOBODY, end, grow, start


class TestChains:
    def test_a_chain_goes_from_the_process_to_the_root(self, tree: PidTree) -> None:
        cache = ProcCache()
        cache.insert_info(40, ProcInfo("cc", "ada", 31, 40, start(40)))
        assert (
            build_chain_string(tree, cache, 40)
            == "40|cc|ada;31|make|unknown;20|bash|unknown;10|sshd|unknown;1|init|unknown"
        )

    def test_a_root_is_a_chain_of_itself(self, tree: PidTree) -> None:
        assert build_chain_string(tree, ProcCache(), 1) == "1|init|unknown"

    def test_every_link_carries_its_start_time(self, tree: PidTree) -> None:
        links = build_chain_links(tree, ProcCache(), 30)
        assert [link.start_time_ns for link in links] == [start(p) for p in (30, 20, 10, 1)]
        assert all(link.known for link in links)

    def test_a_creator_that_is_not_remembered_ends_the_chain_as_unknown(self) -> None:
        links = build_chain_links(grow((5, 4, "x")), ProcCache(), 5)
        assert [(link.pid, link.cmd, link.known) for link in links] == [
            (5, "x", True),
            (4, "unknown", False),
        ]
        assert links[1].start_time_ns == start(4)

    @pytest.mark.parametrize("pid", NOBODY)
    def test_an_unknown_pid_is_one_unknown_link(self, tree: PidTree, pid: int) -> None:
        (link,) = build_chain_links(tree, ProcCache(), pid)
        assert (link.pid, link.cmd, link.user, link.known) == (pid, "unknown", "unknown", False)

    def test_a_chain_holds_when_its_middle_has_ended(self, tree: PidTree) -> None:
        end(tree, 20)
        assert [link.pid for link in build_chain_links(tree, ProcCache(), 40)] == [
            40,
            31,
            20,
            10,
            1,
        ]

    def test_a_chain_never_shows_the_later_holder_of_a_creators_pid(self, tree: PidTree) -> None:
        end(tree, 20)
        tree.insert_node(20, PidNode(1, "evil", start(90), 20, start(1), Edge.CREATED))
        assert "evil" not in build_chain_string(tree, ProcCache(), 40)
        assert [link.cmd for link in build_chain_links(tree, ProcCache(), 20)] == ["evil", "init"]

    def test_a_later_holder_is_no_creator_even_if_no_start_time_says_so(self) -> None:
        tree = PidTree()
        tree.insert_node(5, PidNode(4, "child", start(50), 5))
        tree.insert_node(4, PidNode(1, "evil", start(60), 4))
        assert [link.known for link in build_chain_links(tree, ProcCache(), 5)] == [True, False]

    def test_a_process_that_had_ended_is_no_creator(self) -> None:
        tree = PidTree()
        tree.insert_node(4, PidNode(1, "gone", start(10), 4))
        tree.insert_node(4, PidNode(1, "gone", start(10), 4, exited_ns=start(20)))
        tree.insert_node(5, PidNode(4, "child", start(50), 5))
        assert [link.known for link in build_chain_links(tree, ProcCache(), 5)] == [True, False]
        assert children(tree, ProcessKey(4, start(10))) == []

    def test_names_survive_the_chain(self) -> None:
        tree = grow((1, 0, "a|b;\\\n\udcff"), (2, 1, ""))
        links = parse_chain_string(build_chain_string(tree, ProcCache(), 2))
        assert [(link.pid, link.cmd) for link in links] == [(2, ""), (1, "a|b;\\\n\udcff")]


class TestAncestry:
    @pytest.mark.parametrize(
        ("pid", "cmd", "expected"),
        [
            (40, "sshd", True),
            (40, "cc", True),
            (40, "init", True),
            (40, "cron", False),
            (1, "sshd", False),
            (99_999, "init", False),
            (0, "init", False),
            (MAX_PID, "init", False),
        ],
    )
    def test_a_descendant_is_known_by_the_name_of_an_ancestor(
        self, tree: PidTree, pid: int, cmd: str, *, expected: bool
    ) -> None:
        assert is_descendant(tree, pid, cmd) is expected

    def test_no_is_said_of_a_chain_that_was_seen_as_it_was_made(self, tree: PidTree) -> None:
        assert ancestry(tree, 40, "sshd") is Answer.YES
        assert ancestry(tree, 40, "cron") is Answer.NO

    def test_no_is_not_said_where_only_the_present_parent_was_seen(self) -> None:
        tree = grow((1, 0, "init"), (10, 1, "orphan"), edge=Edge.OBSERVED)
        assert ancestry(tree, 10, "sshd") is Answer.UNKNOWN
        assert ancestry(tree, 10, "init") is Answer.YES

    def test_no_is_said_of_a_root(self) -> None:
        assert ancestry(grow((1, 0, "init"), edge=Edge.OBSERVED), 1, "sshd") is Answer.NO

    def test_no_is_not_said_where_the_chain_breaks_off(self) -> None:
        assert ancestry(grow((5, 4, "x")), 5, "sshd") is Answer.UNKNOWN

    def test_no_is_not_said_of_a_circle(self) -> None:
        tree = PidTree()
        for pid, ppid in ((5, 6), (6, 5)):
            tree.insert_node(pid, PidNode(ppid, "x", pid=pid, edge=Edge.CREATED))
        assert ancestry(tree, 5, "sshd") is Answer.UNKNOWN

    @pytest.mark.parametrize("pid", NOBODY)
    def test_nothing_is_said_of_an_unknown_process(self, tree: PidTree, pid: int) -> None:
        assert ancestry(tree, pid, "init") is Answer.UNKNOWN


class TestCircles:
    CIRCLES = (
        ((1, 1, "a"),),
        ((1, 2, "a"), (2, 1, "b")),
        ((1, 2, "a"), (2, 3, "b"), (3, 1, "c")),
        ((1, 2, "a"), (2, 3, "b"), (3, 2, "c"), (4, 1, "d")),
        ((0, 0, "a"), (1, 0, "b")),
        ((MAX_PID, MAX_PID, "a"),),
    )

    @pytest.mark.parametrize("edges", CIRCLES)
    def test_every_question_about_a_circle_is_answered(
        self, edges: tuple[tuple[int, int, str], ...]
    ) -> None:
        tree = PidTree()
        for pid, ppid, cmd in edges:
            tree.insert_node(pid, PidNode(ppid, cmd, pid=pid))
        everybody = {pid for pid, _, _ in edges}
        for pid in everybody:
            links = build_chain_links(tree, ProcCache(), pid)
            assert links[0].pid == pid
            assert len({link.pid for link in links}) == len(links)
            assert not is_descendant(tree, pid, "nginx")
            assert is_descendant(tree, pid, links[-1].cmd) or not links[-1].known
            assert set(descendants(tree, pid)) <= everybody - {pid}
            assert pid not in siblings(tree, pid)
            assert len(display(tree, pid).splitlines()) <= len(everybody)


class TestTheEmptyTree:
    def test_it_has_no_answers_and_no_errors(self) -> None:
        tree, cache = PidTree(), ProcCache()
        assert list(lineage(tree, 1)) == []
        assert children(tree, 1) == descendants(tree, 1) == siblings(tree, 1) == []
        assert find_by_cmd(tree, "x") == find_by_user(tree, cache, "x") == []
        assert (tree_len(tree), display(tree, 1)) == (0, "unknown(1)")
        assert not is_descendant(tree, 1, "x")
        assert build_chain_string(tree, cache, 1) == "1|unknown|unknown"


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from((0, 1, 3)), st.booleans()),
        max_size=25,
    )
)
def test_children_and_creators_agree_in_any_tree(
    processes: list[tuple[int, int, int, bool]],
) -> None:
    """Whoever is a creator has the child, also where PIDs are reused."""
    tree = PidTree()
    for pid, ppid, generation, known in processes:
        born = (10 * generation + pid) * TICK_NS + 1
        by = (10 * generation + ppid) * TICK_NS + 1 if known and ppid < pid else 0
        tree.insert_node(pid, PidNode(ppid, "x", born, pid, by))
    for node in tree.all_nodes():
        creator = creator_of(tree, node)
        if creator is not None:
            assert node in child_nodes(tree, creator.key)
            assert node.pid in descendants(tree, creator.key)
        for child in child_nodes(tree, node.key):
            found = creator_of(tree, child)
            assert found is None or found.pid == node.pid
