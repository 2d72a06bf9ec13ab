"""``Process``, with processes that are made up: what it says of whom, and when it says nothing."""

from __future__ import annotations

import pytest

from proctree_bpf import (
    Exec,
    Exit,
    Fork,
    Gap,
    NoSuchProcessError,
    Process,
    ProcessKey,
    ProcessTree,
)
from proctree_bpf.core.identity import TICK_NS
from proctree_bpf.core.model import PidNode, ProcInfo

S = 1_000_000_000


def start(pid: int) -> int:
    return pid * TICK_NS + 1


def key(pid: int) -> ProcessKey:
    return ProcessKey(pid, start(pid))


def fork(child: int, creator: int, **rest: ProcessKey) -> Fork:
    return Fork(start(child), key(child), key(creator), **rest)


def end(tree: ProcessTree, pid: int, at: int = S, status: int | None = 0) -> None:
    tree.apply(Exit(at, key(pid), status=status))


def pids(processes: list[Process]) -> list[int]:
    return [process.pid for process in processes]


@pytest.fixture
def tree() -> ProcessTree:
    """init - bash - make - cc."""
    tree = ProcessTree(ttl_s=10)
    tree.apply_all(
        [
            Exec(start(1), key(1), comm="init"),
            fork(5, 1),
            Exec(start(5), key(5), comm="bash"),
            fork(6, 5),
            Exec(start(6), key(6), comm="make"),
            fork(7, 6),
            Exec(
                start(7), key(7), comm="cc", uid=4242,
                executable="/usr/bin/cc", args_raw=b"cc\0a.c\0",
            ),
        ]
    )  # fmt: skip
    return tree


def test_a_process_answers_as_psutil_users_expect(tree: ProcessTree) -> None:
    process = tree.process(7)
    assert (process.pid, process.ppid(), process.name()) == (7, 6, "cc")
    assert (process.username(), process.uid(), process.exe()) == ("4242", 4242, "/usr/bin/cc")
    assert process.cmdline() == ["cc", "a.c"]
    assert process.is_running()
    assert (process.exit_code, process.exit_signal, process.exited_ns) == (None, None, None)


def test_what_is_not_known_is_none_and_no_error() -> None:
    tree = ProcessTree()
    tree.pid_tree.insert_node(7, PidNode(6, "cc"))
    process = tree.process(7)
    assert (process.username(), process.uid(), process.exe(), process.create_time()) == (None,) * 4
    assert process.cmdline() == []
    assert process.name() == "cc"


def test_how_it_ended_is_told(tree: ProcessTree) -> None:
    process = tree.process(7)
    end(tree, 7, at=S, status=3 << 8)
    assert (process.exit_code, process.exit_signal, process.exited_ns) == (3, None, S)
    other = tree.process(6)
    end(tree, 6, status=9)
    assert (other.exit_code, other.exit_signal) == (None, 9)


class TestCreators:
    def test_they_are_those_who_called_fork_nearest_first(self, tree: ProcessTree) -> None:
        process = tree.process(7)
        assert process.creator() == tree.process(6)
        assert pids(process.creators()) == [6, 5, 1]
        assert process.creator_is_certain

    def test_the_first_of_all_has_none(self, tree: ProcessTree) -> None:
        assert tree.process(1).creator() is None
        assert tree.process(1).creators() == []

    def test_they_survive_everybodys_death(self, tree: ProcessTree) -> None:
        end(tree, 6)
        end(tree, 5)
        assert pids(tree.process(7).creators()) == [6, 5, 1]
        assert not tree.process(6).is_running()

    def test_a_later_process_with_its_pid_is_not_the_creator(self, tree: ProcessTree) -> None:
        end(tree, 6)
        tree.apply(Exec(2 * S, ProcessKey(6, 2 * S), comm="evil"))
        creator = tree.process(7).creator()
        assert creator is not None
        assert creator.name() == "make"
        assert tree.process(6).name() == "evil"

    def test_with_clone_parent_the_creator_is_not_the_parent(self, tree: ProcessTree) -> None:
        tree.apply(fork(8, 7, parent=key(6)))
        process = tree.process(8)
        assert (process.creator(), process.parent()) == (tree.process(7), tree.process(6))
        assert process.ppid() == 6

    def test_a_circle_of_creators_ends(self) -> None:
        tree = ProcessTree()
        for pid, ppid in ((5, 6), (6, 5)):
            tree.pid_tree.insert_node(pid, PidNode(ppid, "x", pid=pid))
        process = tree.process(5)
        assert pids(process.creators()) == [6]
        assert pids(process.children(recursive=True)) == [6]
        assert pids(process.parents()) == [6, 5]


