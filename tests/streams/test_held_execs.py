"""What /proc shows of an exec is told once it is sure to be of that one."""

from __future__ import annotations

import pytest

from proctree_bpf import Exec, ProcessKey
from support import connector_messages as wire
from support.fake_connector import CHILD, MS, PARENT, FakeConnector


@pytest.fixture
def scene() -> FakeConnector:
    """Return a stream that has met the processes that are there."""
    scene = FakeConnector()
    scene.stream.meet([stat for stat, _ in scene.proc.processes.values()])
    scene.stream.meet([])
    scene.poll()
    return scene


@pytest.fixture
def key(scene: FakeConnector) -> ProcessKey:
    """Let a child call exec, which /proc shows; nothing is told yet."""
    key = scene.child()
    scene.proc.add(CHILD, key.start_time_ns, "tool", ppid=PARENT, args=b"tool\0")
    assert scene.poll(scene.kernel.exec(CHILD)) == []
    return key


def told_later(scene: FakeConnector) -> Exec:
    """Return what is told of the exec once it is sure."""
    for _ in range(5):
        scene.kernel.time_ns += 40 * MS
        for event in scene.poll():
            assert isinstance(event, Exec)
            return event
    raise AssertionError("it was never told")


def test_an_exec_is_told_when_no_other_change_can_have_been_read(
    scene: FakeConnector, key: ProcessKey
) -> None:
    at_ns = scene.now_ns()
    scene.kernel.time_ns += 5 * MS
    assert scene.poll() == []
    assert scene.watermark_ns <= at_ns
    event = told_later(scene)
    assert (event.key, event.comm, event.args) == (key, "tool", ("tool",))
    assert event.timestamp_ns == at_ns < scene.watermark_ns


@pytest.mark.parametrize("late_ms", [0, 95])
def test_a_name_that_was_taken_about_then_may_be_what_was_read(
    scene: FakeConnector, key: ProcessKey, late_ms: int
) -> None:
    at_ns = scene.now_ns()
    scene.poll()
    scene.kernel.time_ns += late_ms * MS
    scene.poll(scene.kernel.comm(CHILD, b"tool"))
    assert told_later(scene) == Exec(at_ns, key)


@pytest.mark.usefixtures("key")
def test_another_name_than_was_read_was_taken_later(scene: FakeConnector) -> None:
    scene.poll(scene.kernel.comm(CHILD, b"later"))
    assert told_later(scene).comm == "tool"


@pytest.mark.parametrize(
    ("args", "stacks", "told"),
    [
        (b"tool\0", (0, 0), None),
        (b"later\0", (0, 0), "tool"),
        (b"tool\0", (0x7FFF_0000_0000, 0x7FFE_0000_0000), "tool"),
        (b"title\0", (0x7FFF_0000_0000, 0x7FFF_0000_0000), None),
        (None, (0, 0), None),
    ],
)
def test_what_was_read_before_another_exec_is_not_what_that_one_runs(
    scene: FakeConnector, args: bytes | None, stacks: tuple[int, int], told: str | None
) -> None:
    key = scene.child()
    for run, stack in zip((b"tool\0", args), stacks, strict=True):
        scene.proc.add(CHILD, key.start_time_ns, "tool", ppid=PARENT, args=run, stack=stack)
        if run is None:
            scene.proc.remove(CHILD)
        scene.poll(scene.kernel.exec(CHILD))
    first = next(event for event in scene.stream.flush() if isinstance(event, Exec))
    assert (first.comm, first.args_raw) == (told, told and b"tool\0")


def test_of_three_execs_at_once_only_the_last_is_sure(scene: FakeConnector) -> None:
    """What was read of the first may be what the second runs, if that was read too late, too."""
    key = scene.child()
    for name, stack in (
        (b"two\0", 0x7FFF_0000_0000),
        (b"three\0", 0x7FFE_0000_0000),
        (b"three\0", 0x7FFE_0000_0000),
    ):
        scene.proc.add(CHILD, key.start_time_ns, "tool", ppid=PARENT, args=name, stack=stack)
        scene.poll(scene.kernel.exec(CHILD))
    told = []
    while len(told) < 3:
        scene.kernel.time_ns += 40 * MS
        told += [event.args for event in scene.poll() if isinstance(event, Exec)]
    assert told == [(), (), ("three",)]


def test_of_two_the_first_is_told_with_the_second(scene: FakeConnector) -> None:
    key = scene.child()
    for name, stack in ((b"one\0", 0x7FFF_0000_0000), (b"two\0", 0x7FFE_0000_0000)):
        scene.proc.add(CHILD, key.start_time_ns, "tool", ppid=PARENT, args=name, stack=stack)
        scene.poll(scene.kernel.exec(CHILD))
        scene.kernel.time_ns += 60 * MS
    assert scene.poll() == []
    scene.kernel.time_ns += 120 * MS
    told = [event.args for event in scene.poll() if isinstance(event, Exec)]
    assert told == [("one",), ("two",)]


def test_another_user_says_nothing_of_the_program(scene: FakeConnector, key: ProcessKey) -> None:
    scene.poll(scene.kernel.send(wire.UID, wire.id_body(CHILD, 1001, 1001)))
    event = told_later(scene)
    assert (event.key, event.comm, event.uid, event.gid) == (key, "tool", None, None)


@pytest.mark.usefixtures("key")
def test_a_change_long_after_it_was_read_is_none_of_it(scene: FakeConnector) -> None:
    scene.poll()
    scene.kernel.time_ns += 105 * MS
    scene.poll(scene.kernel.comm(CHILD, b"tool"))
    assert [event.comm for event in scene.stream.flush() if isinstance(event, Exec)] == ["tool"]


@pytest.mark.usefixtures("key")
def test_what_happens_to_another_process_is_none_of_it(scene: FakeConnector) -> None:
    scene.poll(scene.kernel.comm(PARENT, b"tool"))
    assert told_later(scene).comm == "tool"


def test_until_a_snapshot_has_been_taken_it_must_know_of_them_at_once() -> None:
    scene = FakeConnector()
    scene.child()
    (event,) = scene.poll(scene.kernel.exec(CHILD))
    assert isinstance(event, Exec)
    assert scene.stream.flush() == []
