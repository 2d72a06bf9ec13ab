"""The table: which columns it has, and what is in each."""

from __future__ import annotations

import re

from proctree_bpf.sinks.fields import DEFAULT_FIELDS, FIELDS
from support.made_up_processes import SECOND_NS
from support.table_page import Page
from support.values import replace


class TestFields:
    def test_the_chosen_columns_come_in_the_chosen_order(self) -> None:
        page = Page(60, fields=("pid", "exit", "user"))
        page.scene.fork(20, uid=1000)
        rows = page.show(page.scene.exec(20, "x", uid=1000), page.scene.exit(20, 3 << 8))
        assert [row.split() for row in [page.lines()[0], *rows]] == [
            ["PID", "EXIT", "USER"],
            ["20", "ada"],
            ["20", "3", "ada"],
        ]

    def test_every_column_shows_what_is_known(self) -> None:
        page = Page(None, fields=tuple(FIELDS))
        page.clock.started_ns = page.scene.now_ns
        page.scene.fork(20, comm="cc", uid=1000, cgroup_id=4242)
        page.scene.exec(20, "cc", comm="cc", uid=1000)
        ended = page.scene.exit(20, 0, after_ns=SECOND_NS)
        process = replace(ended.process, cpu_ns=250_000_000)
        (row,) = page.show(replace(ended, process=process))
        time, *rest = row.split()
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", time)
        assert rest == [
            *("1.003", "exit", "20", "1", "ada", "1000", "cc", "0", "1.0s"),
            *("250.0ms", "4242", "cc", "init"),
        ]

    def test_a_parent_that_is_not_known_is_not_that_of_another_without_one(self) -> None:
        page = Page(None, fields=("pid", "ppid"))
        told = [page.scene.fork(pid, comm="same") for pid in (2, 20)]
        for each in told:
            each.process.ppid = each.process.creator_start_ns = 0
        assert [row.split() for row in page.show(*told)] == [["2", "0"], ["20", "?"]]

    def test_what_is_not_known_is_blank(self) -> None:
        page = Page(None, fields=("pid", "cpu", "cgroup", "age", "exit"))
        page.scene.fork(20)
        (row,) = page.show(page.scene.exec(20, "x"))
        assert row.split() == ["20"]

    def test_no_chosen_column_is_left_out_of_a_narrow_table(self) -> None:
        page = Page(50, fields=DEFAULT_FIELDS[:8])
        page.show()
        assert page.lines()[0].startswith("TIME(UTC)    EVENT     PID    PPID")

    def test_a_command_need_not_be_the_last_column(self) -> None:
        page = Page(40, fields=("command", "pid"))
        page.scene.fork(20)
        (row,) = page.show(page.scene.exec(20, "x" * 500))
        assert row == "x" * 31 + "…      20"

    def test_ancestry_alone_has_all_the_room(self) -> None:
        page = Page(40, fields=("pid", "ancestry"))
        last = page.scene.line_of("a", "b", "c")
        (row,) = page.show(page.scene.fork(20, by=last))
        assert row == "     20 c < b < a < init"


def test_only_so_many_arguments_are_shown_as_were_asked_for() -> None:
    page = Page(None, fields=("command",), max_args=1)
    page.scene.fork(20)
    rows = page.show(page.scene.exec(20, "cc", "-c", "x.c"), page.scene.exec(20, "ld", "x"))
    assert rows == [f"{'cc -c …':40}".rstrip(), "ld x"]


def test_seconds_count_from_the_start_of_the_trace() -> None:
    page = Page(None, fields=("timestamp", "pid"))
    page.clock.started_ns = page.scene.now_ns + SECOND_NS
    page.scene.fork(20)
    rows = page.show(page.scene.exec(20, "early"), page.scene.exit(20, after_ns=90 * SECOND_NS))
    assert [row.split()[0] for row in rows] == ["0.000", "89.003"]
