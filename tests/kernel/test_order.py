"""The order in which events are handed out: causes before their effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proctree_bpf import Exit, Fork
from support.live_collector import as_identity

if TYPE_CHECKING:
    from proctree_bpf import ProcessEvent, ProcessKey, ProcEvent
    from support.actor import Stage
    from support.live_collector import LiveCollector
    from support.proc_truth import Identity


def _positions(applied: list[ProcessEvent]) -> dict[tuple[type, Identity], list[int]]:
    found: dict[tuple[type, Identity], list[int]] = {}
    for position, one in enumerate(applied):
        found.setdefault((type(one.event), as_identity(one.event.key)), []).append(position)
    return found


@pytest.mark.parametrize(("width", "depth"), [(3, 5), (30, 2)])
def test_a_family_is_handed_out_parents_first_and_each_member_once(
    live: LiveCollector, stage: Stage, width: int, depth: int
) -> None:
    before = len(live.applied)
    actor = stage.played("family", str(width), str(depth))
    live.fence()
    children = actor.all_of("child")
    assert len(children) == sum(width**level for level in range(1, depth + 1))
    seen = live.applied[before:]
    at = _positions(seen)
    for child in children:
        (born,), (ended,) = at[Fork, child.who], at[Exit, child.who]
        fork, last = seen[born].event, seen[ended].event
        assert isinstance(fork, Fork)
        assert isinstance(last, Exit)
        creator = as_identity(fork.creator)
        assert creator.pid == child.ppid
        assert at[Fork, creator][0] < born < ended < at[Exit, creator][0]
        assert last.status == child.status


def test_an_exec_comes_after_its_fork_and_an_exit_last(live: LiveCollector, stage: Stage) -> None:
    children = [
        stage.played("spawn", stage.helpers.quit, str(code)).await_report("child")
        for code in range(40)
    ]
    live.fence()
    assert {tuple(live.kinds(child.who)) for child in children} == {("Fork", "Exec", "Exit")}


def test_everything_is_handed_out_in_the_order_of_time(live: LiveCollector, stage: Stage) -> None:
    stage.played("family", "4", "3")
    live.fence()
    times = [applied.event.timestamp_ns for applied in live.applied]
    assert times == sorted(times)


def test_no_event_ever_comes_before_its_processs_fork_or_after_its_exit(
    live: LiveCollector, stage: Stage
) -> None:
    stage.played("family", "4", "3")
    live.fence()
    born: set[ProcessKey] = set()
    ended: set[ProcessKey] = set()
    strays: list[ProcEvent] = []
    for applied in tuple(live.applied):
        event = applied.event
        if isinstance(event, Fork):
            if event.child in born or event.creator in ended:
                strays.append(event)
            born.add(event.child)
        elif event.key in ended:
            strays.append(event)
        if isinstance(event, Exit):
            ended.add(event.key)
    assert strays == []
