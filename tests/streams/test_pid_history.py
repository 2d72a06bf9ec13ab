"""Of a PID that is had again before word of an end comes: whose end it is, and with what status.

The word of one that had been waited for when it was sent names no parent.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.core.events import Exit
from support import connector_messages as wire
from support.fake_connector import CHILD, PARENT, SECOND, FakeConnector

if TYPE_CHECKING:
    from proctree_bpf.core.identity import ProcessKey

REAPED = 0
THREAD = CHILD + 1


def end(scene: FakeConnector, code: int, parent: int = REAPED, tid: int = 0) -> bytes:
    return scene.kernel.exit(CHILD, code << 8, parent=parent, tid=tid)


def told(scene: FakeConnector, *polls: list[bytes]) -> dict[ProcessKey, int | None]:
    """Return the exit codes by process; each must be told to have ended once."""
    ends = [e for datagrams in polls for e in scene.poll(*datagrams) if isinstance(e, Exit)]
    codes = {e.key: e.exit_code for e in ends}
    assert len(codes) == len(ends)
    return codes


@pytest.mark.parametrize("late_first", [True, False])
@pytest.mark.parametrize("in_one_poll", [True, False])
def test_what_names_a_parent_tells_which_of_the_words_is_whose(
    scene: FakeConnector, *, late_first: bool, in_one_poll: bool
) -> None:
    former, latter = scene.child(), scene.child()
    if late_first and not in_one_poll:  # else its end is told in the same poll, or before
        scene.proc.add(CHILD, scene.now_ns() - 1)
    codes = (3, 4) if late_first else (4, 3)
    words = [end(scene, code, REAPED if code == 3 else PARENT) for code in codes]
    polls = [words] if in_one_poll else [[word] for word in words]
    assert told(scene, *polls) == {former: 3, latter: 4}


def test_while_the_present_holder_lives_word_is_of_a_former_one(scene: FakeConnector) -> None:
    former, latter = scene.child(), scene.child()
    assert told(scene, [end(scene, 3)]) == {former: 3}
    scene.proc.remove(CHILD)
    assert told(scene, [end(scene, 4)]) == {latter: 4}


@pytest.mark.parametrize("in_one_poll", [True, False])
def test_where_it_may_be_eithers_neither_has_a_status(
    scene: FakeConnector, *, in_one_poll: bool
) -> None:
    former, latter = scene.child(), scene.child()
    scene.proc.remove(CHILD)
    words = [end(scene, 3), end(scene, 4)]
    polls = [words] if in_one_poll else [[word] for word in words]
    assert told(scene, *polls) == {former: None, latter: None}


@pytest.mark.parametrize("order", list(permutations((3, 4, 5))))
def test_of_three_nobody_has_anothers_status(scene: FakeConnector, order: tuple[int, ...]) -> None:
    holders = [scene.child() for _ in range(3)]
    truth = dict(zip(holders, (3, 4, 5), strict=True))
    scene.proc.remove(CHILD)
    words = [[end(scene, code, PARENT if code == 5 else REAPED)] for code in order]
    codes = told(scene, *words)
    assert codes.keys() == truth.keys()
    assert all(code in {truth[holder], None} for holder, code in codes.items())


def test_word_that_was_stamped_before_the_pid_was_had_again_is_the_formers(
    scene: FakeConnector,
) -> None:
    """Though it was sent after word of the latter's end."""
    former = scene.child()
    late = scene.kernel.send(wire.EXIT, wire.exit_body(CHILD, 3 << 8, parent=PARENT), cpu=1)
    latter = scene.child()
    scene.proc.remove(CHILD)
    assert told(scene, [end(scene, 4)], [late]) == {former: None, latter: None}


def test_with_a_fork_between_two_words_neither_has_anothers_status(scene: FakeConnector) -> None:
    former, latter = scene.child(), scene.child()
    words = [end(scene, 4), scene.kernel.fork(PARENT, CHILD), end(scene, 3), end(scene, 5, PARENT)]
    scene.proc.remove(CHILD)
    codes = told(scene, words)
    assert (codes.pop(former), codes.pop(latter)) == (None, None)
    assert list(codes.values()) == [5]


