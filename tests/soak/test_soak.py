"""The soak as a whole: a few seconds of it, its figures, its picture, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
LIB = ROOT / "scripts" / "soak_lib"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the soak needs root")
SVG = "{http://www.w3.org/2000/svg}"


class Soaked(NamedTuple):
    """How a run ended, and what it wrote."""

    code: int
    out: str
    err: str
    found: dict[str, Any]
    picture: ET.Element

    def figure(self, what: str) -> float:
        value: float = self.found["figures"][what]["value"]
        return value


def command(directory: Path, *words: str) -> list[str]:
    """Return the words that soak at a pace which no machine is too busy for."""
    files = ["--json", str(directory / "json"), "--svg", str(directory / "svg")]
    start = [sys.executable, "-B", str(LIB / "start.py")]
    return [*start, *words, "--rate", "200", "--seconds-between", "1", *files]


@contextmanager
def soaking(
    directory: Path, *words: str, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    with (directory / "out").open("w") as out, (directory / "err").open("w") as err:
        running = subprocess.Popen(
            [*before, *command(directory, *words)],
            stdout=out,
            stderr=err,
            text=True,
            # Where the package is not installed, its sources are used.
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(directory)},
        )
    try:
        yield running
    finally:
        while running.poll() is None:  # the second signal ends it at once
            running.terminate()
            with suppress(subprocess.TimeoutExpired):
                running.wait(1)


def finish(directory: Path, running: subprocess.Popen[str]) -> Soaked:
    """Wait for the end: a tracer that is late, because the machine is busy, is waited for."""
    wait_until(
        f"it ends, having said: {(directory / 'err').read_text()}",
        lambda: running.poll() is not None,
        PATIENCE_S * 5,
    )
    out, err = (directory / "out").read_text(), (directory / "err").read_text()
    assert "Traceback" not in err
    found = json.loads((directory / "json").read_bytes())
    picture = ET.parse(directory / "svg").getroot()  # noqa: S314 - our own
    return Soaked(running.returncode, out, err, found, picture)


@pytest.fixture(scope="module")
def soaked() -> Soaked:
    """Soak for four seconds, with /proc mounted anew and no right to set the clock."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        without = ["setpriv", "--bounding-set=-sys_time"]
        words = ("0.07", "--disturb", "clock,remount,suspend")
        with soaking(directory, *words, before=without) as running:
            found = finish(directory, running)
        assert {path.name for path in directory.iterdir()} == {"out", "err", "json", "svg"}
        return found


def test_all_is_well(soaked: Soaked) -> None:
    assert (soaked.code, soaked.found["failure"]) == (0, None), (soaked.out, soaked.err)
    assert soaked.found["is_good"]
    assert soaked.found["asked"]["source"] == "bpf"


def test_all_that_was_spawned_was_told_or_said_to_be_lost(soaked: Soaked) -> None:
    """Others may saturate the machine, or take CPUs out of service."""
    last = soaked.found["samples"][-1]
    lost = soaked.figure("records said to be lost")
    assert last["events"] + lost >= 3 * last["spawned"] > 0
    assert soaked.figure("ends not told") <= lost
    assert soaked.figure("of these, without a word") == 0


def test_the_pace_is_not_more_than_was_asked(soaked: Soaked) -> None:
    assert soaked.figure("processes asked for") == 200
    assert 10 < soaked.figure("processes spawned") < 250


def test_memory_lag_and_cpu_are_measured(soaked: Soaked) -> None:
    samples = soaked.found["samples"]
    assert len(samples) >= 3
    assert [one["at_s"] for one in samples] == sorted(one["at_s"] for one in samples)
    for one in samples:
        assert 10e6 < one["rss_bytes"] <= one["peak_bytes"] < 1e9
        assert 0 <= one["lag_mean_s"] <= one["lag_worst_s"] < 60
    assert 0 < samples[-1]["cpu_s"] < samples[-1]["at_s"]
    assert any(one["lag_mean_s"] > 0 for one in samples)


def test_the_tree_agrees_with_proc_whenever_it_can_be_compared(soaked: Soaked) -> None:
    assert soaked.figure("only in the tree, at worst") == 0
    assert soaked.figure("only in /proc, at worst") == 0
    assert soaked.found["samples"][-1]["compared"]


def test_what_could_be_disturbed_was_and_why_the_rest_was_not_is_said(soaked: Soaked) -> None:
    assert {(one["name"], one["trouble"]) for one in soaked.found["happened"]} == {("remount", "")}
    assert "wall clock cannot be set" in soaked.found["refused"]["clock"]
    assert "- clock cannot be done here: the wall clock cannot be set" in soaked.out
    assert ("suspend" in soaked.found["conditions"]) != ("suspend" in soaked.found["refused"])


def test_the_table_has_a_line_for_each_figure(soaked: Soaked) -> None:
    lines = [line for line in soaked.out.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {4}
    shown = {line.split("|")[1].strip() for line in lines[2:]}
    assert shown == set(soaked.found["figures"])


def test_the_picture_has_a_point_for_each_sample_and_a_mark_for_each_disturbance(
    soaked: Soaked,
) -> None:
    lines = soaked.picture.findall(f".//{SVG}polyline")
    assert len(lines) == 8
    points = {len(str(line.get("points")).split()) for line in lines}
    assert points == {len(soaked.found["samples"])}
    words = [text.text for text in soaked.picture.iter(f"{SVG}text")]
    assert {"memory (MB)", "lag (ms)", "drift (processes)", "lost (records)"} <= set(words)
    assert words.count("remount") == len(soaked.found["happened"]) > 0


def test_progress_is_told(soaked: Soaked) -> None:
    assert "soak: 0 s of 4 s: " in soaked.err
    assert ", drift 0, lost " in soaked.err


def test_ctrl_c_ends_it_with_the_figures_so_far(tmp_path: Path) -> None:
    with soaking(tmp_path, "60") as running:
        wait_until("it has sampled", lambda: (tmp_path / "err").read_text().count("drift") > 1)
        running.send_signal(signal.SIGINT)
        soaked = finish(tmp_path, running)
    assert soaked.code == 0, (soaked.out, soaked.err)
    assert soaked.figure("of these, without a word") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out", "err", "json", "svg"}


def test_more_of_them_end_it_at_once(tmp_path: Path) -> None:
    with soaking(tmp_path, "60") as running:
        wait_until("it has sampled", lambda: "drift" in (tmp_path / "err").read_text())
        while running.poll() is None:
            running.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.02)
    assert running.returncode in (0, 128 + signal.SIGINT)  # 0: it was quicker than the second
    assert (tmp_path / "err").read_text().endswith(("figures\n", "soak: done\n"))
    assert not list(tmp_path.glob("soak-*"))


@pytest.mark.parametrize(
    "words", [("0",), ("1", "--disturb", "nonesuch"), ("1", "--rate", "-3"), ()]
)
def test_wrong_words_are_wrong_usage(words: Sequence[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-B", str(LIB / "start.py"), *words], capture_output=True, check=False
    )
    assert done.returncode == 2
