"""Which tests are run on each kernel, in which groups, and which are left out, and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_CONTRACT = r"kernel/test_source_contract(_calls)?\.py::"
_OF_ONE = rf"{_CONTRACT}.*\[(replay of )?"

KERNEL_GROUPS: Mapping[str, str] = {
    "bpf source": r"kernel/test_(creation|order|names|ancestry|copies|reading|startup_race)\.py"
    r"|kernel/test_(adoption|resting)\.py"
    r"|kernel/test_(perf_rings|backlog|cpu_hotplug|second_start)\.py"
    rf"|{_OF_ONE}bpf|{_CONTRACT}test_one_process_",
    "connector": r"kernel/test_(proc_connector|connector_socket)\.py"
    rf"|{_OF_ONE}proc-connector|{_CONTRACT}test_the_connector_",
    "walker": rf"sources/test_proc_walker\.py|{_OF_ONE}proc-walker|{_CONTRACT}test_the_walker_",
    "exit": r"kernel/test_exit\.py",
    "pid reuse": r"kernel/test_identity\.py|.*[Rr]eused",
    "threads": r".*(thread|leader)",
    "exec": r"kernel/test_exec(utable)?\.py",
    "filter": r"(kernel|cli)/test_\w*filter\w*\.py",
    "accuracy": r"accuracy/test_accuracy\.py",
}
"""Patterns for the beginning of a test's name below tests/. A test may be in several groups."""

LEFT_OUT: Mapping[str, str] = {
    r"kernel/test_(twenty_thousand|connector_load|startup_time)\.py": "measure speed, which an "
    "emulated machine does not have",
    r"kernel/test_(loss|kinds_of_loss|connector_losses)\.py|.*_hundreds_of_": "send in bulk, or do "
    "a thing some hundred times, which takes an emulated machine too long",
    r"kernel/test_command_build\.py|cli/test_command\w*\.py": "a command that is traced, its "
    "terminal and its signals are the same on each kernel, and the program takes ten seconds to "
    "start there",
    r"kernel/test_filter_truth\.py::(.*\[22-|test_both_ways_)": "a minute for what others show: "
    "each way, in the kernel and here, is compared with the truth by itself",
    r"kernel/test_startup_race\.py::test_what_lives_": "its processes have all been born before a "
    "collector has started there",
    r"kernel/test_filter_truth\.py::test_of_a_command_": "the hand-over must be done in a second, "
    "with a CPU busy, and takes ten there",
    r"kernel/test_filter_(memory\.py|same\.py::test_(siblings|an_ancestor|a_name)_)": "the "
    "filter's own rules, the same on each kernel; each test compiles the programs anew",
    r"kernel/test_second_start\.py::(?!test_the_programs_)": "what is kept is the same on each "
    "kernel, and each test compiles the programs anew",
    r"kernel/test_deep_chain\.py": "how much of a chain is written is the same on each kernel",
    r"kernel/test_many_tracers\.py": "each of its ten programs takes ten seconds to start there",
    r"kernel/test_front_door\.py": "what programs are told is made of the same events on each "
    "kernel, and the library takes ten seconds to start there",
    r"kernel/test_host_forks\.py": "what a child leaves alone is the same on each kernel, and the "
    "library takes ten seconds to start there",
    r"kernel/test_filter_writes\.py::test_a_large_": "a million entries take an emulated machine "
    "too long",
    r"accuracy/test_accuracy\.py::test_the_page_": "what is written into a page is the same on "
    "each kernel",
    r"cli/test_filter_options\.py::test_(what_cannot_|a_path_|an_ancestor_)": "what words mean is "
    "the same on each kernel, and the program takes ten seconds to start there",
}
"""Tests that would be in a group but are not run, by the beginning of their names, and why."""

NOT_IN_USERLANDS: Mapping[str, str] = {
    r"cli/test_strangers\.py": "neither scripts/run nor scripts/install can make what they need "
    "there",
    r"cli/test_usage\.py::test_the_version_is_the_packages": "the program is not installed there: "
    "it is run from the checkout",
}
"""Tests that are not run with other BCCs and Pythons, likewise."""

_PLACES = {
    "tests/kernel": "test_*.py",
    "tests/sources": "test_proc_walker.py",
    "tests/cli": "test_*filter*.py",
    "tests/accuracy": "test_accuracy.py",
}


def test_files(root: Path) -> list[str]:
    """Return the files that have tests of a group."""
    paths = (
        path for place, files in _PLACES.items() for path in sorted((root / place).glob(files))
    )
    names = (str(path.relative_to(root)) for path in paths)
    return [name for name in names if not is_left_out(name)]


def groups_of(test: str) -> set[str]:
    """Return the groups of a test."""
    if is_left_out(test):
        return set()
    within = test.removeprefix("tests/")
    return {name for name, pattern in KERNEL_GROUPS.items() if re.match(pattern, within)}


def runs_in_userlands(test: str) -> bool:
    """Tell whether a test is run with other BCCs and Pythons."""
    return not is_left_out(test, NOT_IN_USERLANDS)


def is_left_out(test: str, patterns: Iterable[str] = LEFT_OUT) -> bool:
    """Tell whether a test is not run, for one of the reasons given."""
    within = test.removeprefix("tests/")
    return any(re.match(pattern, within) for pattern in patterns)