class TestParents:
    def test_the_parent_is_the_kernels_as_long_as_it_lives(self, tree: ProcessTree) -> None:
        assert pids(tree.process(7).parents()) == [6, 5, 1]

    def test_init_has_none(self, tree: ProcessTree) -> None:
        assert (tree.process(1).ppid(), tree.process(1).parent()) == (0, None)

    def test_who_adopted_an_orphan_is_not_known_before_it_is_told(self, tree: ProcessTree) -> None:
        process = tree.process(7)
        end(tree, 6)
        assert (process.ppid(), process.parent(), process.parents()) == (None, None, [])
        tree.apply(Exec(2 * S, key(7), comm="cc", parent=key(1)))
        assert (process.ppid(), process.parent()) == (1, tree.process(1))
        assert process.creator() == tree.process(6)

    def test_who_adopts_an_orphan_is_known_when_the_end_of_its_parent_tells(
        self, tree: ProcessTree
    ) -> None:
        process = tree.process(7)
        tree.apply(Exit(S, key(6), key(5), status=0, reaper=key(1)))
        assert (process.ppid(), process.parent()) == (1, tree.process(1))
        assert process.creator() == tree.process(6)

    def test_of_one_that_has_ended_it_is_the_one_it_had_then(self, tree: ProcessTree) -> None:
        end(tree, 7, at=S)
        end(tree, 6, at=2 * S)
        assert tree.process(7).ppid() == 6

    def test_of_an_orphan_that_has_ended_it_is_not_known(self, tree: ProcessTree) -> None:
        end(tree, 6, at=S)
        end(tree, 7, at=2 * S)
        assert tree.process(7).ppid() is None

    def test_if_both_were_missed_at_once_nobody_knows_who_was_first(
        self, tree: ProcessTree
    ) -> None:
        end(tree, 6, at=S)
        end(tree, 7, at=S)
        assert tree.process(7).ppid() is None

    def test_while_events_are_lost_nobody_knows_who_has_ended(self, tree: ProcessTree) -> None:
        tree.note_gap(Gap(S, "test", 1))
        assert tree.process(7).ppid() is None

    def test_of_one_whose_beginning_was_not_seen_it_is_not_known(self) -> None:
        tree = ProcessTree()
        tree.apply(Exec(S, key(7), comm="x"))
        assert tree.process(7).ppid() is None


class TestChildren:
    def test_they_are_those_that_it_created_ended_or_not(self, tree: ProcessTree) -> None:
        process = tree.process(5)
        end(tree, 6)
        assert pids(process.children()) == [6]
        assert pids(process.children(recursive=True)) == [6, 7]

    def test_the_living_ones_alone_can_be_had(self, tree: ProcessTree) -> None:
        process = tree.process(5)
        end(tree, 6)
        assert process.children(live_only=True) == []
        assert pids(process.children(recursive=True, live_only=True)) == [7]


class TestIdentity:
    def test_a_process_that_has_ended_is_not_running_but_known(self, tree: ProcessTree) -> None:
        process = tree.process(7)
        end(tree, 7)
        assert not process.is_running()
        assert process.name() == "cc"

    def test_a_process_is_not_the_next_one_with_its_pid(self, tree: ProcessTree) -> None:
        process = tree.process(7)
        end(tree, 7)
        tree.apply(Exec(2 * S, ProcessKey(7, 2 * S), comm="other"))
        assert (process.name(), process.is_running()) == ("cc", False)
        assert tree.process(7).name() == "other"
        assert tree.process(7) != process
        assert tree.process(process) == process

    def test_without_start_times_too(self) -> None:
        tree = ProcessTree()
        tree.apply_all([Exec(1, ProcessKey(7), comm="former"), Exit(2, ProcessKey(7))])
        former = tree.process(7)
        tree.apply_all([Exec(3, ProcessKey(7), comm="latter")])
        assert (former.name(), tree.process(7).name()) == ("former", "latter")
        assert former != tree.process(7)
        assert tree.process(former).name() == "former"

    def test_a_forgotten_process_is_no_longer_answered_for(self, tree: ProcessTree) -> None:
        process = tree.process(7)
        end(tree, 7)
        tree.tracker.expire(20 * S)
        assert not process.is_running()
        assert process not in tree
        for ask in (process.name, process.ppid, process.parent, process.creator, process.children):
            with pytest.raises(NoSuchProcessError, match="no process 7"):
                ask()

    @pytest.mark.parametrize("who", [0, 99_999, 2**32 - 1, ProcessKey(7, 1), ProcessKey(99_999)])
    def test_an_unknown_process_is_refused(self, tree: ProcessTree, who: int | ProcessKey) -> None:
        with pytest.raises(NoSuchProcessError) as refusal:
            tree.process(who)
        assert refusal.value.pid == (who.pid if isinstance(who, ProcessKey) else who)
        assert isinstance(refusal.value, LookupError)

    def test_views_of_one_process_are_equal_and_hash_alike(self, tree: ProcessTree) -> None:
        one, other = tree.process(7), tree.process(key(7))
        assert one == other
        assert len({one, other, tree.process(6)}) == 2
        assert one != 7

    def test_views_from_two_trees_are_of_one_process(self, tree: ProcessTree) -> None:
        other = ProcessTree()
        other.pid_tree.insert_node(7, PidNode(6, "cc", 7 * TICK_NS, 7))
        assert other.process(7) == tree.process(7)
        assert other.process(7) in tree
        assert tree.process(other.process(7)).exe() == "/usr/bin/cc"

    def test_they_are_equal_before_and_after_the_start_time_was_seen_exactly(self) -> None:
        tree = ProcessTree()
        tree.pid_tree.insert_node(7, PidNode(1, "x", 7 * TICK_NS, 7))
        before = tree.process(7)
        tree.pid_tree.insert_node(7, PidNode(1, "x", start(7), 7))
        after = tree.process(7)
        assert before.is_running()
        assert before == after
        assert len({before, after}) == 1

    def test_a_process_that_was_forgotten_for_want_of_room_can_come_back(self) -> None:
        tree = ProcessTree(capacity=1)
        tree.apply(Exec(start(7), key(7), comm="x"))
        process = tree.process(7)
        tree.apply(Exec(start(8), key(8), comm="y"))
        assert process not in tree
        tree.apply(Exec(S, key(7), comm="z"))
        assert process.name() == "z"

    def test_a_process_shows_its_identity(self, tree: ProcessTree) -> None:
        assert repr(tree.process(7)) == f"Process(pid=7, start_time_ns={start(7)})"

    def test_its_details_may_come_alone(self) -> None:
        tree = ProcessTree()
        tree.proc_cache.insert_info(7, ProcInfo("cc", "ada", 6, 7, start(7)))
        assert 7 not in tree
        assert len(tree) == 0
