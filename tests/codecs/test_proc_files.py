"""What the kernel writes into ``/proc``, and what a process can do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proctree_bpf.codecs.proc_files import Stat, decode_name, parse_stat, parse_status
from proctree_bpf.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

STAT = (
    b"42 (comm) S 7 42 42 0 -1 4194560 0 0 0 0 1 2 3 4 20 0 5 0 1234567 44175360 3390 "
    b"18446744073709551615 1 1 0 0 0 0 0 4096 1256 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
STATUS = (
    b"Name:\tcomm\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t42\nNgid:\t0\nPid:\t42\nPPid:\t7\n"
    b"TracerPid:\t0\nUid:\t1000\t1001\t1002\t1003\nGid:\t100\t101\t102\t103\nFDSize:\t64\n"
    b"Groups:\t4 24\nNStgid:\t42\t3\nNSpid:\t42\t3\nKthread:\t0\n"
)
HOSTILE = [
    b"a) S 1 (b",
    b")",
    b"(",
    b"))))",
    b"((((",
    b") ",
    b" ",
    b"a b c",
    b"a\nb",
    b"\n",
    b") R 1 2 3 4 5 6",
    b"\xff\xfe\x80",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"0123456789abcde",
]


def stat_of(comm: bytes) -> bytes:
    return STAT.replace(b"(comm)", b"(" + comm + b")")


class TestStat:
    def test_the_fields_are_those_of_the_manual(self) -> None:
        stat = parse_stat(STAT)
        assert (stat.pid, stat.comm, stat.state, stat.ppid) == (42, "comm", "S", 7)
        assert (stat.flags, stat.start_ticks) == (4_194_560, 1_234_567)

    @pytest.mark.parametrize("comm", [b"", *HOSTILE])
    def test_a_name_may_hold_anything(self, comm: bytes) -> None:
        stat = parse_stat(stat_of(comm))
        assert os.fsencode(stat.comm) == comm
        assert (stat.pid, stat.ppid, stat.start_ticks) == (42, 7, 1_234_567)

    @given(st.binary(max_size=15))
    def test_any_name_is_kept_byte_by_byte(self, comm: bytes) -> None:
        assert os.fsencode(parse_stat(stat_of(comm)).comm) == comm

    def test_a_line_without_its_newline_is_a_line(self) -> None:
        assert parse_stat(STAT.rstrip()) == parse_stat(STAT)

    def test_it_cannot_end_before_the_start_time(self) -> None:
        needed = STAT.index(b"1234567")
        for length in range(needed):
            with pytest.raises(DecodeError):
                parse_stat(STAT[:length])

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\n",
            b"42 comm S 7",
            b"x (comm) S 7",
            STAT.replace(b"42 (", b"-1 ("),
            STAT.replace(b"42 (", b"4294967296 ("),
            STAT.replace(b" S 7 ", b" 7 7 "),
            STAT.replace(b" S 7 ", b" S -7 "),
            STAT.replace(b" S 7 ", b" S 4294967296 "),
            STAT.replace(b"1234567", b"18446744073709551616"),
            STAT.replace(b"1234567", b"9" * 5_000),
            STAT.replace(b"1234567", b"12.5"),
            STAT.replace(b" S 7 ", b" S \xd9\xa3 "),
        ],
    )
    def test_what_is_no_stat_is_refused(self, raw: bytes) -> None:
        with pytest.raises(DecodeError):
            parse_stat(raw)


class TestStatus:
    def test_ids_are_the_real_ones(self) -> None:
        status = parse_status(STATUS)
        assert (status.tgid, status.uid, status.gid) == (42, 1000, 100)

    def test_the_pid_of_the_innermost_namespace_is_the_last(self) -> None:
        assert parse_status(STATUS).ns_pid == 3

    def test_a_kernel_without_pid_namespaces_shows_one_pid(self) -> None:
        without = STATUS.replace(b"NSpid:\t42\t3\n", b"")
        assert parse_status(without).ns_pid == 42

    def test_a_name_cannot_pose_as_another_line(self) -> None:
        """The kernel escapes the newline, and the first line of a kind is not the last word."""
        posing = STATUS.replace(b"Name:\tcomm", b"Name:\ta\\nUid:\\t0")
        assert parse_status(posing).uid == 1000

    @pytest.mark.parametrize("line", [b"Tgid:\t42\n", b"Uid:\t1000\t1001\t1002\t1003\n", b"Gid:"])
    def test_what_lacks_an_id_is_refused(self, line: bytes) -> None:
        with pytest.raises(DecodeError):
            parse_status(STATUS.replace(line, b"X" + line))

    @pytest.mark.parametrize("value", [b"", b"-1", b"x", b"4294967296", b"\xff"])
    def test_an_id_that_is_no_number_is_refused(self, value: bytes) -> None:
        with pytest.raises(DecodeError):
            parse_status(STATUS.replace(b"Uid:\t1000", b"Uid:\t" + value + b"z"))


@contextmanager
def thread_named(comm: bytes) -> Iterator[int]:
    """Run a thread of this process that the kernel knows by this name."""
    started, done = threading.Event(), threading.Event()
    tids: list[int] = []

    def wait() -> None:
        tids.append(threading.get_native_id())
        started.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        started.wait()
        Path(f"/proc/self/task/{tids[0]}/comm").write_bytes(comm)
        yield tids[0]
    finally:
        done.set()
        thread.join()


class TestTheKernel:
    def test_it_agrees_about_this_process(self) -> None:
        stat = parse_stat(Path("/proc/self/stat").read_bytes())
        status = parse_status(Path("/proc/self/status").read_bytes())
        assert stat.pid == status.tgid == os.getpid()
        assert stat.ppid == os.getppid()
        assert (status.uid, status.gid) == (os.getuid(), os.getgid())
        assert stat.comm == decode_name(Path("/proc/self/comm").read_bytes()[:-1])
        assert stat.start_ticks > 0
        assert stat.has_execed

    def test_the_stack_is_another_after_an_exec_and_the_same_after_a_fork(self) -> None:
        script = "cat /proc/$$/stat; (cat /proc/self/stat); exec cat /proc/self/stat"
        lines = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
        shell, child, later = map(parse_stat, lines.splitlines())
        assert shell.pid == later.pid != child.pid
        assert 0 not in (shell.start_stack, later.start_stack)
        assert shell.start_stack != later.start_stack
        forked = os.fork()
        if not forked:
            signal.pause()
        try:
            own, its = (parse_stat(Path(f"/proc/{pid}/stat").read_bytes())
                        for pid in ("self", forked))  # fmt: skip
        finally:
            os.kill(forked, signal.SIGKILL)
            os.waitpid(forked, 0)
        assert own.start_stack == its.start_stack
        assert (own.has_execed, its.has_execed) == (True, False)

    def test_every_process_it_shows_is_understood(self) -> None:
        seen: list[Stat] = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                stat_bytes = (directory / "stat").read_bytes()
                status_bytes = (directory / "status").read_bytes()
            except OSError:
                continue  # it has ended
            stat, status = parse_stat(stat_bytes), parse_status(status_bytes)
            assert stat.pid == status.tgid == int(directory.name)
            seen.append(stat)
        assert os.getpid() in {stat.pid for stat in seen}

    @pytest.mark.parametrize("comm", HOSTILE)
    def test_a_hostile_name_survives_it(self, comm: bytes) -> None:
        with thread_named(comm) as tid:
            raw = Path(f"/proc/self/task/{tid}/stat").read_bytes()
            told = Path(f"/proc/self/task/{tid}/comm").read_bytes()[:-1]
            status = parse_status(Path(f"/proc/self/task/{tid}/status").read_bytes())
        stat = parse_stat(raw)
        assert os.fsencode(stat.comm) == comm == told
        assert (stat.pid, stat.ppid) == (tid, os.getppid())
        assert (status.tgid, status.uid) == (os.getpid(), os.getuid())

    @settings(max_examples=30, deadline=None)
    @given(st.binary(min_size=1, max_size=15).filter(lambda comm: b"\0" not in comm))
    def test_any_name_survives_it(self, comm: bytes) -> None:
        with thread_named(comm) as tid:
            raw = Path(f"/proc/self/task/{tid}/stat").read_bytes()
        assert os.fsencode(parse_stat(raw).comm) == comm


@given(st.binary())
def test_a_decoded_name_gives_its_bytes_back(raw: bytes) -> None:
    assert decode_name(raw).encode("utf-8", "surrogateescape") == raw
