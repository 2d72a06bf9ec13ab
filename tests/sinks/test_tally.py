"""What the closing summary says: which commands ran most, ran longest, and failed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.sinks.tally import FrequentCounter, Tally
from support.hostile_names import comms, unhurried
from support.made_up_processes import SECOND_NS, MadeUpProcesses

if TYPE_CHECKING:
    from proctree_bpf import ProcessEvent


@pytest.fixture
def scene() -> MadeUpProcesses:
    return MadeUpProcesses()


def life(
    scene: MadeUpProcesses, name: str, status: int = 0, seconds: int = 0
) -> list[ProcessEvent]:
    """Let a process run a command and end."""
    scene.fork(20)
    return [scene.exec(20, name, comm=name), scene.exit(20, status, after_ns=seconds * SECOND_NS)]


def told(*lives: list[ProcessEvent]) -> list[str]:
    tally = Tally()
    for one in lives:
        for process_event in one:
            tally.add(process_event)
    return tally.lines()


def test_it_names_what_ran_most_longest_and_failed(scene: MadeUpProcesses) -> None:
    lives = [life(scene, "cc", seconds=2), life(scene, "cc", 1 << 8, seconds=9)]
    lives += [life(scene, "ld", 11), life(scene, "make", 2 << 8, seconds=12)]
    assert told(*lives) == [
        "ran most: cc 2, ld 1, make 1",
        "ran longest: make 12.0s, cc 9.0s, ld 2.5ms",
        "failed: cc 1 (exit code 1), ld 1 (SIGSEGV), make 1 (exit code 2)",
    ]


def test_nothing_is_said_of_what_did_not_happen(scene: MadeUpProcesses) -> None:
    assert told() == []
    assert [line.partition(":")[0] for line in told(life(scene, "cc"))] == [
        "ran most",
        "ran longest",
    ]


def test_five_of_each_are_named(scene: MadeUpProcesses) -> None:
    lives = [life(scene, f"c{number}", 1, seconds=number) for number in range(1, 9)]
    most, longest, failed = told(*lives)
    assert most.count(",") == failed.count(",") == 4
    assert longest == "ran longest: c8 8.0s, c7 7.0s, c6 6.0s, c5 5.0s, c4 4.0s"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a 9, sshd", "'a 9, sshd' 1"), ("\x1b[2J\n", r"'\x1b[2J\x0a' 1"), ("", "'' 1")],
)
def test_a_name_can_neither_pass_for_two_nor_drive_the_terminal(
    scene: MadeUpProcesses, name: str, shown: str
) -> None:
    assert told(life(scene, name))[0] == f"ran most: {shown}"


@unhurried
@given(st.lists(comms(), min_size=1, max_size=5))
def test_any_names_make_three_printable_lines(names: list[str]) -> None:
    scene = MadeUpProcesses()
    lines = told(*(life(scene, name, 1) for name in names))
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


@unhurried
@given(st.lists(st.integers(0, 9)))
def test_counts_are_exact_while_there_is_room(keys: list[int]) -> None:
    counter: FrequentCounter[int] = FrequentCounter(10)
    for key in keys:
        counter.add(key)
    assert counter.exact
    assert dict(counter.most(10)) == Counter(keys)


def test_a_flood_of_names_cannot_fill_the_memory_nor_hide_the_frequent_ones() -> None:
    counter: FrequentCounter[str] = FrequentCounter(100)
    for number in range(10_000):
        counter.add(f"random-{number}")
        if number % 10 == 0:
            counter.add("make")
    assert len(counter.most(10_000)) <= 100
    assert not counter.exact
    assert counter.most(1) == [("make", 1000)]


def test_the_longest_are_right_however_many_names_there_are(scene: MadeUpProcesses) -> None:
    seconds = {f"c{number}": number * 37 % 59 for number in range(59)}
    lives = [life(scene, name, seconds=after) for name, after in seconds.items()]
    expected = sorted(seconds, key=lambda name: -seconds[name])[:5]
    named = told(*lives)[1].removeprefix("ran longest: ").split(", ")
    assert [item.split()[0] for item in named] == expected
