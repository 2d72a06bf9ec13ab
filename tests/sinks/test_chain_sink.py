"""The chain format: a line is a record, and its chain parses back."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf import Gap, parse_chain_string
from proctree_bpf.sinks.lines.chain import ChainSink
from support.hostile_names import comms, unhurried
from support.made_up_processes import MadeUpProcesses


class Page:
    """A sink and the scene that it shows."""

    def __init__(self) -> None:
        self.scene = MadeUpProcesses()
        self.out = io.StringIO()
        self.sink = ChainSink(self.out, self.scene.tree, self.scene.cache)

    def lines(self) -> list[str]:
        text = self.out.getvalue()
        assert text == "" or text.endswith("\n")
        return text.splitlines()


@pytest.fixture
def page() -> Page:
    return Page()


def test_a_line_is_the_event_a_tab_and_the_chain(page: Page) -> None:
    page.sink.write(page.scene.fork(20, comm="make", uid=1000))
    page.sink.write(page.scene.exec(20, "cc", "-c", comm="cc", uid=1000))
    page.sink.write(page.scene.exit(20))
    assert page.lines() == [
        "fork\t20|make|ada;1|init|root",
        "exec\t20|cc|ada;1|init|root",
        "exit\t20|cc|ada;1|init|root",
    ]


def test_an_unseen_creator_ends_the_chain_as_unknown(page: Page) -> None:
    page.scene.set_key(77, page.scene.key(1)._replace(pid=77))
    page.sink.write(page.scene.fork(20, by=77))
    assert page.lines() == ["fork\t20|sh|root;77|unknown|unknown"]


@pytest.mark.parametrize(
    ("gap", "line"),
    [
        (Gap(5, "bpf", 3, "exec", 0), "gap\t3 exec"),
        (Gap(5, "bpf", 1), "gap\t1 event"),
        (Gap(5, "proc-connector", None), "gap\tsome event"),
    ],
)
def test_a_gap_says_how_much_of_what_is_missing(page: Page, gap: Gap, line: str) -> None:
    page.sink.gap(gap)
    assert page.lines() == [line]


@unhurried
@given(st.lists(comms(), min_size=1, max_size=5))
def test_any_names_parse_back(names: list[str]) -> None:
    page = Page()
    last = page.scene.line_of(*names)
    page.sink.write(page.scene.exit(last))
    (line,) = page.lines()
    assert line.isascii() or line.replace("\t", "", 1).isprintable()
    kind, chain = line.split("\t")
    links = parse_chain_string(chain)
    assert kind == "exit"
    assert [link.cmd for link in links] == [*reversed(names), "init"]
