"""Namespaces and mounts in which a source would be wrong: it is right there, or it is refused.

What is right is what the kernel says outside.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.program import AS_NOBODY, Result, actions, in_own_mounts, of_process, run, tracing
from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.program import Trace

pytestmark = pytest.mark.kernel

_BTF = Path("/sys/kernel/btf/vmlinux")
_ALL = ("-f", "jsonl", "-e", "fork,exec,exit")
_SHIFTED = ["unshare", "--time", "--fork", "--boottime", "100000", "--monotonic", "5000"]
_USER_NS = ["unshare", "--user", "--map-root-user"]
_CAPABLE = [word.replace("+dac_read_search", "+dac_read_search,+bpf,+perfmon")
            for word in AS_NOBODY]  # fmt: skip
_SUBSET = in_own_mounts("mount -t proc -o subset=pid proc /proc")
every_source = pytest.mark.parametrize("source", ["bpf", "proc-connector", "proc-walker"])

# unshare(2) with offsets of the clock since boot that unshare(1) cannot give; then the command.
_WITH_OFFSET = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x80) == 0
with open("/proc/self/timens_offsets", "w") as file:
    file.write(f"boottime {sys.argv[1]} {sys.argv[2]}")
child = os.fork()
if not child:
    os.execvp(sys.argv[3], sys.argv[3:])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def with_offset(seconds: int, nanoseconds: int) -> list[str]:
    return [sys.executable, "-c", _WITH_OFFSET, str(seconds), str(nanoseconds)]


def ticks_of(pid: int) -> int:
    """Return when a process began, as the kernel shows it outside."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def entity_of(pid: int) -> str:
    """Return the end of a process's id, as it is outside."""
    return f"-{pid}-{ticks_of(pid)}"


def stop(trace: Trace) -> Result:
    """End a trace that runs below a wrapper."""
    children = Path(f"/proc/{trace.pid}/task/{trace.pid}/children").read_text().split()
    os.kill(int(children[0]) if children else trace.pid, signal.SIGINT)
    return trace.wait(PATIENCE_S)


