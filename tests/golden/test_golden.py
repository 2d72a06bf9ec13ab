"""Recordings of earlier days replay to the same lines, whatever became of the code since."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support import golden_data
from support.golden_replays import replay, replays_of
from support.golden_scrub import DIRECTOR, STAGE, programs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNS = [(name, chosen) for name in golden_data.names() for chosen in replays_of(name)]


@pytest.fixture(scope="module")
def recording_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What unpacks a recording, once."""
    directory = tmp_path_factory.mktemp("golden")

    def unpacked(name: str) -> Path:
        path = directory / name
        if not path.exists():
            path.write_bytes(golden_data.recording(name))
        return path

    return unpacked


@pytest.fixture(scope="module")
def expected_of() -> Callable[[str], golden_data.Texts]:
    """What reads the expected lines of a recording, once."""
    known: dict[str, golden_data.Texts] = {}

    def read(name: str) -> golden_data.Texts:
        if name not in known:
            known[name] = golden_data.expected(name)
        return known[name]

    return read


@pytest.mark.parametrize(("name", "chosen"), RUNS, ids=["-".join(run) for run in RUNS])
def test_a_recording_replays_to_the_lines_that_were_kept(
    recording_of: Callable[[str], Path],
    expected_of: Callable[[str], golden_data.Texts],
    name: str,
    chosen: str,
) -> None:
    wanted = expected_of(name)
    parts = [
        f"{kind}: {found}"
        for kind, lines in replay(recording_of(name), chosen).items()
        if (found := golden_data.difference(wanted.get(f"{chosen}/{kind}", []), lines))
    ]
    if parts:
        pytest.fail("\n".join([f"{name}, {chosen}:", *parts]), pytrace=False)


def test_what_is_kept_and_what_is_replayed_are_the_same_runs() -> None:
    kept = {
        (name, member.split("/")[0])
        for name in golden_data.names()
        for member in golden_data.expected(name)
    }
    assert kept == set(RUNS)


@pytest.mark.parametrize("name", golden_data.names())
def test_a_recording_names_no_program_of_the_machine_it_was_made_on(name: str) -> None:
    harmless = re.compile(rf"{STAGE}/|/memfd:|/usr/bin/({DIRECTOR}|init|other-\d+)$")
    assert [
        path for path in programs(golden_data.recording(name)) if not harmless.match(path)
    ] == []
