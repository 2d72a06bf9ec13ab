"""With a filter in the kernel and here, the same is told: cases in which it was not, once."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf import Exit
from proctree_bpf.sources.loading.filter_maps import _KEY, _PROC
from proctree_bpf.sources.system.clock import boottime_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.filter_in_both_places import FilterInBothPlaces, Script
    from support.filtered_pipeline import FilteredPipeline

NOBODY = 65534
_SIBLINGS = 100


def test_siblings_that_join_at_once_on_two_cpus_have_whole_chains(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script], wanted: str
) -> None:
    """While one CPU tells of the ancestors, the other must not take them as told."""
    script = play(
        """
import mmap
shared = mmap.mmap(-1, 4096)
cpus = sorted(os.sched_getaffinity(0))[:2]
step("begins")
for _ in range(int(sys.argv[2])):
    shared[0:2] = b"\\0\\0"
    top = os.fork()
    if not top:
        for level in range(6):
            rename(f"level-{level}")
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                os._exit(0)
        twins = []
        for number, cpu in enumerate(cpus):
            twin = os.fork()
            if not twin:
                os.sched_setaffinity(0, {cpu})
                shared[number] = 1
                while shared[0:len(cpus)] != b"\\1" * len(cpus):
                    pass
                os.execv(sys.argv[1], ["wanted-one"])
            twins.append(twin)
        for twin in twins:
            os.waitpid(twin, 0)
        os._exit(0)
    os.waitpid(top, 0)
print("done", flush=True)
""",
        wanted,
        str(_SIBLINGS),
    )
    traced = both("ancestor=wanted-one")
    assert script.go() == "begins"
    assert script.go() == "done"
    twins = _SIBLINGS * min(2, len(os.sched_getaffinity(0)))
    for filtered in traced.both:
        filtered.until("all", lambda f=filtered: len(f.of(Exit)) == twins)  # type: ignore[misc]
    told = {(t.kind, t.pid): t for t in traced.user.told}
    assert {(t.kind, t.pid): t for t in traced.kernel.told} == told
    levels = [f"level-{level}" for level in range(5, -1, -1)]
    for each in told.values():
        assert [name for name, _ in each.above][:7] == ["level-5", *levels]


def test_an_exec_that_failed_too_late_to_return_has_given_its_name(
    both: Callable[[str], FilterInBothPlaces], tmp_path: Path
) -> None:
    """Its first segment claims more of the file than it takes of memory: SIGSEGV."""
    image = bytearray(Path("/bin/true").read_bytes())
    (offset,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, 56)
    loaded = next(
        at
        for at in range(offset, offset + 56 * count, 56)
        if struct.unpack_from("<I", image, at) == (1,)
    )
    (size,) = struct.unpack_from("<Q", image, loaded + 32)
    struct.pack_into("<Q", image, loaded + 40, size - 1)
    broken = tmp_path / "broken-one"
    broken.write_bytes(image)
    broken.chmod(0o755)
    traced = both("ancestor=broken-one")
    script = '"$0" & echo $!; wait $!; exit 0'
    done = subprocess.run(["sh", "-c", script, broken], capture_output=True, text=True, check=True)
    traced.until_exit(int(done.stdout))
    for filtered in traced.both:
        (told,) = filtered.told
        assert (told.kind, told.name, told.parent) == ("exit", broken.name, "sh")


def test_an_ancestor_that_is_renamed_keeps_its_user(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script], wanted: str
) -> None:
    script = play(
        """
rename("renamed-one")
print(start(sys.argv[1]), flush=True)
os.wait()
""",
        wanted,
        before=("setpriv", "--reuid", str(NOBODY), "--clear-groups"),
    )
    traced = both("ancestor=wanted-one")
    traced.until_exit(int(script.go()))
    exec_, _ = traced.same()
    assert exec_.above[0] == ("renamed-one", "nobody")


def test_an_ancestor_that_became_another_user_and_ended_is_shown_as_that(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script], wanted: str
) -> None:
    script = play(
        """
ready, ended = os.pipe()
middle = os.fork()
if not middle:
    os.setgid(65534)
    os.setuid(65534)
    last = os.fork()
    if not last:
        os.close(ended)
        os.read(ready, 1)
        os.execv(sys.argv[1], sys.argv[1:])
    print(last, flush=True)
    os._exit(0)
os.waitpid(middle, 0)
os.close(ended)
step()
""",
        wanted,
    )
    traced = both("ancestor=wanted-one")
    traced.until_exit(int(script.go()))
    exec_, _ = traced.same()
    assert exec_.above[0][1] == "nobody"
    assert exec_.above[1][1] == "root"


def test_an_ancestor_above_one_that_ended_before_the_seeds_has_its_new_name(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script], wanted: str
) -> None:
    script = play(
        """
to_middle, to_last = os.pipe(), os.pipe()
middle = os.fork()
if not middle:
    os.read(to_middle[0], 1)
    last = os.fork()
    if not last:
        os.read(to_last[0], 1)
        os.execv(sys.argv[1], sys.argv[1:])
    print(last, flush=True)
    os._exit(0)
