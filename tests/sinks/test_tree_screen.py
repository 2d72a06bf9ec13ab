"""The tree where lines can be rewritten: what the screen shows, and what it never touches.

The screen of these tests fails on a cursor that would leave it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf import Gap
from support.hostile_names import unhurried
from support.made_up_processes import SECOND_NS
from support.tree_output import TreeOutput

if TYPE_CHECKING:
    from proctree_bpf import ProcessEvent


def start(page: TreeOutput, pid: int, command: str, by: int = 1) -> list[ProcessEvent]:
    """Let a process start; its name is its command's."""
    return [page.scene.fork(pid, by=by), page.scene.exec(pid, command, comm=command)]


def commands(lines: list[str]) -> list[str]:
    return [line[36:] for line in lines]


def test_a_line_is_completed_where_it_stands() -> None:
    page = TreeOutput(80, 24)
    page.show(*start(page, 20, "make"), *start(page, 30, "cron"))
    lines = page.show(page.scene.exit(20, 2 << 8, after_ns=3 * SECOND_NS))
    assert lines == [
        "     20 root              2    3.0s make",
        "     30 root                        cron",
    ]


def test_a_fork_turns_into_what_it_runs() -> None:
    page = TreeOutput(80, 24)
    assert commands(page.show(page.scene.fork(20, comm="bash"))) == ["[bash]"]
    assert commands(page.show(page.scene.exec(20, "grep"))) == ["grep"]


def test_a_child_is_put_below_its_creator_and_its_brothers() -> None:
    page = TreeOutput(80, 24)
    page.show(*start(page, 20, "make"), *start(page, 30, "cron"))
    page.show(*start(page, 21, "sh", by=20), *start(page, 31, "job", by=30))
    page.show(*start(page, 22, "ld", by=20), *start(page, 23, "cc", by=21))
    assert commands(page.lines()[1:]) == ["make", "  sh", "    cc", "  ld", "cron", "  job"]


def test_what_has_scrolled_off_is_ended_by_another_line() -> None:
    page = TreeOutput(80, 5)
    page.show(*start(page, 20, "make"))
    for pid in range(21, 30):
        page.show(*start(page, pid, f"cc{pid}", by=20))
    lines = page.show(page.scene.exit(20, 2 << 8))
    assert lines[0].split() == ["20", "root", "make"]
    assert lines[-1].split()[:3] == ["20", "root", "2"]
    assert len(lines) == 11


def test_the_children_of_one_that_has_scrolled_off_stand_with_their_brothers() -> None:
    page = TreeOutput(80, 5)
    page.show(*start(page, 20, "make"))
    for pid in range(21, 40):
        page.show(*start(page, pid, f"cc{pid}", by=20), page.scene.exit(pid))
    assert not any("<" in line for line in page.lines())


def test_a_child_far_from_its_creator_names_it() -> None:
    page = TreeOutput(80, 4)
    for pid in (20, 30, 40, 50, 60):
        page.show(*start(page, pid, f"p{pid}"))
    page.show(*start(page, 21, "late", by=20))
    assert commands(page.lines())[-1] == "  late < p20 20"


def test_nothing_is_sent_when_nothing_has_changed() -> None:
    page = TreeOutput(80, 24)
    page.show(*start(page, 20, "make"))
    before = page.out.getvalue()
    page.show()
    assert page.out.getvalue() == before


def test_lines_above_the_first_change_are_left_alone() -> None:
    page = TreeOutput(80, 24)
    page.show(*start(page, 20, "first"), *start(page, 30, "second"))
    before = len(page.out.getvalue())
    page.show(page.scene.exit(30))
    assert "first" not in page.out.getvalue()[before:]


def test_a_changed_width_leaves_everything_above_alone() -> None:
    page = TreeOutput(80, 24)
    page.show(*start(page, 20, "make"))
    page.resize(60, 24)
    lines = page.show(page.scene.exit(20))
    assert [line.split()[2:] for line in lines] == [["make"], ["0", "2.5ms", "make"]]


def test_a_lower_window_is_rewritten_as_far_as_it_reaches() -> None:
    page = TreeOutput(80, 24)
    page.show(*start(page, 20, "top"))
    for pid in range(21, 31):
        page.show(*start(page, pid, f"p{pid}"))
    page.resize(80, 5)
    page.show(page.scene.exit(20), page.scene.exit(30))
    ended = [line for line in page.lines() if "ms" in line]
    assert [line.split()[0] for line in ended] == ["30", "20"]
    assert len(page.lines()) == 13


def test_a_burst_larger_than_the_screen_is_written_in_order() -> None:
    page = TreeOutput(80, 5)
    page.show(*[record for pid in range(1000, 2000) for record in start(page, pid, f"p{pid}")])
    assert commands(page.lines()[1:]) == [f"p{pid}" for pid in range(1000, 2000)]


def test_what_was_lost_is_told_where_it_was_noticed() -> None:
    page = TreeOutput(80, 24)
    page.show(*start(page, 20, "make"))
    page.sink.gap(Gap(5, "bpf", 3, "exec"))
    page.show(page.scene.exit(20))
    assert [line.strip()[:12] for line in page.lines()[1:]] == ["20 root     ", "gap   3 exec"]


_moves = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 30)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("rows"), st.integers(1, 12)),
        st.tuples(st.just("columns"), st.integers(50, 120)),
    ),
    max_size=120,
)


@unhurried
@given(_moves, st.integers(1, 12))
def test_whatever_happens_everybody_starts_once_and_ends_once(
    moves: list[tuple[str, int]], rows: int
) -> None:
    page = TreeOutput(120, rows)
    living, ended, pid = [1], [], 1000
    for move, number in moves:
        if move == "start":
            pid += 1
            creator = living[number % len(living)]
            for process_event in start(page, pid, f"p{pid}", by=creator):
                page.sink.write(process_event)
            living.append(pid)
        elif move == "end" and len(living) > 1:
            ended.append(living.pop(1 + number % (len(living) - 1)))
            page.sink.write(page.scene.exit(ended[-1]))
        elif move == "flush":
            page.show()
        elif move == "rows":
            page.resize(page.layout.columns or 0, number)
        elif move == "columns":
            page.resize(max(number, page.screen.columns), page.layout.rows or 0)
    lines = page.show()
    for one in range(1001, pid + 1):
        own = [line for line in lines if re.match(rf" *{one} ", line)]
        complete = [line for line in own if re.search(r" 0 +[\d.]+(ms|s|us) ", line)]
        assert len(complete) == (one in ended), own
        assert len(own) - len(complete) <= 1, own
        assert own
