"""Names, arguments and users that a process chose: they stay in their cells, on their lines.

Whatever they are, a line of the table or the tree has the columns where its header has
them, never more cells than it may, and no control or format character but our colours.
"""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.sinks.fields import DEFAULT_FIELDS, FIELDS, View
from proctree_bpf.sinks.layout import Layout
from proctree_bpf.sinks.lines.table import TableSink
from proctree_bpf.sinks.wall_time import TraceClock
from support.hostile_names import arguments, comms, unhurried
from support.made_up_processes import MadeUpProcesses
from support.screen import cells
from support.tree_output import TreeOutput
from support.values import replace

# A line as we paint it: one colour around all of it, or none.
_PAINTED = re.compile(
    r"(?:\x1b\[(?:2|31|33)m(?P<painted>.*)\x1b\[0m|(?P<plain>[^\x1b]*))", re.DOTALL
)
_TREE_COLUMNS = (("pid", 7), ("user", 10), ("exit", 8), ("age", 7))


def bare(line: str) -> str:
    """Return a line without its colour; fail if there is anything but printable text."""
    match = _PAINTED.fullmatch(line)
    assert match, ascii(line)
    text = match["painted"] if match["painted"] is not None else match["plain"]
    assert text.isprintable(), ascii(line)
    return text


def cut_at(text: str, widths: list[int]) -> list[str]:
    """Cut a line into cells of these widths, with a blank between each two, and the rest."""
    found, begin = [], 0
    for width in widths:
        end = begin
        while end < len(text) and cells(text[begin : end + 1]) <= width:
            end += 1
        found.append(text[begin:end])
        assert cells(found[-1]) == width or end == len(text), f"{found} in {text!r}"
        assert text[end : end + 1] in {" ", ""}, f"{found} in {text!r}"
        begin = end + 1
    return [*found, text[begin:]]


hostile = st.fixed_dictionaries(
    {"comm": comms(), "args": arguments(), "user": comms(), "ancestor": comms()}
)
fields = st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=8, unique=True)


def story(scene: MadeUpProcesses, names: dict[str, object]) -> list[object]:
    """Return the records of a process with these names, and of its child."""
    args, comm = [str(arg) for arg in names["args"]], str(names["comm"])  # type: ignore[attr-defined]
    scene.fork(10, comm=str(names["ancestor"]))
    records = [
        scene.fork(20, by=10, comm=comm),
        scene.exec(20, *args, comm=comm),
        scene.fork(21, by=20, comm=comm),
        scene.exit(21, 9),
        scene.exit(20, 1 << 8),
    ]
    user = str(names["user"])
    return [replace(one, process=replace(one.process, user=user)) for one in records]


class TestTable:
    @unhurried
    @given(names=hostile, columns=st.sampled_from([None, 80, 107, 120, 200]), colour=st.booleans())
    def test_every_cell_stands_below_its_header(
        self, *, names: dict[str, object], columns: int | None, colour: bool
    ) -> None:
        header, *rows = self.show(names, Layout(columns, colour), DEFAULT_FIELDS, may_drop=True)
        shown = [name for name in DEFAULT_FIELDS if FIELDS[name].header in header.split()]
        widths = [FIELDS[name].width or 0 for name in shown if FIELDS[name].width]
        for row, pid in zip(rows, (20, 20, 21, 21, 20), strict=True):
            found = dict(zip(shown, cut_at(row, widths), strict=False))
            assert found["pid"] == f"{pid:>7}"
            assert found["event"].strip() in {"fork", "exec", "exit"}

    @unhurried
    @given(names=hostile, chosen=fields, columns=st.sampled_from([None, 1, 20, 60, 200]))
    def test_any_columns_make_one_line_that_fits(
        self, names: dict[str, object], chosen: list[str], columns: int | None
    ) -> None:
        lines = self.show(names, Layout(columns), chosen, may_drop=False)
        assert len(lines) == 6
        assert columns is None or max(map(cells, lines)) <= columns

    def show(
        self, names: dict[str, object], layout: Layout, chosen: object, *, may_drop: bool
    ) -> list[str]:
        scene, out = MadeUpProcesses(), io.StringIO()
        view = View(TraceClock(0))
        sink = TableSink(out, scene.tree, view, lambda: layout, chosen, may_drop=may_drop)  # type: ignore[arg-type]
        for process_event in story(scene, names):
            sink.write(process_event)  # type: ignore[arg-type]
        *lines, rest = out.getvalue().split("\n")
        assert rest == ""
        return [bare(line) for line in lines]


class TestTree:
    @unhurried
    @given(
        names=hostile,
        columns=st.sampled_from([None, 2, 40, 60, 80, 200]),
        colour=st.booleans(),
        together=st.booleans(),
    )
    def test_every_cell_stands_below_its_header(
        self, *, names: dict[str, object], columns: int | None, colour: bool, together: bool
    ) -> None:
        page = TreeOutput(columns, colour=colour)
        batches = (
            [story(page.scene, names)] if together else [[r] for r in story(page.scene, names)]
        )
        for batch in batches:
            page.show(*batch)  # type: ignore[arg-type]
        page.sink.finish()
        *lines, rest = page.out.getvalue().split("\n")
        assert rest == ""
        # Two processes: a line each if all came at once, else the first has one for its end,
        # too; and each again in the tree at the end, which has a header of its own.
        assert len(lines) == 1 + (2 if together else 3) + 2 + 2
        for line in map(bare, lines):
            assert columns is None or cells(line) <= max(columns - 1, 1)
            if line and "PID" not in line and (columns or 80) >= 80:
                pid, _user, end, _age, _command = cut_at(
                    line, [width for _, width in _TREE_COLUMNS]
                )
                assert pid in {"     20", "     21"}
                assert end.strip() in {"", "1", "SIGKILL"}

    @unhurried
    @given(names=hostile, columns=st.sampled_from([2, 40, 80, 200]))
    def test_the_screen_has_a_line_for_each_process_and_nothing_else(
        self, names: dict[str, object], columns: int
    ) -> None:
        page = TreeOutput(columns, 24)
        for process_event in story(page.scene, names):
            page.show(process_event)  # type: ignore[arg-type]
        assert len(page.lines()) == 3  # the screen itself fails on what it does not know


@pytest.mark.parametrize("name", ["x < make 1200", "└─ sshd", "… and 3 more", "sh [depth 40]"])
def test_a_command_cannot_pose_as_the_drawing_around_it(name: str) -> None:
    page = TreeOutput()
    page.show(page.scene.fork(20), page.scene.exec(20, name, comm=name[:15]))
    (line,) = page.end()
    assert line[36:] == f"'{name}'"
