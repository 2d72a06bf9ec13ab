"""The row "tests/display" of the coverage table: drawing a tree, writing a link."""

from __future__ import annotations

import pytest

from proctree_bpf import DefaultTree, PidNode, ProcessLink, display, parse_chain_string


@pytest.fixture
def tree() -> DefaultTree:
    tree = DefaultTree()
    for pid, ppid, cmd in ((1, 0, "init"), (10, 1, "sshd"), (11, 1, "cron"), (20, 10, "bash")):
        tree.insert_node(pid, PidNode(ppid, cmd))
    return tree


def test_display_single_process(tree: DefaultTree) -> None:
    assert display(tree, 20) == "bash(20)"


def test_display_with_children(tree: DefaultTree) -> None:
    assert display(tree, 1).splitlines() == [
        "init(1)",
        "├─ sshd(10)",
        "│  └─ bash(20)",
        "└─ cron(11)",
    ]


def test_display_nonexistent_pid(tree: DefaultTree) -> None:
    assert display(tree, 99_999) == "unknown(99999)"


@pytest.mark.parametrize("name", ["a|b", "a;b", "a\\b", "a b", "a\nb", "", "|;\\", "\x1b[1m"])
def test_process_link_special_chars(name: str) -> None:
    link = ProcessLink(7, name, name)
    assert str(link).isprintable()
    assert parse_chain_string(str(link)) == [link]
