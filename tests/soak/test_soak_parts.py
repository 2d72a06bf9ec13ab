"""The parts of the soak that judge, and what undoes a disturbance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD = Path(__file__).parents[2] / "scripts" / "soak_lib" / "held.py"
# Has it held, says so, and is then there to be killed.
_HOLDER = """
import subprocess, sys
held = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
held.wait()
"""
A, B, C = (1, 10), (2, 20), (3, 30)


def in_turn(*each: Any) -> Any:
    """Return what returns one after the other, and then the last one for ever."""
    left = list(each)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


class TestDrift:
    def look(self, lib: Any, tree: Any, proc: Any, limit_s: float = 5.0) -> Any:
        """Compare what a tree that has told all says with what /proc says."""
        drift = lib("drift")

        def told() -> Any:
            return drift.Told(tree(), float("inf"))

        return drift.drift(told, proc, patience_s=0.0, limit_s=limit_s)

    def test_who_agrees_has_none(self, lib: Any) -> None:
        found = self.look(lib, in_turn({A, B}), in_turn({A, B}))
        assert (found.only_tree, found.only_proc) == (set(), set())

    def test_what_was_on_its_way_is_none(self, lib: Any) -> None:
        """One was born and one ended between the two looks of the first comparison."""
        drift = lib("drift")
        trees = in_turn(drift.Told({A, B}, 0.0), drift.Told({A, C}, 0.0))
        found = drift.drift(trees, in_turn({A, C}, {A, C}), patience_s=5.0, limit_s=5.0)
        assert (found.only_tree, found.only_proc) == (set(), set())
        assert found.settled_s < 5

    def test_those_who_differ_later_only_are_none(self, lib: Any) -> None:
        found = self.look(lib, in_turn({A}, {A, B}), in_turn({A, C}, {A, C}))
        assert (found.only_tree, found.only_proc) == (set(), {C})

    def test_who_stays_in_one_alone_is_drift(self, lib: Any) -> None:
        found = self.look(lib, in_turn({A, B}), in_turn({A, C}))
        assert (found.only_tree, found.only_proc, found.compared) == ({B}, {C}, True)

    def test_with_a_tracer_that_is_too_late_nothing_can_be_compared(self, lib: Any) -> None:
        drift = lib("drift")
        late = in_turn(drift.Told({A, B}, 0.0))
        found = drift.drift(late, in_turn({A}), patience_s=0.0, limit_s=0.5)
        assert (found.only_tree, found.only_proc, found.compared) == (set(), set(), False)
        assert found.settled_s > 0.5

    def test_proc_shows_the_living_without_zombies(self, lib: Any) -> None:
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        pids = {pid for pid, _ticks in lib("proc_looks").living()}
        assert os.getpid() in pids
        assert child.pid not in pids
        child.wait()


class TestFigures:
    def outcome(self, lib: Any, **last: int) -> Any:
        samples = lib("samples")
        zeros = dict.fromkeys(samples.Sample.__slots__, 0)
        return samples.Outcome(
            {"rate": 10.0},
            [samples.Sample(**{**zeros, "compared": True})],
            spawned=100,
            last={**zeros, **last},
        )

    def test_what_is_missing_without_a_word_is_not_well(self, lib: Any) -> None:
        found = self.outcome(lib, ended=98, lost_of_churned=1)
        assert (found.missing, found.untold, found.is_good) == (2, 1, False)

    def test_what_is_missing_and_was_said_to_be_is_well(self, lib: Any) -> None:
        found = self.outcome(lib, ended=98, lost_of_churned=5)
        assert (found.missing, found.untold, found.is_good) == (2, 0, True)

    def test_drift_at_the_end_is_not_well(self, lib: Any) -> None:
        found = self.outcome(lib, ended=100)
        assert found.is_good
        found.samples[-1].only_tree = 1
        assert not found.is_good

    def test_nor_is_an_end_at_which_nothing_could_be_compared(self, lib: Any) -> None:
        found = self.outcome(lib, ended=100)
        found.samples[-1].compared = False
        assert not found.is_good

    def test_a_tracer_that_failed_is_not_well(self, lib: Any) -> None:
        found = self.outcome(lib, ended=100)
        found.failure = "it ended with status -9: Killed"
        assert not found.is_good
        assert "THE TRACER FAILED: it ended with status -9" in lib("samples").markdown(found, {})

    def test_without_a_sample_there_is_a_picture_too(self, lib: Any) -> None:
        assert lib("plot").svg(lib("samples").Outcome({})).endswith("</svg>\n")


class TestHeld:
    @pytest.fixture
    def sleeper(self) -> Iterator[int]:
        with subprocess.Popen(["sleep", "600"]) as sleeper:
            yield sleeper.pid
            sleeper.kill()

    def is_stopped(self, pid: int) -> bool:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"

    def test_it_is_undone_in_the_end(self, lib: Any, sleeper: int) -> None:
        with lib("disturbances").held("stopped", str(sleeper)):
            wait_until("it is stopped", lambda: self.is_stopped(sleeper))
        wait_until("it goes on", lambda: not self.is_stopped(sleeper))

    def test_and_when_whoever_asked_for_it_is_killed(self, sleeper: int) -> None:
        words = [sys.executable, "-c", _HOLDER, sys.executable, str(HELD), "stopped", str(sleeper)]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as holder:
            wait_until("it is stopped", lambda: self.is_stopped(sleeper))
            holder.kill()
        wait_until("it goes on", lambda: not self.is_stopped(sleeper))

    def test_no_signal_of_a_terminal_ends_it_before(self, sleeper: int) -> None:
        words = [sys.executable, str(HELD), "stopped", str(sleeper)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(words, **pipes) as held:  # type: ignore[call-overload]
            assert held.stdout.readline() == b"done\n"
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                held.send_signal(number)
            wait_until("it is stopped", lambda: self.is_stopped(sleeper))
            held.stdin.close()
            assert held.wait(PATIENCE_S) == 0
        assert not self.is_stopped(sleeper)

    def test_what_cannot_be_done_is_said(self, lib: Any) -> None:
        disturbances = lib("disturbances")
        with pytest.raises(disturbances.NotHereError, match="No such file"):
            disturbances.held("cpu", "99999").__enter__()
