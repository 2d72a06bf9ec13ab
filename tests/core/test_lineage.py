"""Questions of ancestry, on small trees by hand and on trees that nobody should build."""

from __future__ import annotations

import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
from proctree_bpf.core.model import CacheParams, Edge, PidNode, ProcInfo
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
from support.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

S = 1_000_000_000
MAX_PID = 2**32 - 1
MILLION = 1_000_000
NOBODY = [0, 99_999, MAX_PID]


def start(pid: int) -> int:
    """Every process of these trees starts a tick after the one with the PID before."""
    return pid * TICK_NS + 1 if pid else 0


def grow(*edges: tuple[int, int, str], edge: Edge = Edge.CREATED) -> PidTree:
    """Make a tree from (pid, ppid, cmd)."""
    tree = PidTree()
    for pid, ppid, cmd in edges:
        tree.insert_node(pid, PidNode(ppid, cmd, start(pid), pid, start(ppid), edge))
    return tree


def end(tree: PidTree, pid: int, at: int = 100 * S) -> None:
    node = tree.get_node(pid)
    assert node is not None
    tree.insert_node(pid, replace(node, exited_ns=at))


@pytest.fixture
def tree() -> PidTree:
    return grow(
        (1, 0, "init"),
        (10, 1, "sshd"),
        (11, 1, "cron"),
        (20, 10, "bash"),
        (21, 10, "bash"),
        (30, 20, "vim"),
        (31, 20, "make"),
        (40, 31, "cc"),
    )


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


class LongChain:
    """A tree of ``length`` processes, each created by the one before, without any index."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._nodes = [
            PidNode(pid - 1, "x", start(pid), pid, start(pid - 1), Edge.CREATED)
            for pid in range(1, length + 1)
        ]

    def get_node(self, who: int | ProcessKey) -> PidNode | None:
        pid = who.pid if isinstance(who, ProcessKey) else who
        return self._nodes[pid - 1] if 0 < pid <= self._length else None

    def insert_node(self, pid: int, node: PidNode) -> list[PidNode]:
        raise NotImplementedError

    def child_nodes(self, who: ProcessKey) -> list[PidNode]:
        node = self.get_node(who.pid + 1)
        return [] if node is None else [node]

    def all_pids(self) -> list[int]:
        return list(range(1, self._length + 1))

    def all_nodes(self) -> list[PidNode]:
        return list(self._nodes)

    def expire(self, now_ns: int) -> list[PidNode]:
        del now_ns
        return []

    def __len__(self) -> int:
        return self._length


@contextmanager
def limits(seconds: float, extra_bytes: int) -> Iterator[None]:
    """Let a block fail, rather than the machine, if it asks for too much."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        now = int(statm.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra_bytes, hard))
    begun = time.monotonic()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.monotonic() - begun < seconds


@pytest.fixture(scope="module")
def chain() -> LongChain:
    return LongChain(MILLION)


class TestAMillionGenerations:
    SECONDS = 20.0
    """Some ten times what each takes, for a slow machine with company."""

    def test_the_chain_is_built(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 2 << 30):
            links = build_chain_links(chain, ProcCache(), MILLION)
        assert len(links) == MILLION
        assert links[-1].pid == 1

    def test_ancestry_is_answered(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 2 << 30):
            assert not is_descendant(chain, MILLION, "y")
            assert ancestry(chain, MILLION, "y") is Answer.NO

    def test_descendants_are_listed(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 2 << 30):
            found = descendants(chain, 1)
        assert len(found) == MILLION - 1
        assert found[-1] == MILLION

    def test_a_drawing_grows_no_faster_than_the_tree(self) -> None:
        few, many = (len(display(LongChain(length), 1)) / length for length in (500, 5_000))
        assert many < 2 * few

    def test_it_is_drawn(self, chain: LongChain) -> None:
        with limits(self.SECONDS, 1 << 30):
            text = display(chain, 1)
        assert text.endswith(f"x({MILLION})")

    def test_a_real_tree_holds_and_forgets_a_long_chain(self) -> None:
        length = 50_000
        tree = PidTree(CacheParams(length, ttl_secs=1))
        for pid in range(1, length + 1):
            tree.insert_node(pid, PidNode(pid - 1, "x", start(pid), pid, start(pid - 1)))
        assert len(build_chain_links(tree, ProcCache(), length)) == length
        assert len(descendants(tree, 1)) == length - 1
        for pid in range(1, length + 1):
            end(tree, pid, at=S)
        assert len(tree.expire(2 * S)) == length
        assert len(tree) == 0