step("begins")
os.write(to_middle[1], b"x")
os.waitpid(middle, 0)
print("ended", flush=True)
sys.stdin.readline()
rename("the-new-name")
os.write(to_last[1], b"x")
step("renamed")
""",
        wanted,
    )
    assert script.go() == "begins"
    traced = both("ancestor=wanted-one")
    last = int(script.go())
    assert script.read() == "ended"
    traced.kernel.hand_over_again()
    traced.kernel.until_on()
    assert script.go() == "renamed"
    traced.until_exit(last)
    exec_, _ = traced.same()
    assert exec_.above[1][0] == "the-new-name"


def test_a_name_does_not_count_before_it_was_taken(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script]
) -> None:
    """What had happened before is still held back when the tree catches up from /proc."""
    script = play(
        """
child = os.fork()
if not child:
    rename("wanted-one")
    os._exit(0)
os.waitpid(child, 0)
for _ in range(3):
    os.waitpid(start("/bin/true", "before"), 0)
rename("wanted-one")
after = start("/bin/true", "after")
os.waitpid(after, 0)
step(str(after))
"""
    )
    traced = both("ancestor=wanted-one")
    traced.until_exit(int(script.go()))
    for filtered in traced.both:
        filtered.pipeline.pump()
    assert traced.kernel.filter_controller.fallbacks["joined_late"] >= 1
    lines = [[t.args for t in filtered.told if t.kind == "exec"] for filtered in traced.both]
    assert lines == [[("/bin/true", "after")]] * 2
    kinds = [[(t.kind, t.pid, t.name) for t in filtered.told] for filtered in traced.both]
    assert kinds[0] == kinds[1]


def test_whoever_adopted_an_orphan_is_named_though_it_is_no_ancestor(
    both: Callable[[str], FilterInBothPlaces], wanted: str, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    traced = both("ancestor=wanted-one")
    inner = "printf adopter >/proc/$$/comm; echo ready; read line; exit 0"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", inner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == "ready\n"
        (init,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        orphan = f"(read line <{fifo}; exec {wanted}) & exit 0"
        subprocess.run(["nsenter", "-t", init, "-p", "sh", "-c", orphan], check=True)
        fifo.write_text("go\n")
        for filtered in traced.both:
            filtered.until("its end", lambda f=filtered: bool(f.of(Exit)))  # type: ignore[misc]
        outer.communicate("end\n")
    exec_, exit_ = traced.same()
    assert exec_.parent == exit_.parent == "adopter"
    assert "adopter" not in [name for name, _ in exec_.above]


def test_an_orphan_that_joins_by_a_name_has_its_new_parent_though_that_end_was_left_out(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script]
) -> None:
    script = play(
        """
import ctypes
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
rename("adopter")
told, wait = os.pipe(), os.pipe()
step("begins")
middle = os.fork()
if not middle:
    rename("the-middle")
    self = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == self:
        time.sleep(0.001)
    os.write(told[1], b"%d" % os.getpid())
    os.read(wait[0], 1)
    rename("wanted-one")
    rename("as-it-was")
    os._exit(0)
os.waitpid(middle, 0)
orphan = int(os.read(told[0], 20))
os.write(wait[1], b"x")
os.waitpid(orphan, 0)
step(str(orphan))
"""
    )
    assert script.go() == "begins"
    traced = both("ancestor=wanted-one")
    orphan = int(script.go())
    traced.until_exit(orphan)
    parents = [[(t.kind, t.pid, t.parent) for t in filtered.told] for filtered in traced.both]
    kinds = ("rename", "rename", "exit")
    assert parents == [[(kind, orphan, "adopter") for kind in kinds]] * 2


def test_an_end_that_is_told_twice_does_not_forget_whose_child_lives(
    both: Callable[[str], FilterInBothPlaces], play: Callable[..., Script], wanted: str
) -> None:
    """Before Linux 6.18 two last threads can both tell of it."""
    script = play(
        """
to_middle, to_last = os.pipe(), os.pipe()
middle = os.fork()
if not middle:
    rename("the-middle")
    last = os.fork()
    if not last:
        os.read(to_last[0], 1)
        os.execv(sys.argv[1], sys.argv[1:])
    print(os.getpid(), last, flush=True)
    os.read(to_middle[0], 1)
    os._exit(0)
sys.stdin.readline()
os.write(to_middle[1], b"x")
os.waitpid(middle, 0)
step("ended")
os.write(to_last[1], b"x")
print("released", flush=True)
""",
        wanted,
    )
    traced = both("ancestor=wanted-one")
    middle, last = map(int, script.go().split())
    note_end(traced.kernel, middle)
    assert script.go() == "ended"
    assert script.go() == "released"
    traced.until_exit(last)
    exec_, _ = traced.same()
    assert exec_.above[0][0] == "the-middle"


def note_end(filtered: FilteredPipeline, pid: int) -> None:
    """Note in the kernel, as the first to tell does, that a process with one child has ended."""
    kernel = filtered.source.kernel_filter
    assert kernel is not None
    (key,) = (raw for raw in kernel._procs.keys() if _KEY.unpack(raw)[1] == pid)  # noqa: SIM118
    creator_ns, creator, ended_ns, refs, *rest = _PROC.unpack(kernel._procs.get(key))
    assert (ended_ns, refs) == (0, 2)
    assert kernel._procs.put(key, _PROC.pack(creator_ns, creator, boottime_ns(), 1, *rest))
