"""What a filter in the kernel has left out, or had told, is neither forgotten nor undone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.filter_in_both_places import FilterInBothPlaces, Script
    from support.filtered_pipeline import FilteredPipeline

_MIDDLE = """
import ctypes
to_middle, to_last = os.pipe(), os.pipe()

def beget():
    last = os.fork()
    if not last:
        os.read(to_last[0], 1)
        os.execv(sys.argv[1], sys.argv[1:2])
    return last

middle = os.fork()
if not middle:
    last = beget() if sys.argv[2] == "before" else 0
    os.read(to_middle[0], 1)
    last = last or beget()
    exec(sys.argv[3])
    print(last, flush=True)
    os._exit(0)
step("begins")
os.write(to_middle[1], b"x")
os.waitpid(middle, 0)
step("ended")
os.write(to_last[1], b"x")
print("released", flush=True)
"""
_CHANGES = {
    "another name": ("rename('the-new-name')", 0, "the-new-name"),
    "an empty name": ("ctypes.CDLL(None).prctl(15, b'', 0, 0, 0)", 0, ""),
    "another user": ("os.setgid(65534); os.setuid(65534)", 1, "nobody"),
}


def doubt(filtered: FilteredPipeline, wanted: str) -> None:
    """Let it doubt: what has children already becomes one that is followed."""
    before = filtered.filter_controller.fallbacks.get("joined_late", 0)
    subprocess.run(["sh", "-c", '/bin/true; exec "$0" doubt', wanted], check=True)
    until_caught_up(filtered, before + 1)


def until_caught_up(filtered: FilteredPipeline, doubts: int) -> None:
    def has_caught_up() -> bool:
        told = filtered.filter_controller.fallbacks.get("joined_late", 0)
        return told >= doubts and filtered.filter_controller.hold_ns == float("inf")

    filtered.until("it has caught up", has_caught_up)


@pytest.mark.parametrize("change", list(_CHANGES))
@pytest.mark.parametrize("born", ["before", "after"])
@pytest.mark.parametrize("doubts", [False, True])
def test_an_ancestor_from_before_the_trace_is_shown_as_it_was_at_its_end(
    both: Callable[[str], FilterInBothPlaces],
    play: Callable[..., Script],
    wanted: str,
    change: str,
    born: str,
    *,
    doubts: bool,
) -> None:
    """Nobody has counted its children, and nothing of it was told."""
    statement, place, shown = _CHANGES[change]
    script = play(_MIDDLE, wanted, born, statement)
    assert script.go() == "begins"
    traced = both("ancestor=wanted-one")
    last = int(script.go())
    assert script.read() == "ended"
    if doubts:
        doubt(traced.kernel, wanted)
    assert script.go() == "released"
    traced.until_exit(last)
    exec_, exit_ = (told for told in traced.same() if told.pid == last)
    assert exec_.above[0][place] == exit_.above[0][place] == shown


_CHANGES_ALL = """
import os, sys
fields = open("/proc/self/stat", "rb").read().rpartition(b")")[2].split()
begin, end = map(int, fields[45:47])  # arg_start and arg_end
memory = os.open("/proc/self/mem", os.O_RDWR)
os.pwrite(memory, b"another title".ljust(end - begin, b"\\0"), begin)
os.unlink(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
print("changed", flush=True)
sys.stdin.readline()
os.spawnv(os.P_WAIT, "/bin/true", ["true"])
"""


def test_what_was_told_of_a_process_is_not_undone_by_a_look_at_proc(
    both: Callable[[str], FilterInBothPlaces], wanted: str, tmp_path: Path
) -> None:
    """It has changed its arguments, file and user since, as no event tells."""
    program = tmp_path / "wanted-one"
    shutil.copy(getattr(sys, "_base_executable", sys.executable), program)
    traced = both("ancestor=wanted-one")
    with subprocess.Popen(
        [program, "-c", _CHANGES_ALL, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as changing:
        assert changing.stdout is not None
        assert changing.stdout.readline() == "changed\n"
        doubt(traced.kernel, wanted)
        changing.communicate("go on\n")
    traced.until_exit(changing.pid)
    told = [each for each in traced.same() if each.pid == changing.pid]
    assert [each.kind for each in told] == ["exec", "exit"]
    assert {each.executable for each in told} == {str(program)}
    assert {each.args for each in told} == {(str(program), "-c", _CHANGES_ALL, str(program))}


def test_one_that_joins_late_is_told_as_where_all_of_it_was(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script]
) -> None:
    """It has called no exec, or one with more arguments than are kept."""
    script = play(
        """
go, come = os.pipe()
code = f"open('/proc/self/comm', 'w').write('wanted-one'); open({go}, 'rb').read(1)"
os.set_inheritable(go, True)

def worker():
    child = os.fork()
    if not child:
        rename("wanted-one")
        os.read(go, 1)
        os._exit(0)
    return child

for begin in (worker, lambda: start(sys.executable, "-c", code, "y" * 6000)):
    step("begins")
    child = begin()
    step(str(child))
    os.write(come, b"x")
    os.waitpid(child, 0)
print("done", flush=True)
"""
    )
    traced = both("ancestor=wanted-one")
    assert script.go() == "begins"
    for number, (inherited, truncated) in enumerate([(True, False), (False, True)], 1):
        traced.kernel.until_on()
        child = int(script.go())
        until_caught_up(traced.kernel, number)
        assert script.go() == ("begins" if number == 1 else "done")
        traced.until_exit(child)
        told = traced.same()[-1]
        assert (told.pid, told.kind) == (child, "exit")
        assert (told.inherited, told.truncated) == (inherited, truncated)
