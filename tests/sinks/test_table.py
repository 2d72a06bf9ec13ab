"""The table: every row fits, nothing leaves its cell, and what is cut is the middle."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf import Gap
from proctree_bpf.sinks.layout import Layout
from support.hostile_names import arguments, comms, unhurried
from support.made_up_processes import SECOND_NS
from support.screen import cells
from support.table_page import Page

_CODED = re.compile(r"\x1b\[\d+m")


class TestContent:
    def test_a_row_names_everything_about_a_process(self) -> None:
        page = Page(160)
        page.scene.fork(10, comm="bash", uid=1000)
        page.scene.fork(20, by=10, comm="bash", uid=1000)
        page.scene.exec(20, "grep", "-r", "two words", comm="grep", uid=1000)
        (row,) = page.show(page.scene.exit(20, 1 << 8, after_ns=3 * SECOND_NS))
        time, event, pid, ppid, user, comm, code, age, *rest = row.split()
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", time)
        assert [event, pid, ppid, user, comm] == ["exit", "20", "10", "ada", "grep"]
        assert [code, age] == ["1", "3.0s"]
        assert rest == ["grep", "-r", "'two", "words'", "bash", "<", "init"]

    def test_the_header_comes_once_and_before_the_first_row(self) -> None:
        page = Page(120)
        page.show(page.scene.fork(10))
        page.show(page.scene.exit(10))
        headers = [number for number, line in enumerate(page.lines()) if "ANCESTRY" in line]
        assert headers == [0]

    def test_a_silent_trace_still_shows_its_header(self) -> None:
        page = Page(120)
        assert page.show() == []
        assert "PID" in page.lines()[0]

    def test_a_process_without_exec_shows_its_creators_command_in_parentheses(self) -> None:
        page = Page(160)
        page.scene.exec(1, "/sbin/init", "splash", comm="init")
        (row,) = page.show(page.scene.fork(20, comm="init"))
        assert "(/sbin/init splash)" in row

    def test_a_process_without_arguments_shows_its_name_in_brackets(self) -> None:
        page = Page(160)
        (row,) = page.show(page.scene.fork(20, comm="kworker/0:1"))
        assert "[kworker/0:1]" in row

    def test_cut_arguments_end_with_an_ellipsis(self) -> None:
        page = Page(160)
        page.scene.fork(20)
        (row,) = page.show(page.scene.exec(20, "cat", "a", truncated=True))
        assert "cat a …" in row

    def test_the_parent_is_the_kernels_while_the_ancestry_is_by_creation(self) -> None:
        page = Page(160)
        page.scene.fork(10, comm="shell")
        page.scene.fork(20, by=10, comm="daemon")
        page.scene.exit(10)
        exec_record = page.scene.exec(20, "daemon", comm="daemon", parent=page.scene.key(1))
        (row,) = page.show(exec_record)
        assert row.split()[2:4] == ["20", "1"]
        assert row.endswith("shell < init")

    def test_an_unseen_creator_is_a_question_mark(self) -> None:
        page = Page(160)
        page.scene.set_key(77, page.scene.key(1)._replace(pid=77))
        (row,) = page.show(page.scene.fork(20, by=77))
        assert row.endswith(" ?")

    def test_a_row_written_while_events_are_missing_says_so(self) -> None:
        page = Page(160)
        page.scene.tracker.uncertain = True
        (row,) = page.show(page.scene.fork(20))
        assert row.endswith("init (uncertain)")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "0"),
        (255 << 8, "255"),
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGSEGV | 0x80, "SIGSEGV*"),
        (signal.SIGVTALRM | 0x80, "SIGVTAL*"),
        (signal.SIGRTMIN + 3, "SIG37"),
        (None, "?"),
    ],
)
def test_an_end_is_a_code_a_signal_or_unknown(status: int | None, text: str) -> None:
    page = Page(160)
    page.scene.fork(20)
    (row,) = page.show(page.scene.exit(20, status))
    assert row.split()[6] == text


class TestWidth:
    @pytest.mark.parametrize("columns", [80, 100, 104, 120, 200])
    @unhurried
    @given(comm=comms(), args=arguments(), ancestor=comms())
    def test_a_row_fits_whatever_the_names_are(
        self, columns: int, comm: str, args: list[str], ancestor: str
    ) -> None:
        page = Page(columns)
        parent = page.scene.line_of(ancestor, "bash", ancestor)
        page.scene.fork(20, by=parent)
        page.show(page.scene.exec(20, *args, comm=comm), page.scene.exit(20, 9))
        assert max(map(cells, page.lines())) <= columns

    @pytest.mark.parametrize(
        "text",
        [
            "\u6f22" * 200,
            "e\u0301" * 200,
            "\U0001f980" * 200,
            "\uff21" * 200,
            "\u05d0" * 200,
            "\u0939\u093f\u0928\u094d\u0926\u0940" * 40,
            "x" * 9999,
        ],
        ids=["CJK", "combining", "emoji", "fullwidth", "Hebrew", "Hindi", "ASCII"],
    )
    @pytest.mark.parametrize("columns", [80, 105, 106, 107, 160])
    def test_wide_and_combining_characters_are_counted_as_the_terminal_does(
        self, text: str, columns: int
    ) -> None:
        page = Page(columns)
        page.scene.fork(20, comm=text[:5])
        (row,) = page.show(page.scene.exec(20, text, comm=text[:5]))
        assert cells(row) <= columns

    def test_columns_stay_aligned_below_wide_names(self) -> None:
        page = Page(160)
        page.scene.set_key(4_194_304, page.scene.key(1))
        page.scene.fork(4_194_303, comm="x", uid=4_294_967_294)
        page.scene.fork(7, comm="\u6f22\u5b57\u6f22\u5b57\u6f22", uid=1000)
        page.scene.fork(8, comm="e\u0301e\u0301", uid=0)
        rows = page.show(
            *(
                page.scene.exec(pid, "CMD", comm=page.scene.tree.get_node(pid).cmd)  # type: ignore[union-attr]
                for pid in (4_194_303, 7, 8)
            )
        )
        starts = {cells(row[: row.index("CMD")]) for row in rows}
        assert starts == {cells(page.lines()[0][: page.lines()[0].index("COMMAND")])}

    def test_the_longest_values_of_every_column_stay_in_it(self) -> None:
        page = Page(160)
        page.scene.fork(4_194_303, comm="m" * 15)
        page.scene.fork(4_194_302, by=4_194_303, comm="n" * 15, uid=4_294_967_294)
        page.scene.exec(4_194_302, "CMD", comm="n" * 15, uid=4_294_967_294)
        (row,) = page.show(
            page.scene.exit(4_194_302, signal.SIGVTALRM | 0x80, after_ns=5000 * 86_400 * SECOND_NS)
        )
        assert row.index("CMD") == page.lines()[0].index("COMMAND")

    def test_a_pipe_gets_everything(self) -> None:
        page = Page(None)
        last = page.scene.line_of(*(f"ancestor-{number}" for number in range(40)))
        page.scene.fork(20, by=last)
        (row,) = page.show(page.scene.exec(20, "x" * 30_000))
        assert "x" * 30_000 in row
        assert row.count(" < ") == 40
        assert "…" not in row

    def test_a_resized_terminal_counts_from_the_next_batch_on(self) -> None:
        page = Page(200)
        page.scene.fork(20)
        page.layout = Layout(120)
        page.show(page.scene.exec(20, "x" * 500))
        page.show(page.scene.exec(20, "y" * 500))
        *_, before, after = page.lines()
        assert 120 < cells(before) <= 200
        assert cells(after) <= 120


class TestAncestry:
    def test_what_does_not_fit_loses_its_middle(self) -> None:
        page = Page(140)
        last = page.scene.line_of(*(f"generation-{number}" for number in range(9)))
        (row,) = page.show(page.scene.fork(20, by=last))
        assert re.search(r" generation-8 < … < init$", row)

    def test_what_fits_is_shown_whole(self) -> None:
        page = Page(140)
        last = page.scene.line_of("a", "b", "c")
        (row,) = page.show(page.scene.fork(20, by=last))
        assert row.endswith(" c < b < a < init")

    def test_a_very_deep_one_still_ends_with_the_root(self) -> None:
        page = Page(160)
        last = page.scene.line_of(*(f"g{number}" for number in range(100)))
        (row,) = page.show(page.scene.fork(20, by=last))
        assert " g99 < g98 < " in row
        assert row.endswith(" < … < init")
        assert row.count("…") == 1

    def test_a_name_cannot_pose_as_two_ancestors(self) -> None:
        page = Page(160)
        last = page.scene.line_of("evil < sshd")
        (row,) = page.show(page.scene.fork(20, by=last))
        assert row.count(" < ") == 1


class TestHostileText:
    @unhurried
    @given(comm=comms(), args=arguments(), columns=st.sampled_from([None, 120]))
    def test_only_printable_characters_come_out(
        self, comm: str, args: list[str], columns: int | None
    ) -> None:
        page = Page(columns)
        page.scene.fork(10, comm=comm)
        page.scene.fork(20, by=10, comm=comm)
        page.show(page.scene.exec(20, *args, comm=comm), page.scene.exit(20))
        # One header, two records: no name made a line of its own.
        assert len(page.lines()) == 3
        assert all(line.isprintable() for line in page.lines())

    @pytest.mark.parametrize(
        "char",
        [
            "\x00", "\x07", "\x08", "\t", "\n", "\r", "\x1b", "\x7f", "\x80", "\x85", "\x9b",
            "\xad", "\u061c", "\u200b", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e",
            "\u2066", "\u2069", "\ufeff", "\ue000", "\U000e0041", "\udcff",
        ],
        ids=ascii,
    )  # fmt: skip
    def test_a_dangerous_character_is_shown_escaped(self, char: str) -> None:
        page = Page(200)
        page.scene.fork(20, comm="x")
        name = f"a{char}b" if char != "\x00" else "a\\b"
        (row,) = page.show(page.scene.exec(20, name, comm=name))
        assert row.isprintable()
        assert row.count("a\\") >= 2

    def test_parentheses_in_arguments_do_not_look_inherited(self) -> None:
        page = Page(160)
        page.scene.fork(20)
        (row,) = page.show(page.scene.exec(20, "(cat)"))
        assert " '(cat)' " in row


class TestColour:
    def test_there_is_none_unless_asked_for(self) -> None:
        page = Page(120)
        page.show(page.scene.fork(20), page.scene.exit(20, 9))
        assert "\x1b" not in page.out.getvalue()

    @pytest.mark.parametrize(("status", "code"), [(1 << 8, "31"), (9, "31"), (0, "2")])
    def test_a_failure_is_red_and_a_plain_end_is_dim(self, status: int, code: str) -> None:
        page = Page(120, colour=True)
        page.scene.fork(20)
        (row,) = page.show(page.scene.exit(20, status))
        assert row.startswith(f"\x1b[{code}m")
        assert row.endswith("\x1b[0m")

    def test_colours_change_nothing_else(self) -> None:
        texts = []
        for colour in (False, True):
            page = Page(120, colour=colour)
            page.scene.fork(20)
            page.sink.gap(Gap(5 * SECOND_NS, "bpf", 3))
            page.show(page.scene.exit(20, 9))
            texts.append(_CODED.sub("", page.out.getvalue()))
        assert texts[0] == texts[1]


class TestGap:
    def show(self, **fields: Any) -> str:
        page = Page(120)
        page.sink.gap(Gap(timestamp_ns=7 * SECOND_NS, source="bpf", **fields))
        (row,) = page.lines()[1:]
        return row

    def test_it_says_how_much_of_what_where_and_when(self) -> None:
        row = self.show(count=12, kind="exec", cpu=3, from_ns=6_980_000_000, until_ns=7 * SECOND_NS)
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d\.\d{3} gap   12 exec records lost on CPU 3 within 20\.0ms", row
        )

    def test_it_does_not_invent_what_is_not_known(self) -> None:
        assert self.show(count=None).endswith(" gap   some event records lost")

    def test_it_speaks_of_one_record_in_the_singular(self) -> None:
        assert "1 exec record lost" in self.show(count=1, kind="exec")