@contextmanager
def living(*before: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a shell that ends with status 3 when its stdin does."""
    words = [*before, "/bin/sh", "-c", "read x; exit 3", "prt-place"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as shell:
        yield shell


def findings(*, before: Sequence[str]) -> dict[str, dict[str, Any]]:
    result = run("doctor", "--json", before=before)
    assert result.err == ""
    return {finding["check"]: finding for finding in json.loads(result.out)["findings"]}


class TestTime:
    @every_source
    def test_records_are_those_of_outside(self, source: str) -> None:
        with tracing(*_ALL, "--source", source, before=_SHIFTED) as trace:
            with living() as shell:
                own, child = entity_of(os.getpid()), entity_of(shell.pid)
                wait_until("it is told of", lambda: f'"pid":{shell.pid},' in trace.out())
                alive_ns = time.time_ns()
            result = stop(trace)
        assert result.code == 0, result.err
        assert "nothing lost" in result.err
        mine = of_process(result.records(), shell.pid)
        assert actions(mine) == ["fork", "exec", "exit"]
        for record in mine:
            assert record["process"]["entity_id"].endswith(child)
            chain = {link["pid"]: link for link in record["proctree"]["chain"]}
            assert chain[os.getpid()]["entity_id"].endswith(own)
            assert all(link["name"] for link in chain.values())
            told = datetime.fromisoformat(record["@timestamp"])
            assert abs(told.timestamp() - alive_ns / 1e9) < 60

    @every_source
    def test_a_command_is_traced_from_its_first_exec_to_its_end(self, source: str) -> None:
        result = run(
            "trace", "--source", source, "-f", "jsonl", "-o", "/dev/stdout", "--",
            "sh", "-c", "sleep 0.3; exit 7", before=_SHIFTED,
        )  # fmt: skip
        assert result.code == 7, result.err
        records = [r for r in result.records() if r["process"]["name"] == "sh"]
        assert actions(records) == ["exec", "exit"]

    @pytest.mark.parametrize("query", ["tree", "chain"])
    def test_queries_give_the_times_of_outside(self, query: str) -> None:
        result = run(query, str(os.getpid()), "--format", "json", before=_SHIFTED)
        assert (result.code, result.err) == (0, "")
        (own,) = [r for r in json.loads(result.out) if r["pid"] == os.getpid()]
        assert own["start_time_ns"] == ticks_of(os.getpid()) * 10_000_000
        assert own["entity_id"].endswith(entity_of(os.getpid()))

    def test_a_recording_of_inside_can_be_replayed_outside(self, tmp_path: Path) -> None:
        path = tmp_path / "recording"
        with tracing(*_ALL, "--record", str(path), before=_SHIFTED) as trace:
            with living() as shell:
                wait_until("it is told of", lambda: f'"pid":{shell.pid},' in trace.out())
            live = stop(trace)
        replayed = run("trace", *_ALL, "--source", f"replay:{path}")
        without = [
            [{**r, "proctree": {**r["proctree"], "source": None}} for r in each.records()]
            for each in (live, replayed)
        ]
        assert without[0] == without[1]

    @every_source
    @pytest.mark.parametrize("offset", [(100_000, 1), (-1, 0)], ids=["part of a tick", "behind"])
    def test_a_shift_that_proc_does_not_let_one_take_off_is_refused(
        self, source: str, offset: tuple[int, int]
    ) -> None:
        before = with_offset(*offset)
        result = run("trace", "-d", "0", "--source", source, before=before)
        assert (result.code, result.out) == (69, "")
        assert "time namespace" in result.sentence()
        assert "nsenter --time" in result.sentence()
        assert run("tree", before=before).code == 69

    def test_the_doctor_tells_of_the_shift(self) -> None:
        shifted = findings(before=_SHIFTED)
        assert shifted["time namespace"]["verdict"] == "PASS"
        assert "100000 s" in shifted["time namespace"]["detail"]
        assert shifted["source bpf"]["verdict"] == "PASS"
        assert findings(before=with_offset(5, 1))["time namespace"]["verdict"] == "FAIL"


class TestProcOfAnotherPidNamespace:
    @pytest.fixture(params=["of a container, on the host", "of the host, in a container"])
    def before(self, request: pytest.FixtureRequest) -> Iterator[list[str]]:
        if request.param == "of the host, in a container":
            yield ["unshare", "--pid", "--fork"]
            return
        with living("unshare", "--pid", "--fork", "--mount-proc", "--kill-child") as shell:
            mounts = Path(f"/proc/{shell.pid}/ns/mnt")
            own = Path("/proc/self/ns/mnt").stat().st_ino
            wait_until("it has its own mounts", lambda: mounts.stat().st_ino != own)
            entered = ["nsenter", f"--mount=/proc/{shell.pid}/ns/mnt"]

            def is_mounted() -> bool:
                own_process = ["test", "-e", "/proc/self"]
                return subprocess.run([*entered, *own_process], check=False).returncode != 0

            wait_until("its /proc is mounted", is_mounted)
            yield entered

    @pytest.mark.parametrize("source", ["auto", "bpf", "proc-connector", "proc-walker"])
    def test_no_source_takes_it_for_its_own(self, before: list[str], source: str) -> None:
        result = run("trace", "-d", "0", "--source", source, before=before)
        assert (result.code, result.out) == (69, "")
        assert "another PID namespace" in result.sentence()

    def test_no_query_does_either(self, before: list[str]) -> None:
        result = run("tree", before=before)
        assert (result.code, result.out) == (69, "")
        assert "another PID namespace" in result.sentence()

    def test_the_doctor_says_so(self, before: list[str]) -> None:
        assert "another PID namespace" in findings(before=before)["/proc"]["detail"]


class TestProcThatShowsNotAll:
    @pytest.mark.parametrize("level", [1, 2, 4])
    @pytest.mark.parametrize("source", ["bpf", "proc-connector"])
    def test_who_would_take_the_hidden_for_ended_is_refused(self, level: int, source: str) -> None:
        before = [*in_own_mounts(f"mount -t proc -o hidepid={level} proc /proc"), *_CAPABLE]
        result = run("trace", "-d", "0", "--source", source, before=before)
        assert (result.code, result.out) == (69, "")
        assert "hidepid" in result.sentence()
        finding = findings(before=before)["/proc"]
        assert finding["verdict"] == "WARN"
        assert "hidepid" in finding["detail"]

    @pytest.mark.parametrize("level", [1, 2, 4])
    def test_the_walker_says_that_it_does_not_see_them(self, level: int) -> None:
        before = [*in_own_mounts(f"mount -t proc -o hidepid={level} proc /proc"), *_CAPABLE]
        result = run("trace", "-d", "0", before=before)
        assert result.code == 0
        assert "tracing with proc-walker" in result.err
        assert "hidepid" in result.err.splitlines()[-1]

    @pytest.mark.parametrize("level", [1, 2, 4])
    def test_whoever_is_shown_all_is_not_refused(self, level: int) -> None:
        mounted = in_own_mounts(f"mount -t proc -o hidepid={level} proc /proc")
        result = run("trace", "-d", "0", "--source", "bpf", before=mounted)
        assert result.code == 0, result.err
        # The group of the mount option, but at the highest level.
        mounted = in_own_mounts(f"mount -t proc -o hidepid={level},gid=65534 proc /proc")
        result = run("trace", "-d", "0", "--source", "bpf", before=[*mounted, *_CAPABLE])
        assert result.code == (69 if level == 4 else 0), result.err

    def test_without_the_id_of_the_boot_no_process_has_an_id(self) -> None:
        """Or all machines' processes would share theirs."""
        with tracing(*_ALL, before=_SUBSET) as trace:
            with living() as shell:
                wait_until("it is told of", lambda: f'"pid":{shell.pid},' in trace.out())
            result = stop(trace)
        assert result.code == 0
        assert "subset=pid" in result.err.splitlines()[0]
        mine = of_process(result.records(), shell.pid)
        assert actions(mine) == ["fork", "exec", "exit"]
        assert {record["process"]["entity_id"] for record in mine} == {None}

    def test_queries_and_the_doctor_tell_what_is_not_shown(self) -> None:
        result = run("tree", str(os.getpid()), "--format", "json", before=_SUBSET)
        assert result.code == 0
        assert "subset=pid" in result.err
        assert {record["entity_id"] for record in json.loads(result.out)} == {None}
        told = findings(before=_SUBSET)
        assert "subset=pid" in told["/proc"]["detail"]
        assert "unknown" in told["kernel.perf_event_paranoid"]["detail"]


class TestUsersAndNetwork:
    def test_the_connector_is_refused_in_a_user_namespace(self) -> None:
        """Even where another listener makes the kernel send to all."""
        with tracing("--source", "proc-connector", "-o", "/dev/null"):
            result = run("trace", "-d", "0", "--source", "proc-connector", before=_USER_NS)
        assert (result.code, result.out) == (69, "")
        assert "user namespace" in result.sentence()

    def test_the_walker_says_that_it_cannot_know_other_users_there(self) -> None:
        result = run("trace", "-d", "0", "--source", "proc-walker", before=_USER_NS)
        assert result.code == 0
        assert "user namespace" in result.err.splitlines()[-1]

    def test_the_doctor_knows_a_user_namespace(self) -> None:
        told = findings(before=_USER_NS)
        assert [told[check]["verdict"] for check in ("user namespace", "users")] == ["WARN"] * 2

    def test_the_connector_is_refused_in_a_network_namespace(self) -> None:
        result = run("trace", "-d", "0", "--source", "proc-connector", before=["unshare", "--net"])
        assert (result.code, result.out) == (69, "")
        assert "network namespace" in result.sentence()
        result = run("trace", "-d", "0", "--source", "bpf", before=["unshare", "--net"])
        assert result.code == 0, result.err


class TestCgroups:
    @pytest.fixture
    def cgroup(self) -> Iterator[Path]:
        mount = next(
            (Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()
             if line.split()[2] == "cgroup2"), None,
        )  # fmt: skip
        if mount is None:
            pytest.skip("no cgroup v2 hierarchy is mounted")
        directory = mount / f"prt-{os.getpid()}"
        directory.mkdir()
        yield directory
        wait_until("it is empty", lambda: not (directory / "cgroup.procs").read_text())
        directory.rmdir()

    def enter(self, cgroup: Path) -> list[str]:
        """Return the words that run a command in a cgroup, with a namespace of its own."""
        script = f'echo $$ > {cgroup}/cgroup.procs; exec unshare --cgroup "$@"'
        return ["sh", "-c", script, "sh"]

    def test_paths_are_not_looked_up_in_the_mount_of_another_namespace(self, cgroup: Path) -> None:
        before = self.enter(cgroup)
        result = run("trace", "-d", "0", "--source", "bpf", "--cgroup", "/", before=before)
        assert (result.code, result.out) == (69, "")
        assert "another cgroup namespace" in result.sentence()
        assert findings(before=before)["cgroups"]["verdict"] == "WARN"

    def test_a_directory_of_the_mount_is_what_it_is(self, cgroup: Path) -> None:
        self.check(cgroup, self.enter(cgroup), str(cgroup))

    def test_paths_are_looked_up_in_the_mount_of_the_own_namespace(
        self, cgroup: Path, tmp_path: Path
    ) -> None:
        mounted = in_own_mounts(f"mount -t cgroup2 none '{tmp_path}'")
        self.check(cgroup, [*self.enter(cgroup), *mounted], "/")

    def test_paths_are_looked_up_in_a_mount_of_a_part(self, cgroup: Path, tmp_path: Path) -> None:
        """As a container without a cgroup namespace has it."""
        script = f"mount --bind {cgroup} '{tmp_path}'\numount -l {cgroup.parent}"
        self.check(cgroup, in_own_mounts(script), f"/{cgroup.name}")

    def check(self, cgroup: Path, before: Sequence[str], path: str) -> None:
        """Assert that who is in the cgroup is told of, and nobody else."""
        in_cgroup = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs; exec "$@"', "sh"]
        options = ("-f", "jsonl", "-e", "exec", "--source", "bpf", "--cgroup", path)
        with tracing(*options, before=before) as trace:
            with living() as outside, living(*in_cgroup) as inside:
                wait_until("it is told of", lambda: f'"pid":{inside.pid},' in trace.out())
            result = stop(trace)
        assert result.code == 0, result.err
        pids = {record["process"]["pid"] for record in result.records()}
        assert inside.pid in pids
        assert outside.pid not in pids


class TestSys:
    def test_type_information_of_another_file_system_is_not_the_kernels(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "btf").write_bytes(_BTF.read_bytes())
        before = in_own_mounts(f"mount --bind '{tmp_path}/btf' {_BTF}")
        result = run("trace", "-d", "0", "--source", "bpf", before=before)
        assert (result.code, result.out) == (69, "")
        assert str(_BTF) in result.sentence()
        assert "sysfs" in result.sentence()
        assert findings(before=before)["/sys"]["verdict"] == "WARN"
