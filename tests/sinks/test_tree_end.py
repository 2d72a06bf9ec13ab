"""The whole tree, drawn once when a trace ends."""

from __future__ import annotations

from proctree_bpf import Exit
from proctree_bpf.sinks.tree.family import Family
from support.made_up_processes import SECOND_NS, MadeUpProcesses
from support.tree_output import TreeOutput
from support.values import replace


def test_it_has_every_process_below_its_creator_in_order_of_birth() -> None:
    page = TreeOutput()
    scene = page.scene
    page.show(scene.fork(20), scene.exec(20, "make", comm="make"))
    page.show(scene.fork(30), scene.exec(30, "cron", comm="cron"))
    page.show(scene.fork(21, by=20), scene.exec(21, "cc"), scene.fork(22, by=20))
    page.show(scene.exec(22, "ld"), scene.fork(23, by=21), scene.exec(23, "as"))
    page.show(scene.exit(23), scene.exit(21, after_ns=2 * SECOND_NS), scene.exit(22, 11 | 0x80))
    page.show(scene.exit(20, 2 << 8))
    assert [line.rstrip() for line in page.end()] == [
        "     20 root              2    2.0s make",
        "     21 root              0    2.0s ├─ cc",
        "     23 root              0   2.5ms │  └─ as",
        "     22 root       SIGSEGV*    2.0s └─ ld",
        "     30 root        running         cron",
    ]


def test_cpu_time_has_a_column_if_any_is_known() -> None:
    page = TreeOutput()
    page.show(page.scene.fork(20), page.scene.exec(20, "make"))
    ended = page.scene.exit(20, after_ns=9 * SECOND_NS)
    page.show(replace(ended, process=replace(ended.process, cpu_ns=1_500_000_000)))
    page.sink.finish()
    header, line = page.lines()[-2:]
    assert header.split() == ["PID", "USER", "EXIT", "AGE", "CPU", "COMMAND"]
    assert line.split() == ["20", "root", "0", "9.0s", "1.5s", "make"]


def test_nothing_is_drawn_if_nothing_was_written() -> None:
    assert TreeOutput().end() == []


def test_an_end_that_was_missed_is_a_question_mark() -> None:
    page = TreeOutput()
    page.show(page.scene.fork(20), page.scene.exec(20, "lost"))
    page.scene.exit(20)
    assert page.end()[0].split() == ["20", "root", "?", "lost"]


def test_a_reused_pid_is_another_process_and_ends_the_former() -> None:
    page = TreeOutput()
    page.show(page.scene.fork(20), page.scene.exec(20, "old"))
    page.show(page.scene.fork(20), page.scene.exec(20, "new"))
    assert [line.split()[2:] for line in page.end()] == [["?", "old"], ["running", "new"]]


class TestBounds:
    """At most a named number of processes is kept; the others are counted."""

    def test_what_is_not_kept_is_counted_where_it_belongs(self) -> None:
        page = TreeOutput(family=Family(3))
        scene = page.scene
        page.show(scene.fork(20), scene.exec(20, "make"))
        for pid in range(21, 31):
            page.show(scene.fork(pid, by=20), scene.exec(pid, "cc"), scene.exit(pid))
        page.show(scene.fork(40), scene.exec(40, "other"), scene.exit(40))
        assert [line[36:].strip() for line in page.end()] == [
            "make",
            "├─ cc",
            "├─ cc",
            "└─ … and 8 more",
            "… and 1 more",
        ]

    def test_a_process_that_forks_itself_for_ever_does_not_fill_the_memory(self) -> None:
        page = TreeOutput(100, 24, family=(family := Family(3)))
        creator = 1
        for pid in range(1000, 3000):
            page.show(page.scene.fork(pid, by=creator), page.scene.exec(pid, "x"))
            if creator != 1:
                page.show(page.scene.exit(creator))
            creator = pid
            family.check_invariants()
        assert len(family) <= 4
        last, is_new = family.take(page.scene.exec(2999, "x"))
        assert not is_new
        assert len(last.line_of_descent()) < 30
        assert page.end()[-1].strip().endswith("… and 1997 more")


def test_a_family_tells_new_members_from_known_ones() -> None:
    scene, family = MadeUpProcesses(), Family()
    first, is_new = family.take(scene.fork(20))
    same, is_new_again = family.take(scene.exec(20, "x"))
    assert (first is same, is_new, is_new_again) == (True, True, False)
    ended, _ = family.take(scene.exit(20))
    assert isinstance(ended.exit, Exit)
