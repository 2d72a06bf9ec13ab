"""The rings of all CPUs: opened, refused, left alone in a child, and had again when lost."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf import BpfOptions, BpfSource, Exec, Exit, Fork
from proctree_bpf.codecs.sample_decoder import PERF_RECORD_SAMPLE, take_samples
from proctree_bpf.sources.loading import bpf_program
from proctree_bpf.sources.rings import perf_rings
from proctree_bpf.sources.rings.perf_ring import OfflineError
from proctree_bpf.sources.rings.perf_rings import PerfRings, cpus_in
from support.polled_source import PolledSource
from support.program import environment
from support.spawner import unique
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.actor import Helpers
    from support.filtered_pipeline import FilteredPipeline

_ONLINE = Path("/sys/devices/system/cpu/online")
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_DISABLE = 0x2401  # PERF_EVENT_IOC_DISABLE
_COUNT = 20
_OPENING = """
import os, resource
from proctree_bpf import SourceUnavailableError
from proctree_bpf.sources.rings.perf_rings import PerfRings, cpus_in

def open_files():
    return os.listdir("/proc/self/fd")

def limit(what, soft):
    resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))

pages = 8
cpus = len(cpus_in(open("/sys/devices/system/cpu/online", "rb").read()))
def set_ring(cpu, fd):
    assert not os.get_inheritable(fd)
before = open_files()
{setup}
try:
    rings = PerfRings(set_ring, pages)
except SourceUnavailableError as error:
    print(error.refusal.value, error, sep=": ")
else:
    rings.close()
    print("opened")
