"""Whose child a process is, by the proc connector, and when its parent may not have made it."""

from __future__ import annotations

import pytest

from proctree_bpf import Exec, Exit, Fork, ProcessKey
from support.fake_connector import CHILD, OTHER, PARENT, SECOND, FakeConnector

GRANDCHILD, INIT = 500, 1
NOT_KNOWN = ProcessKey(0)


@pytest.fixture
def scene() -> FakeConnector:
    """Return a stream that has met init and the parent."""
    scene = FakeConnector()
    scene.proc.add(INIT, SECOND // 2, "init", ppid=0)
    met(scene)
    return scene


def met(scene: FakeConnector) -> None:
    """Show a snapshot to the stream."""
    scene.stream.meet([stat for stat, _ in scene.proc.processes.values()])
    scene.stream.meet([])
    scene.poll()


def is_certain(scene: FakeConnector, parent: int, child: int) -> bool:
    """Let a child be born; tell whether the parent is told to be the creator for certain."""
    datagram = scene.kernel.fork(parent, child)
    scene.proc.add(child, scene.now_ns() - 1, ppid=parent)
    (fork,) = scene.poll(datagram)
    assert isinstance(fork, Fork)
    assert fork.creator.pid == parent
    return not fork.observed


def ends(scene: FakeConnector, pid: int, parent: int = 0) -> Exit:
    """Let a process end, which names its parent if it has not been waited for."""
    (end,) = scene.poll(scene.kernel.exit(pid, parent=parent))
    assert isinstance(end, Exit)
    return end


class TestCreators:
    def test_a_parent_without_another_child_is_the_creator(self, scene: FakeConnector) -> None:
        assert is_certain(scene, PARENT, CHILD)
        assert is_certain(scene, CHILD, GRANDCHILD)

    def test_a_child_of_it_may_have_called_clone_in_its_place(self, scene: FakeConnector) -> None:
        assert is_certain(scene, PARENT, CHILD)
        assert not is_certain(scene, PARENT, OTHER)

    def test_its_name_is_then_unsure_and_so_it_is_where_there_are_threads(
        self, scene: FakeConnector
    ) -> None:
        forks = [scene.kernel.fork(PARENT, CHILD), scene.kernel.fork(CHILD, 600),
                 scene.kernel.fork(PARENT, OTHER), scene.kernel.thread(600, 601),
                 scene.kernel.fork(600, 602)]  # fmt: skip
        told = [event for event in scene.poll(*forks) if isinstance(event, Fork)]
        assert [fork.name_unsure for fork in told] == [False, False, True, True]

    def test_one_that_has_ended_may_not(self, scene: FakeConnector) -> None:
        is_certain(scene, PARENT, CHILD)
        ends(scene, CHILD)
        assert is_certain(scene, PARENT, OTHER)

    def test_a_child_that_was_there_before_may_have(self, scene: FakeConnector) -> None:
        scene.proc.add(CHILD, 2 * SECOND, ppid=PARENT)
        met(scene)
        assert not is_certain(scene, PARENT, OTHER)

    def test_so_may_one_that_a_parent_in_a_later_part_of_the_snapshot_has(self) -> None:
        scene = FakeConnector()
        child = scene.proc.add(50, 2 * SECOND, ppid=PARENT)[0]
        for part in ([child], [scene.proc.processes[PARENT][0]], []):
            scene.stream.meet(part)
        scene.poll()
        assert not is_certain(scene, PARENT, OTHER)

    def test_an_orphan_may_be_a_child_of_any_above_its_parent_from_then_on(
        self, scene: FakeConnector
    ) -> None:
        is_certain(scene, PARENT, CHILD)
        is_certain(scene, CHILD, GRANDCHILD)
        ends(scene, CHILD)
        assert not is_certain(scene, PARENT, OTHER)
        assert is_certain(scene, GRANDCHILD, 600)

    def test_after_a_loss_nobody_knows_who_has_children(self, scene: FakeConnector) -> None:
        scene.poll(scene.kernel.comm(PARENT, b"parent"))
        scene.kernel.drop(1)
        assert not is_certain(scene, PARENT, CHILD)
        assert is_certain(scene, CHILD, GRANDCHILD)

    def test_one_that_was_never_met_may_have_others(self, scene: FakeConnector) -> None:
        scene.proc.add(OTHER, 2 * SECOND)
        assert not is_certain(scene, OTHER, CHILD)

    def test_who_was_adopted_while_the_snapshot_was_taken_may_be_anybodys_child(self) -> None:
        scene = FakeConnector()
        scene.proc.add(CHILD, 2 * SECOND, ppid=GRANDCHILD)
        met(scene)
        assert not is_certain(scene, PARENT, OTHER)

    def test_what_is_kept_of_them_agrees_with_itself(self, scene: FakeConnector) -> None:
        for pid in range(600, 640):
            is_certain(scene, pid - 1 if pid % 4 else PARENT, pid)
            if pid % 3 == 0:
                ends(scene, pid - 1)
            scene.stream.check_invariants()


class TestParents:
    @pytest.fixture
    def orphan(self, scene: FakeConnector) -> ProcessKey:
        """Let there be an orphan; return who has adopted it."""
        is_certain(scene, PARENT, CHILD)
        is_certain(scene, CHILD, GRANDCHILD)
        ends(scene, CHILD, parent=PARENT)
        start_ns = scene.proc.processes[GRANDCHILD][0].start_ns
        scene.proc.add(GRANDCHILD, start_ns, "tool", ppid=INIT)
        return scene.proc.processes[INIT][0].key

    def exec(self, scene: FakeConnector, pid: int) -> Exec:
        scene.poll(scene.kernel.exec(pid))
        (event,) = scene.stream.flush()
        assert isinstance(event, Exec)
        return event

    def test_a_parent_that_lives_is_that_of_the_birth(self, scene: FakeConnector) -> None:
        key = scene.child()
        scene.proc.add(CHILD, key.start_time_ns, "tool", ppid=PARENT)
        assert self.exec(scene, CHILD).parent is None
        assert ends(scene, CHILD).parent is None

    def test_who_adopted_an_orphan_is_told_with_its_next_exec(
        self, scene: FakeConnector, orphan: ProcessKey
    ) -> None:
        assert self.exec(scene, GRANDCHILD).parent == orphan
        assert ends(scene, GRANDCHILD).parent is None

    def test_nobody_knows_it_if_one_that_may_have_adopted_it_before_ends_about_then(
        self, scene: FakeConnector, orphan: ProcessKey
    ) -> None:
        del orphan
        scene.poll(scene.kernel.exec(GRANDCHILD))
        scene.proc.remove(PARENT)
        ends(scene, PARENT, parent=INIT)
        (event,) = scene.stream.flush()
        assert isinstance(event, Exec)
        assert (event.comm, event.parent) == ("tool", NOT_KNOWN)

    def test_nobody_knows_who_adopted_one_of_which_proc_does_not_tell(
        self, scene: FakeConnector, orphan: ProcessKey
    ) -> None:
        del orphan
        scene.proc.remove(GRANDCHILD)
        (event,) = scene.poll(scene.kernel.exec(GRANDCHILD))
        assert isinstance(event, Exec)
        assert event.parent == NOT_KNOWN
        assert ends(scene, GRANDCHILD).parent == NOT_KNOWN

    def test_an_end_that_names_the_parent_is_believed(
        self, scene: FakeConnector, orphan: ProcessKey
    ) -> None:
        assert ends(scene, GRANDCHILD, parent=INIT).parent == orphan

    def test_nobody_knows_whether_an_exec_came_before_the_adoption_that_proc_shows(
        self, scene: FakeConnector
    ) -> None:
        key = scene.child()
        scene.proc.add(CHILD, key.start_time_ns, "tool", ppid=INIT)
        assert self.exec(scene, CHILD).parent == NOT_KNOWN
