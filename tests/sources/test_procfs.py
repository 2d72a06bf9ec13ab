"""Reading /proc: a fake one in a directory for what is rare, the real one for what is true."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proctree_bpf import PidTree, ProcCache, ProcessKey, parse_proc_entry, snapshot
from proctree_bpf.sources.system import procfs
from support.fake_proc import FakeProc

if TYPE_CHECKING:
    from collections.abc import Iterator

_MISSING = 3_999_999


def _open_files() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


@pytest.fixture
def fake(tmp_path: Path) -> FakeProc:
    proc = FakeProc(tmp_path)
    proc.add(1, 0, b"init", 5, cmdline=b"/sbin/init\0", exe="/usr/sbin/init")
    return proc


class TestOneProcess:
    def test_a_process_is_read_with_all_its_details(self, fake: FakeProc) -> None:
        fake.add(20, 1, b"sh", 250, uid=4_000_000_001, ns_pids=(20, 7))
        entry = parse_proc_entry(20, str(fake))
        assert entry is not None
        node, info = entry
        assert (node.pid, node.ppid, node.cmd) == (20, 1, "sh")
        assert node.start_time_ns == info.start_time_ns == 2_500_000_000
        assert node.creator == ProcessKey(1, 50_000_000)
        assert (info.uid, info.gid, info.user) == (4_000_000_001, 4_000_000_001, "4000000001")
        assert info.args == ("sh", "-c", "true")
        assert info.executable == "/bin/sh"
        assert info.ns_pid == 7
        assert not info.inherited
        assert not info.truncated

    def test_a_name_is_not_that_of_another_program_than_the_arguments(self, tmp_path: Path) -> None:
        """Two scripts call exec for each other, as often as they can."""
        for name, other in (("one", "another"), ("another", "one")):
            script = tmp_path / name
            script.write_text(f"#!/bin/sh\nexec {tmp_path / other}\n")
            script.chmod(0o755)
        told = []
        with subprocess.Popen([tmp_path / "one"]) as process:
            try:
                for _ in range(500):
                    read = procfs.read_process(process.pid)
                    assert read is not None
                    told.append((read[1].cmd, read[1].args[1:]))
            finally:
                process.kill()
        right = {(name, (str(tmp_path / name),)) for name in ("one", "another")}
        assert right <= set(told)
        assert all(each in right for each in told if each[1]), told

    @pytest.mark.parametrize("name", ["stat", "status"])
    @pytest.mark.parametrize("content", [b"", b"\0", b"garbage\n", b"20 (sh) S\n", b"\xff" * 5000])
    def test_a_process_with_a_garbled_file_is_none(
        self, fake: FakeProc, name: str, content: bytes
    ) -> None:
        (fake.add(20) / name).write_bytes(content)
        assert parse_proc_entry(20, str(fake)) is None

    @pytest.mark.parametrize("name", ["stat", "status"])
    def test_a_process_without_a_needed_file_is_none(self, fake: FakeProc, name: str) -> None:
        (fake.add(20) / name).unlink()
        assert parse_proc_entry(20, str(fake)) is None

    def test_arguments_that_may_not_be_read_are_unknown_not_empty(self, fake: FakeProc) -> None:
        directory = fake.add(20)
        (directory / "cmdline").unlink()
        entry = parse_proc_entry(20, str(fake))
        assert entry is not None
        assert entry[1].args_raw is None

    def test_a_kernel_thread_has_neither_arguments_nor_executable(self, fake: FakeProc) -> None:
        fake.add(2, 0, b"kthreadd", 5, cmdline=b"", exe=None)
        entry = parse_proc_entry(2, str(fake))
        assert entry is not None
        assert (entry[1].args_raw, entry[1].executable) == (None, None)

    @pytest.mark.parametrize(("size", "cut"), [(32_768, False), (32_769, True), (200_000, True)])
    def test_long_arguments_are_cut_and_flagged(
        self, fake: FakeProc, *, size: int, cut: bool
    ) -> None:
        fake.add(20, cmdline=b"x" * size)
        entry = parse_proc_entry(20, str(fake))
        assert entry is not None
        assert entry[1].truncated is cut
        assert len(entry[1].args_raw or b"") == min(size, 32_768)

    @pytest.mark.parametrize(
        "comm", [b"a) S 1 (b", b") R 0 0", b"two\nlines", b"", b"\xff\xfe", b"(", b" ", b"\x1b[2J"]
    )
    def test_a_name_may_hold_anything(self, fake: FakeProc, comm: bytes) -> None:
        fake.add(20, 1, comm, 250)
        assert os.fsencode(procfs.read_proc_comm(20, str(fake)) or "") == comm
        assert procfs.read_proc_start_time_ns(20, str(fake)) == 2_500_000_000
        entry = parse_proc_entry(20, str(fake))
        assert entry is not None
        assert os.fsencode(entry[0].cmd) == comm

    @pytest.mark.parametrize("pid", [0, -1, 2**32 - 1, 2**32, 2**63, _MISSING])
    def test_a_pid_that_cannot_be_is_nobody(self, pid: int) -> None:
        assert parse_proc_entry(pid) is None
        assert procfs.read_proc_comm(pid) is None
        assert procfs.read_proc_start_time_ns(pid) == 0
        assert procfs.read_key(pid) == ProcessKey(pid, 0)

    def test_a_parent_that_is_not_there_is_known_by_its_pid_only(self, fake: FakeProc) -> None:
        fake.add(20, 19)
        entry = parse_proc_entry(20, str(fake))
        assert entry is not None
        assert entry[0].creator == ProcessKey(19, 0)

    def test_a_parent_younger_than_its_child_is_somebody_else(self, fake: FakeProc) -> None:
        """The parent's PID was reused between the two reads."""
        fake.add(20, 19, start_ticks=250)
        fake.add(19, 1, start_ticks=251)
        entry = parse_proc_entry(20, str(fake))
        assert entry is not None
        assert entry[0].creator == ProcessKey(19, 0)

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(stat=st.binary(max_size=200), status=st.binary(max_size=200))
    def test_no_content_raises(self, fake: FakeProc, stat: bytes, status: bytes) -> None:
        directory = fake.directory(20)
        directory.mkdir(exist_ok=True)
        (directory / "stat").write_bytes(stat)
        (directory / "status").write_bytes(status)
        assert parse_proc_entry(20, str(fake)) is None
        assert len(procfs.read_snapshot(str(fake))) == 1


