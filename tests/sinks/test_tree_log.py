"""The tree where lines can only be added: a file, a pipe, a CI log."""

from __future__ import annotations

import pytest

from proctree_bpf import Gap
from support.made_up_processes import SECOND_NS
from support.tree_output import TreeOutput


@pytest.fixture
def page() -> TreeOutput:
    return TreeOutput()


def test_a_process_gets_a_line_when_it_starts_and_one_when_it_ends(page: TreeOutput) -> None:
    page.scene.fork(20, uid=1000)
    begun = page.show(page.scene.exec(20, "make", "-j4", comm="make", uid=1000))
    ended = page.show(page.scene.exit(20, 2 << 8, after_ns=3 * SECOND_NS))
    assert begun == ["     20 ada                         make -j4"]
    assert ended[1:] == ["     20 ada               2    3.0s make -j4"]


def test_one_that_starts_and_ends_within_a_batch_gets_one_line(page: TreeOutput) -> None:
    shown = [page.scene.fork(20), page.scene.exec(20, "true"), page.scene.exit(20, 9)]
    (line,) = page.show(*shown)
    assert line.split() == ["20", "root", "SIGKILL", "2.5ms", "true"]


def test_children_are_indented_below_their_creators(page: TreeOutput) -> None:
    shown = [page.scene.fork(20), page.scene.exec(20, "make")]
    shown += [page.scene.fork(21, by=20), page.scene.exec(21, "sh", "-c", "cc")]
    shown += [page.scene.fork(22, by=21), page.scene.exec(22, "cc"), page.scene.exit(22)]
    commands = [line[36:] for line in page.show(*shown)]
    assert commands == ["make", "  sh -c cc", "    cc"]


def test_a_process_whose_creator_was_not_written_is_a_root(page: TreeOutput) -> None:
    page.scene.fork(20)
    (line,) = page.show(page.scene.fork(21, by=20), page.scene.exec(21, "cc"))
    assert line[36:] == "cc"


def test_a_line_that_cannot_stand_below_its_creator_names_it(page: TreeOutput) -> None:
    scene = page.scene
    for pid, name in ((20, "one"), (30, "two")):
        page.show(scene.fork(pid), scene.exec(pid, name, comm=name))
    page.show(scene.fork(21, by=20), scene.exec(21, "cc"))
    page.show(scene.fork(22, by=20), scene.exec(22, "ld"))
    commands = [line[36:] for line in page.lines()[1:]]
    # The second stands below the first one, so it need not say it again.
    assert commands == ["one", "two", "  cc < one 20", "  ld"]


def test_a_fork_waits_for_its_exec_so_that_the_line_names_what_runs(page: TreeOutput) -> None:
    assert page.show(page.scene.fork(20, comm="bash")) == []
    (line,) = page.show(page.scene.exec(20, "grep"))
    assert line[36:] == "grep"


def test_a_fork_without_exec_is_shown_at_the_second_flush(page: TreeOutput) -> None:
    page.show(page.scene.fork(20, comm="worker"))
    (line,) = page.show()
    assert line[36:] == "[worker]"


def test_a_creator_is_shown_before_its_child_though_it_did_not_exec(page: TreeOutput) -> None:
    shown = [page.scene.fork(20, comm="worker"), page.scene.fork(21, by=20)]
    lines = page.show(*shown, page.scene.exec(21, "cc"))
    assert [line[36:] for line in lines] == ["[worker]", "  cc"]


def test_an_end_alone_is_shown_too(page: TreeOutput) -> None:
    page.scene.fork(20)
    page.scene.exec(20, "sleep")
    (line,) = page.show(page.scene.exit(20, 0, after_ns=SECOND_NS))
    assert line.split() == ["20", "root", "0", "1.0s", "sleep"]


def test_what_was_lost_is_told_among_the_lines(page: TreeOutput) -> None:
    page.sink.gap(Gap(5, "bpf", 3, "exec", 0))
    assert page.show() == ["gap   3 exec records lost on CPU 0"]


def test_a_very_deep_descent_is_numbered_instead_of_indented(page: TreeOutput) -> None:
    shown, creator = [], 1
    for pid in range(1000, 1050):
        shown += [page.scene.fork(pid, by=creator), page.scene.exec(pid, f"g{pid}")]
        creator = pid
    lines = page.show(*shown)
    assert lines[32][36:] == "  " * 32 + "g1032"
    assert lines[33][36:] == "  " * 32 + "[depth 33] g1033"
    assert not any("<" in line for line in lines)


def test_only_so_many_arguments_are_shown_as_were_asked_for() -> None:
    page = TreeOutput(max_args=2)
    page.scene.fork(20)
    lines = page.show(page.scene.exec(20, "cc", "-c", "-O2", "x.c"), page.scene.exec(20, "ld", "x"))
    page.scene.fork(21)
    lines = page.show(page.scene.exec(21, "cc", "-c", "-O2", "x.c"))
    assert [line[36:] for line in lines] == ["ld x", "cc -c -O2 …"]


def test_times_stand_in_front_if_asked_for() -> None:
    page = TreeOutput(times=("time", "timestamp"))
    page.clock.started_ns = page.scene.now_ns
    page.show(page.scene.fork(20), page.scene.exec(20, "make"))
    page.show(page.scene.exit(20, 0, after_ns=65 * SECOND_NS))
    assert [line[:24] for line in page.lines()] == [
        "TIME(UTC)       TIME(s) ",
        "00:01:40.002      0.001 ",
        "00:02:45.004     65.003 ",
    ]


def test_a_dumb_terminal_gets_no_line_that_is_too_long() -> None:
    page = TreeOutput(columns=60)
    page.scene.fork(20)
    (line,) = page.show(page.scene.exec(20, "x" * 500))
    assert len(line) == 59


def test_a_burst_is_written_before_the_batch_ends(page: TreeOutput) -> None:
    for pid in range(1000, 2000):
        page.sink.write(page.scene.fork(pid))
        page.sink.write(page.scene.exec(pid, "true"))
    assert len(page.lines()) > 700