limit(resource.RLIMIT_NOFILE, 256)
assert open_files() == before, open_files()
"""


def opening(setup: str = "", *before: str) -> str:
    """Open rings in a process of their own; return how it ended, or fail if any stay open."""
    return _run(_OPENING.format(setup=setup), *before)


def _run(script: str, *before: str) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", script], env=environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def until_quiet(filtered: FilteredPipeline) -> None:
    """Pump until nothing was sent since: what follows in the same moment finds it at rest."""
    wait_until("rest", lambda: (filtered.pipeline.pump(), filtered.source.is_quiet())[1])


class TestOpening:
    def test_each_cpu_that_is_online_has_one_and_the_map_is_told(self) -> None:
        told: dict[int, int] = {}
        rings = PerfRings(told.__setitem__, 8)
        online = sorted(cpus_in(_ONLINE.read_bytes()))
        assert rings.cpus() == sorted(told) == online
        for fd in told.values():
            assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[perf_event]"  # noqa: PTH115
        assert rings.take() == []
        assert rings.fill() == 0.0
        rings.close()
        rings.close()
        assert rings.cpus() == rings.take() == []

    def test_they_are_closed_and_never_inherited(self) -> None:
        assert opening() == "opened\n"

    def test_too_many_open_files_are_named_with_their_limit(self) -> None:
        # Those of stdin, stdout, stderr, the list, and of all CPUs but one.
        told = opening("limit(resource.RLIMIT_NOFILE, 3 + 1 + cpus - 1)")
        assert told.startswith("unsupported: the perf buffer of CPU ")
        assert "Too many open files; allow more open files (ulimit -n)" in told

    def test_a_list_that_cannot_be_opened_is_named(self) -> None:
        told = opening("limit(resource.RLIMIT_NOFILE, 3)")
        assert told.startswith(f"unsupported: {_ONLINE}")
        assert "Too many open files" in told

    @pytest.mark.skipif(int(_PARANOID.read_text()) < 0, reason="any memory may be locked here")
    def test_memory_that_may_not_be_locked_is_named_with_its_remedies(self) -> None:
        told = opening(
            "pages = 4096; limit(resource.RLIMIT_MEMLOCK, 0)",
            *("setpriv", "--bounding-set=-ipc_lock"),
        )
        assert told.startswith("unsupported: perf buffers of 4096 pages per CPU ")
        for remedy in ("--perf-pages", "ulimit -l", "CAP_IPC_LOCK"):
            assert remedy in told

    def test_more_memory_than_there_is_calls_for_less(self) -> None:
        told = opening("pages = 1 << 34")
        assert told.startswith("unsupported: perf buffers of 17179869184 pages per CPU ")
        assert "try a smaller --perf-pages" in told

    @pytest.mark.skipif(int(_PARANOID.read_text()) < 1, reason="anybody may open them here")
    def test_a_missing_privilege_is_named(self) -> None:
        told = opening("", "setpriv", "--bounding-set=-perfmon,-sys_admin")
        assert "CAP_PERFMON" in told

    def test_a_map_that_takes_none_is_our_fault(self) -> None:
        told = opening("""def set_ring(cpu, fd): raise OSError(7, "Argument list too long")""")
        assert told.startswith("broken: the perf buffer of CPU 0 could not be handed to BPF ")


def test_a_child_leaves_them_to_its_parent_and_finds_none() -> None:
    script = """
    import gc, os
    from proctree_bpf.sources.rings.perf_rings import PerfRings
    fds = []
    rings = PerfRings(lambda cpu, fd: fds.append(fd), 8)
    child = os.fork()
    if child == 0:
        assert not set(map(str, fds)) & set(os.listdir("/proc/self/fd"))
        assert rings.take() == rings.cpus() == []
        assert rings.fill() == 0.0
        rings.close()
        del rings
        gc.collect()
        own = PerfRings(lambda cpu, fd: None, 8)
        assert own.cpus()
        raise SystemExit
    assert os.waitpid(child, 0)[1] == 0
    assert rings.cpus() and rings.take() == []
    print("all there")
    """
    assert _run(textwrap.dedent(script)) == "all there\n"


class TestCpusThatComeAndGo:
    """With a list of CPUs that the test writes; the CPUs are there all the time."""

    @pytest.fixture
    def online(self, tmp_path: Path) -> Path:
        path = tmp_path / "online"
        path.write_text("0\n")
        return path

    @pytest.fixture
    def told(self) -> list[int]:
        return []

    @pytest.fixture
    def rings(self, online: Path, told: list[int]) -> Iterator[PerfRings]:
        rings = PerfRings(lambda cpu, _: told.append(cpu), 8, online)
        yield rings
        rings.close()

    def test_one_that_comes_has_a_ring_after_the_next_drain(
        self, rings: PerfRings, online: Path, told: list[int]
    ) -> None:
        online.write_text("\n")
        rings.take()
        assert rings.cpus() == []
        for _ in range(3):
            online.write_text("0\n")
            rings.take()
            assert rings.cpus() == [0]
            online.write_text("\n")
            rings.take()
            assert rings.cpus() == []
        assert told == [0] * 4

    def test_until_the_next_drain_they_know_that_they_are_out_of_date(
        self, rings: PerfRings, online: Path
    ) -> None:
        for text in ("\n", "0\n"):
            assert rings.is_up_to_date()
            online.write_text(text)
            assert not rings.is_up_to_date()
            rings.take()
        assert rings.is_up_to_date()

    def test_one_that_stays_keeps_its_ring(self, rings: PerfRings, told: list[int]) -> None:
        for _ in range(100):
            rings.take([0, 5])
        assert told == [0]

    def test_one_that_is_listed_but_not_there_yet_is_tried_at_each_drain(
        self, rings: PerfRings, online: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the kernel says of such a CPU, tests/kernel/test_cpu_hotplug.py asks it."""
        there, event = False, perf_rings.PerfEvent

        def opened(cpu: int, pages: int) -> perf_rings.PerfEvent:
            if cpu == 1 and not there:
                raise OfflineError(cpu)
            return event(0, pages)

        monkeypatch.setattr(perf_rings, "PerfEvent", opened)
        online.write_text("0-1\n")
        for _ in range(3):
            rings.take()
            assert rings.cpus() == [0]
            assert rings.refused == {}
        there = True
        rings.take()
        assert rings.cpus() == [0, 1]

    def test_one_that_is_refused_is_kept_with_its_reason_and_tried_again_later(
        self, online: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(perf_rings, "_TRIED_AGAIN_AFTER_S", 3600)
        refusing, tries = True, []

        def set_ring(cpu: int, _: int) -> None:
            tries.append(cpu)
            if refusing and len(tries) > 1:
                raise OSError(7, "no room")

        rings = PerfRings(set_ring, 8, online)
        open_before = open_files()
        online.write_text("\n")
        rings.take()
        online.write_text("0\n")
        for _ in range(5):
            rings.take()
        assert len(tries) == 2
        assert "no room" in str(rings.refused[0])
        assert open_files() == open_before - 1
        refusing = False
        monkeypatch.setattr(perf_rings, "_TRIED_AGAIN_AFTER_S", 0)
        rings.take()
        assert rings.cpus() == [0]
        assert rings.refused == {}
        rings.close()


class TestWhatIsSentMeanwhile:
    """The list is the test's, the records are the kernel's."""

    @pytest.fixture
    def cpu(self) -> int:
        return max(os.sched_getaffinity(0))

    @pytest.fixture
    def online(self, tmp_path: Path) -> Path:
        path = tmp_path / "online"
        path.write_bytes(_ONLINE.read_bytes())
        return path

    @pytest.fixture
    def without(self, cpu: int) -> str:
        """The list as it would be without a CPU."""
        others = sorted(cpus_in(_ONLINE.read_bytes()) - {cpu})
        return ",".join(map(str, others)) + "\n"

    @pytest.fixture
    def watched(
        self, monkeypatch: pytest.MonkeyPatch, online: Path, helpers: Helpers, tmp_path: Path
    ) -> Iterator[PolledSource]:
        monkeypatch.setattr(bpf_program, "PerfRings", partial(PerfRings, online=online))
        with PolledSource(BpfSource(BpfOptions(perf_pages=1024)), helpers, tmp_path) as watched:
            yield watched

    def test_before_its_cpu_has_a_ring_is_lost_and_counted_and_not_after(
        self, watched: PolledSource, cpu: int, online: Path, without: str
    ) -> None:
        watched.poll()
        online.write_text(without)
        watched.poll()
        early = watched.spawn(unique("early"), _COUNT, cpu)
        watched.settle()
        assert watched.kinds(early) == {}
        assert watched.lost(cpu) >= 3 * _COUNT
        online.write_bytes(_ONLINE.read_bytes())
        watched.poll()
        watched.settle()
        before = watched.lost(cpu)
        late = watched.spawn(unique("late"), _COUNT, cpu)
        watched.settle()
        assert watched.kinds(late) == {Fork: _COUNT, Exec: _COUNT, Exit: _COUNT}
        assert watched.lost(cpu) == before
        watched.balances()

    def test_comes_to_a_ring_also_if_the_reader_rested(
        self,
        begun: Callable[..., FilteredPipeline],
        monkeypatch: pytest.MonkeyPatch,
        cpu: int,
        online: Path,
        without: str,
    ) -> None:
        """Otherwise the first record there would wake it, and be lost."""
        monkeypatch.setattr(bpf_program, "PerfRings", partial(PerfRings, online=online))
        filtered = begun("ancestor=nobody-has-this")
        filtered.until_on()
        for text, has_ring in ((without, False), (_ONLINE.read_text(), True)):
            until_quiet(filtered)
            online.write_text(text)
            assert not filtered.source.is_quiet()
            filtered.pipeline.pump()
            rings = filtered.source._program.rings
            assert (cpu in rings.cpus()) == has_ring
        until_quiet(filtered)

    def test_before_its_cpu_went_is_read(
        self, watched: PolledSource, cpu: int, online: Path, without: str
    ) -> None:
        sent = watched.spawn(unique("last-words"), _COUNT, cpu)
        online.write_text(without)
        watched.settle()
        assert watched.kinds(sent) == {Fork: _COUNT, Exec: _COUNT, Exit: _COUNT}

    def test_is_cut_where_the_kernel_says(self, watched: PolledSource, cpu: int) -> None:
        """A raw sample has the size of its data before it, which need not be read."""
        watched.settle()
        watched.spawn(unique("cut"), _COUNT, cpu)
        program = watched.source._program
        assert program is not None
        assert program.rings is not None
        expected, found = [], []
        for _, data in program.rings.take():
            take_samples(0, data, found)
            at = 0
            while at < len(data):
                kind, _, size, data_size = struct.unpack_from("=IHHI", data, at)
                if kind == PERF_RECORD_SAMPLE:
                    expected.append((0, data[at + 12 : at + 12 + data_size]))
                at += size
        assert len(expected) >= 3 * _COUNT
        assert found == expected

    def test_when_its_event_has_died_is_lost_and_counted_until_the_next_drain(
        self, watched: PolledSource, cpu: int
    ) -> None:
        """Disabling an event leaves it as the end of its CPU does (PERF_EVENT_STATE_OFF)."""
        watched.settle()
        program = watched.source._program
        assert program is not None
        assert program.rings is not None
        fcntl.ioctl(program.rings._events[cpu].fd, _DISABLE, 0)
        deaf = watched.spawn(unique("deaf"), _COUNT, cpu)
        watched.settle()
        assert watched.kinds(deaf) == {}
        before = watched.lost(cpu)
        assert before >= 3 * _COUNT
        heard = watched.spawn(unique("heard"), _COUNT, cpu)
        watched.settle()
        assert watched.kinds(heard) == {Fork: _COUNT, Exec: _COUNT, Exit: _COUNT}
        assert watched.lost(cpu) == before
        watched.balances()
