"""Walks of ``/proc``, compared: who appeared, who is gone, who runs something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exec, Exit, Fork, ProcessKey, Rename
from proctree_bpf.codecs.inputs import Walk
from proctree_bpf.streams.walk import WalkStream
from support.fake_proc_reader import TICK_NS, FakeProcReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proctree_bpf import ProcEvent

_SECOND = 1_000_000_000
_INIT, _SHELL, _TOOL = 1, 200, 300


class Scene:
    """A stream that walks through a written ``/proc`` once a second."""

    def __init__(self) -> None:
        self.proc = FakeProcReader()
        self.stream = WalkStream(self.proc)
        self.now_ns = 100 * _SECOND
        self.watermark_ns = 0
        self.proc.add(_INIT, _SECOND, "init", ppid=0, args=b"init\0", exe="/init")
        self.proc.add(_SHELL, 2 * _SECOND)

    def walk(self) -> Sequence[ProcEvent]:
        """Walk, one second later."""
        self.now_ns += _SECOND
        stats = [stat for stat, _ in self.proc.processes.values()]
        events, self.watermark_ns = self.stream.feed(Walk(self.now_ns, stats))
        return events

    def kinds(self) -> list[type]:
        """Walk, and return what happened."""
        return [type(event) for event in self.walk()]


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.walk()
    return scene


def test_the_first_walk_tells_nothing() -> None:
    assert Scene().walk() == []


def test_a_walk_without_a_change_tells_nothing(scene: Scene) -> None:
    assert scene.walk() == []


def test_the_watermark_is_past_the_walks_own_events(scene: Scene) -> None:
    scene.proc.remove(_SHELL)
    (end,) = scene.walk()
    assert end.timestamp_ns == scene.now_ns < scene.watermark_ns <= scene.now_ns + 1


class TestNewProcesses:
    @pytest.mark.parametrize("args", [b"sh\0", b"what its parent ran before\0"])
    def test_what_has_not_called_exec_was_forked_whatever_its_parent_runs_now(
        self, scene: Scene, args: bytes
    ) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, args=args, forked=True)
        key = ProcessKey(_TOOL, 50 * _SECOND)
        assert scene.walk() == [
            Fork(
                scene.now_ns, key, ProcessKey(_SHELL, 2 * _SECOND),
                ns_pid=_TOOL, uid=1000, gid=100, comm="sh", observed=True,
            )
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("args", "exe"),
        [(b"sh\0", "/bin/sh"), (b"tool\0", "/bin/sh"), (b"sh\0", "/tool"), (b"tool\0", "/tool")],
    )
    def test_what_has_called_exec_is_told_to_have_whatever_its_parent_runs(
        self, scene: Scene, args: bytes, exe: str
    ) -> None:
        _, info = scene.proc.add(_TOOL, 50 * _SECOND, "tool", ppid=_SHELL, args=args, exe=exe)
        fork, event = scene.walk()
        assert isinstance(fork, Fork)
        assert event == Exec(
            scene.now_ns, fork.child, fork.creator, uid=info.uid, gid=info.gid, comm="tool",
            executable=exe, args_raw=args,
        )  # fmt: skip

    def test_what_is_gone_when_looked_at_was_forked_with_the_name_that_was_seen(
        self, scene: Scene
    ) -> None:
        stat, _ = scene.proc.add(_TOOL, 50 * _SECOND, "tool", ppid=_SHELL, forked=True)
        stats = [stat for stat, _ in scene.proc.processes.values()]
        scene.proc.remove(_TOOL)
        (fork,), _ = scene.stream.feed(Walk(scene.now_ns, stats))
        assert isinstance(fork, Fork)
        assert (fork.child.pid, fork.comm, fork.uid) == (stat.pid, "tool", None)

    def test_what_is_gone_then_is_known_to_have_called_exec_but_not_what_it_ran(
        self, scene: Scene
    ) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, "tool", ppid=_SHELL)
        stats = [stat for stat, _ in scene.proc.processes.values()]
        scene.proc.remove(_TOOL)
        (fork, event), _ = scene.stream.feed(Walk(scene.now_ns, stats))
        assert isinstance(fork, Fork)
        assert event == Exec(scene.now_ns, fork.child, fork.creator, comm="tool")

    def test_another_process_that_took_the_pid_meanwhile_is_not_looked_at(
        self, scene: Scene
    ) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, "tool", ppid=_SHELL, forked=True)
        stats = [stat for stat, _ in scene.proc.processes.values()]
        scene.proc.add(_TOOL, 51 * _SECOND, "another", ppid=_SHELL, args=b"another\0")
        (fork,), _ = scene.stream.feed(Walk(scene.now_ns, stats))
        assert isinstance(fork, Fork)
        assert (fork.child, fork.comm) == (ProcessKey(_TOOL, 50 * _SECOND), "tool")

    def test_parents_come_before_their_children(self, scene: Scene) -> None:
        scene.proc.add(700, 52 * _SECOND, ppid=600, forked=True)
        scene.proc.add(500, 51 * _SECOND, ppid=_SHELL, forked=True)
        scene.proc.add(600, 51 * _SECOND + TICK_NS, ppid=500, forked=True)
        assert [event.key.pid for event in scene.walk()] == [500, 600, 700]

    def test_a_parent_of_the_same_tick_comes_first_though_its_pid_is_larger(
        self, scene: Scene
    ) -> None:
        """PIDs start again from the bottom."""
        scene.proc.add(31_000, 51 * _SECOND, ppid=_SHELL, forked=True)
        scene.proc.add(305, 51 * _SECOND, ppid=31_000, forked=True)
        assert [event.key.pid for event in scene.walk()] == [31_000, 305]

    def test_a_parent_that_is_not_in_the_walk_is_known_by_its_pid(self, scene: Scene) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=999)
        (fork, *_) = scene.walk()
        assert isinstance(fork, Fork)
        assert fork.creator == ProcessKey(999)


class TestEnds:
    def test_what_is_not_there_any_more_has_ended_nobody_knows_how(self, scene: Scene) -> None:
        scene.proc.remove(_SHELL)
        key = ProcessKey(_SHELL, 2 * _SECOND)
        parent = ProcessKey(_INIT, _SECOND)
        assert scene.walk() == [Exit(scene.now_ns, key, parent, comm="sh", status=None)]

    def test_whose_child_it_was_nobody_knows_if_that_has_ended_too(self, scene: Scene) -> None:
        """It may have been adopted just before its own end."""
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL)
        scene.walk()
        scene.proc.remove(_TOOL)
        scene.proc.remove(_SHELL)
        parents = {event.key.pid: event.parent for event in scene.walk() if isinstance(event, Exit)}
        assert parents == {_TOOL: ProcessKey(0), _SHELL: ProcessKey(_INIT, _SECOND)}

    def test_a_reused_pid_is_an_end_and_then_a_beginning(self, scene: Scene) -> None:
        scene.proc.add(_SHELL, 60 * _SECOND, "new", ppid=_INIT, args=b"new\0")
        events = scene.walk()
        assert [type(event) for event in events] == [Exit, Fork, Exec]
        assert [event.key.start_time_ns // _SECOND for event in events] == [2, 60, 60]

    def test_what_ended_is_forgotten(self, scene: Scene) -> None:
        scene.proc.remove(_SHELL)
        scene.walk()
        assert scene.walk() == []
        scene.stream.check_invariants()


class TestChanges:
    def test_another_name_alone_is_a_rename(self, scene: Scene) -> None:
        scene.proc.add(_SHELL, 2 * _SECOND, "renamed")
        key = ProcessKey(_SHELL, 2 * _SECOND)
        assert scene.walk() == [Rename(scene.now_ns, key, "renamed")]

    def test_another_name_and_program_is_an_exec(self, scene: Scene) -> None:
        scene.proc.add(_SHELL, 2 * _SECOND, "tool", args=b"tool\0-x\0", exe="/tool")
        (event,) = scene.walk()
        assert isinstance(event, Exec)
        assert (event.comm, event.executable, event.args) == ("tool", "/tool", ("tool", "-x"))

    def test_another_program_of_the_same_name_is_an_exec_if_it_is_the_first(
        self, scene: Scene
    ) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, forked=True)
        scene.walk()
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_INIT, args=b"sh\0-x\0")
        (event,) = scene.walk()
        assert isinstance(event, Exec)
        assert (event.args, event.parent) == (("sh", "-x"), ProcessKey(_INIT, _SECOND))

    def test_what_has_not_called_exec_only_has_another_name_though_it_changed_its_arguments(
        self, scene: Scene
    ) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, forked=True)
        scene.walk()
        key = scene.proc.add(
            _TOOL, 50 * _SECOND, "worker", ppid=_SHELL, args=b"title\0", forked=True
        )[0].key
        assert scene.walk() == [Rename(scene.now_ns, key, "worker")]

    def test_another_stack_is_an_exec_though_the_name_is_the_same(self, scene: Scene) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, stack=0x7FFF_0000_0000)
        scene.walk()
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, args=b"sh\0-x\0", stack=0x7FFE_0000_0000)
        (event,) = scene.walk()
        assert isinstance(event, Exec)
        assert event.args == ("sh", "-x")
        assert scene.walk() == []

    def test_another_name_and_arguments_on_the_same_stack_are_no_exec(self, scene: Scene) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, stack=0x7FFF_0000_0000)
        scene.walk()
        scene.proc.add(
            _TOOL, 50 * _SECOND, "title", ppid=_SHELL, args=b"title\0", stack=0x7FFF_0000_0000
        )
        assert scene.kinds() == [Rename]

    def test_a_stack_moves_a_little_in_the_middle_of_an_exec(self, scene: Scene) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, stack=0x7FFF_0000_1000)
        scene.walk()
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, stack=0x7FFF_0000_0000)
        assert scene.walk() == []

    def test_an_exec_that_was_read_a_little_after_the_walk_is_told_once(self, scene: Scene) -> None:
        scene.proc.add(_TOOL, 50 * _SECOND, ppid=_SHELL, forked=True)
        stats = [stat for stat, _ in scene.proc.processes.values()]
        scene.proc.add(_TOOL, 50 * _SECOND, "tool", ppid=_SHELL, args=b"tool\0")
        events, _ = scene.stream.feed(Walk(scene.now_ns, stats))
        assert [type(event) for event in events] == [Fork, Exec]
        assert scene.walk() == []

    def test_a_zombie_has_ended(self, scene: Scene) -> None:
        """Whether it is waited for is its parent's business."""
        scene.proc.end(_SHELL)
        (event,) = scene.walk()
        assert isinstance(event, Exit)
        assert event.key == ProcessKey(_SHELL, 2 * _SECOND)
        assert scene.walk() == []


def test_a_walk_counts_what_it_met(scene: Scene) -> None:
    scene.walk()
    assert scene.stream.summary() == {"walks": 2, "received": 4, "lost": 0}