class TestSnapshot:
    def test_everybody_is_linked_to_their_parent(self, fake: FakeProc) -> None:
        fake.add(20, 1, start_ticks=100)
        fake.add(30, 20, start_ticks=200)
        creators = {node.pid: node.creator for node, _ in procfs.read_snapshot(str(fake))}
        assert creators == {
            1: ProcessKey(0, 0),
            20: ProcessKey(1, 50_000_000),
            30: ProcessKey(20, 1_000_000_000),
        }

    def test_what_is_no_process_is_passed_over(self, fake: FakeProc) -> None:
        for name in ("self", "12a", "-3", "+4", "1_0", "sys"):
            (fake.root / name).mkdir()
        (fake.root / "7").write_text("a file")
        assert procfs.list_pids(str(fake)) == [1, 7]
        assert [node.pid for node, _ in procfs.read_snapshot(str(fake))] == [1]

    def test_one_unreadable_process_does_not_hide_the_others(self, fake: FakeProc) -> None:
        (fake.add(20) / "stat").write_bytes(b"garbage")
        fake.add(30)
        fake.directory(40).mkdir()
        assert [node.pid for node, _ in procfs.read_snapshot(str(fake))] == [1, 30]

    def test_a_process_that_vanishes_while_we_read_is_left_out(self, fake: FakeProc) -> None:
        fake.add(20)
        fake.add(30)
        found = []
        for stat, _ in procfs.iter_snapshot(str(fake)):
            found.append(stat.pid)
            if stat.pid == 1:
                fake.remove(20)
        assert found == [1, 30]

    def test_a_reused_parent_pid_is_not_taken_for_the_parent(self, fake: FakeProc) -> None:
        fake.add(20, 19, start_ticks=100)
        fake.add(19, 1, start_ticks=101)
        (node,) = (node for node, _ in procfs.read_snapshot(str(fake)) if node.pid == 20)
        assert node.creator == ProcessKey(19, 0)

    def test_a_missing_proc_is_an_error_not_an_empty_machine(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="nowhere"):
            procfs.read_snapshot(str(tmp_path / "nowhere"))

    def test_pids_are_listed_in_ascending_order(self, fake: FakeProc) -> None:
        for pid in (300, 20, 1000, 9):
            fake.add(pid)
        assert procfs.list_pids(str(fake)) == [1, 9, 20, 300, 1000]

    def test_a_second_snapshot_adds_only_what_is_new(self, fake: FakeProc) -> None:
        tree, cache = PidTree(), ProcCache()
        fake.add(20)
        assert snapshot(tree, cache, str(fake)) == 2
        fake.add(30)
        assert snapshot(tree, cache, str(fake)) == 1


class TestReal:
    @pytest.fixture
    def child(self) -> Iterator[int]:
        with subprocess.Popen(["sleep", "60"]) as process:
            yield process.pid
            process.kill()

    def test_a_child_is_as_we_started_it(self, child: int) -> None:
        entry = parse_proc_entry(child)
        assert entry is not None
        node, info = entry
        assert (node.ppid, node.cmd, info.args) == (os.getpid(), "sleep", ("sleep", "60"))
        assert info.executable == str(Path(f"/proc/{child}/exe").readlink())
        assert (info.uid, info.gid) == (os.getuid(), os.getgid())
        assert info.user == Path(f"/proc/{child}").owner()
        assert node.creator == procfs.read_key(os.getpid())

    def test_a_zombie_is_still_a_process_without_arguments(self) -> None:
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            entry = parse_proc_entry(process.pid)
            assert entry is not None
            assert (entry[0].cmd, entry[1].args) == ("true", ())
            assert entry[1].executable is None
        assert parse_proc_entry(process.pid) is None

    def test_nothing_is_left_open(self) -> None:
        before = _open_files()
        procfs.read_snapshot()
        parse_proc_entry(os.getpid())
        assert _open_files() == before

    def test_the_boot_id_is_the_kernels(self) -> None:
        assert procfs.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def test_a_uid_is_named_if_somebody_has_it(self) -> None:
        assert procfs.uid_to_username(0) == "root"
        assert procfs.uid_to_username(3_999_999_999) is None
        assert procfs.uid_to_username(2**32 - 1) is None
        assert procfs.uid_to_username(2**64) is None