def test_the_thread_of_the_present_holder_is_not_taken_for_a_formers(scene: FakeConnector) -> None:
    former, latter = scene.child(), scene.child()
    scene.poll(scene.kernel.thread(CHILD, THREAD))
    assert told(scene, [end(scene, 0, tid=THREAD)], [end(scene, 3)]) == {former: 3}
    assert told(scene, [end(scene, 4, PARENT)]) == {latter: 4}


@pytest.mark.parametrize("parent", [PARENT, REAPED])
def test_a_former_holder_that_waits_for_word_of_its_thread_gets_it(
    scene: FakeConnector, parent: int
) -> None:
    former = scene.child()
    scene.poll(scene.kernel.thread(CHILD, THREAD), end(scene, 3, PARENT))
    latter = scene.child()
    scene.proc.remove(CHILD)
    assert told(scene, [end(scene, 4, parent)]) == {latter: 4}
    assert told(scene, [end(scene, 3, tid=THREAD)]) == {former: 3}


@pytest.mark.parametrize(("after_ns", "code"), [(600 * SECOND, 4), (SECOND, None)])
def test_one_whose_end_was_lost_does_not_take_that_of_who_comes_after(
    scene: FakeConnector, after_ns: int, code: int | None
) -> None:
    """Soon after, it may still be word of the former."""
    scene.child()
    scene.kernel.drop(1)
    scene.poll(scene.kernel.fork(PARENT, CHILD + 5))  # here the loss shows
    latter = scene.child()
    scene.kernel.time_ns += after_ns
    scene.proc.remove(CHILD)
    assert told(scene, [end(scene, 4)]) == {latter: code}


def test_word_that_is_owed_when_messages_are_lost_is_not_taken_for_the_present_holders(
    scene: FakeConnector,
) -> None:
    former, latter = scene.child(), scene.child()
    scene.kernel.drop(1)
    assert told(scene, [end(scene, 3)]) == {former: 3}
    scene.proc.remove(CHILD)
    assert told(scene, [end(scene, 4, PARENT)]) == {latter: 4}


def test_a_suspend_does_not_give_the_formers_end_to_who_lives(scene: FakeConnector) -> None:
    former, latter = scene.child(), scene.child()
    word = end(scene, 3)
    scene.offset_ns += 60 * SECOND
    assert told(scene, [word]) == {former: 3}
    assert told(scene, [end(scene, 4, PARENT)]) == {latter: 4}


def test_who_lived_through_a_loss_is_known_by_word_that_names_a_parent(
    scene: FakeConnector,
) -> None:
    former = scene.child()
    scene.kernel.drop(1)
    scene.poll(scene.kernel.fork(PARENT, CHILD + 5))  # here the loss shows
    scene.kernel.time_ns += 600 * SECOND
    late = scene.kernel.send(wire.EXIT, wire.exit_body(CHILD, 3 << 8, parent=PARENT), cpu=1)
    scene.child()
    assert told(scene, [late]) == {former: 3}


def test_an_end_for_which_no_word_of_its_own_is_left_is_told_too(scene: FakeConnector) -> None:
    former = scene.child()
    late = scene.kernel.send(wire.EXIT, wire.exit_body(CHILD, 3 << 8, parent=REAPED), cpu=1)
    latter = scene.child()
    scene.proc.remove(CHILD)
    assert told(scene, [end(scene, 4)], [late]) == {former: None, latter: None}


def test_the_old_leader_of_an_exec_is_not_taken_for_the_end_of_its_process(
    scene: FakeConnector,
) -> None:
    former = scene.child()
    words = [
        scene.kernel.fork(PARENT, CHILD), scene.kernel.thread(CHILD, THREAD),
        end(scene, 0, PARENT), scene.kernel.exec(CHILD), end(scene, 4), end(scene, 3),
    ]  # fmt: skip
    scene.proc.remove(CHILD)
    codes = told(scene, words)
    assert codes.pop(former) is None
    assert list(codes.values()) == [None]


def test_what_never_comes_is_not_waited_for_without_bound(scene: FakeConnector) -> None:
    for _ in range(100):
        scene.child()
        scene.stream.check_invariants()
