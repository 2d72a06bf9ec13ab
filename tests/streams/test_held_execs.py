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
        scene.kernel.time_ns += 20 * MS
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


@pytest.mark.parametrize("late_ms", [0, 15])
def test_a_name_that_was_taken_about_then_may_be_what_was_read(
    scene: FakeConnector, key: ProcessKey, late_ms: int
) -> None:
    at_ns = scene.now_ns()
    scene.poll()
    scene.kernel.time_ns += late_ms * MS
    scene.poll(scene.kernel.comm(CHILD, b"later"))
    assert told_later(scene) == Exec(at_ns, key)


def test_so_may_the_program_of_another_exec(scene: FakeConnector, key: ProcessKey) -> None:
    at_ns = scene.now_ns()
    scene.poll(scene.kernel.exec(CHILD))
    events = scene.stream.flush()
    assert [event.timestamp_ns for event in events] == [at_ns, scene.now_ns()]
    assert events[0] == Exec(at_ns, key)
    assert isinstance(events[1], Exec)
    assert events[1].comm == "tool"


def test_another_user_says_nothing_of_the_program(scene: FakeConnector, key: ProcessKey) -> None:
    scene.poll(scene.kernel.send(wire.UID, wire.id_body(CHILD, 1001, 1001)))
    event = told_later(scene)
    assert (event.key, event.comm, event.uid, event.gid) == (key, "tool", None, None)


@pytest.mark.usefixtures("key")
def test_a_change_long_after_it_was_read_is_none_of_it(scene: FakeConnector) -> None:
    scene.poll()
    scene.kernel.time_ns += 25 * MS
    scene.poll(scene.kernel.comm(CHILD, b"later"))
    assert [event.comm for event in scene.stream.flush() if isinstance(event, Exec)] == ["tool"]


@pytest.mark.usefixtures("key")
def test_what_happens_to_another_process_is_none_of_it(scene: FakeConnector) -> None:
    scene.poll(scene.kernel.comm(PARENT, b"later"))
    assert told_later(scene).comm == "tool"


def test_until_a_snapshot_has_been_taken_it_must_know_of_them_at_once() -> None:
    scene = FakeConnector()
    scene.child()
    (event,) = scene.poll(scene.kernel.exec(CHILD))
    assert isinstance(event, Exec)
    assert scene.stream.flush() == []
