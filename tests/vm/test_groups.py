"""Which tests a guest runs, and what is made of how they end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmtest import groups, results
from vmtest.table import table

_SOURCES = ("bpf", "proc-connector", "proc-walker")


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("tests/kernel/test_exit.py::test_a_core_dump_is_told", {"exit"}),
        ("tests/kernel/test_exit.py::test_a_process_of_many_threads", {"exit", "threads"}),
        ("tests/kernel/test_source_contract.py::TestOrder::test_x[bpf]", {"bpf source"}),
        ("tests/kernel/test_source_contract.py::TestOrder::test_x[replay of bpf]", {"bpf source"}),
        ("tests/kernel/test_source_contract.py::TestOrder::test_x[proc-walker]", {"walker"}),
        ("tests/kernel/test_source_contract_calls.py::test_one_process_has_one_x", {"bpf source"}),
        ("tests/kernel/test_source_contract_calls.py::test_the_walker_does_not_see_x", {"walker"}),
        ("tests/kernel/test_source_contract_calls.py::test_the_connector_takes_x", {"connector"}),
        ("tests/kernel/test_proc_connector.py::TestEnds::test_x", {"connector"}),
        ("tests/kernel/test_connector_load.py::TestLoad::test_nothing_is_lost", set()),
        ("tests/kernel/test_twenty_thousand.py::test_the_spawners", set()),
        ("tests/kernel/test_filter_demo.py::test_x", {"filter"}),
        ("tests/kernel/test_filter_truth.py::test_x[11-kernel]", {"filter"}),
        ("tests/kernel/test_filter_truth.py::test_x[22-kernel]", set()),
        ("tests/kernel/test_copies.py::test_x", {"bpf source"}),
        ("tests/accuracy/test_accuracy.py::test_the_walker_tells_x", {"accuracy"}),
        ("tests/core/test_lineage.py::test_x", set()),
    ],
)
def test_a_test_is_in_the_groups_of_its_file_and_name(test: str, expected: set[str]) -> None:
    assert groups.groups_of(test) == expected


def test_what_is_left_out_is_left_out_for_a_reason() -> None:
    assert all(groups.LEFT_OUT.values())
    assert not any("tests/" in pattern for pattern in groups.LEFT_OUT)


def test_every_kernel_test_is_in_a_group_or_left_out_for_a_reason() -> None:
    root = Path(__file__).parents[2]
    chosen = groups.test_files(root)
    for path in (root / "tests/kernel").glob("test_*.py"):
        name = str(path.relative_to(root))
        tests = re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)
        assert tests, name
        for test in tests if name in chosen else ():
            ids = (f"{name}::{test}[{source}]" for source in _SOURCES)
            assert any(map(groups.groups_of, ids)) or groups.is_left_out(f"{name}::{test}"), test


def test_every_group_has_files() -> None:
    files = groups.test_files(Path(__file__).parents[2])
    assert "tests/kernel/test_exit.py" in files
    assert "tests/kernel/test_twenty_thousand.py" not in files


def test_a_group_of_which_nothing_passed_is_a_fault_unless_only_a_part_was_run() -> None:
    counts = {
        "exit": results.Count(passed=1),
        "exec": results.Count(open=3),
    }
    assert results.faults(counts, [], whole=True) == ["nothing passed in group exec"]
    assert results.faults(counts, [], whole=False) == []


def test_a_failure_is_told_with_its_first_line() -> None:
    told = results.PhaseReport(
        "tests/kernel/test_exit.py::test_x", "failed", 1.0, "assert 1 == 2\nmore"
    )
    count = results.Count()
    count.add(told)
    assert results.faults({"exit": count}, [told], whole=True) == [
        "1 failed in group exit",
        "tests/kernel/test_exit.py::test_x: assert 1 == 2",
    ]
    assert count.cell() == "0 ok, 1 FAILED, 1 s"


def test_what_a_guest_wrote_before_it_crashed_is_read() -> None:
    text = 'release 5.10\ntest ["a::b", "passed", 0.5, ""]\ntest ["a::c", "pas'
    assert [told.test for told in results.read_reports(text)] == ["a::b"]


def test_a_table_is_markdown() -> None:
    shown = table(["a", "long"], [["wide", "x"]])
    assert shown == "| a    | long |\n| ---- | ---- |\n| wide | x    |"
