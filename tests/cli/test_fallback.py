"""What the program does where its best source is refused; recordings; the doctor.

Sources are refused for real: by dropped capabilities, by mounts, by namespaces, by seccomp
filters, and by another module named bcc.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from proctree_bpf.codecs.recording import FrameKind, decode_recording, encode_frame, encode_header
from support.denied_calls import denied
from support.program import (
    AS_NOBODY,
    PYTHON_ENTRY,
    Result,
    actions,
    in_own_mounts,
    of_process,
    run,
    tracing,
)
from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.kernel

_BTF = Path("/sys/kernel/btf/vmlinux")
_ALL = ("-f", "jsonl", "-e", "fork,exec,exit")
_PREFIX = "proctree-bpf: "

_NO_CONNECTOR = denied("socket:2:11")  # NETLINK_CONNECTOR
_NO_ATTACH = denied("bpf:0:17")  # BPF_RAW_TRACEPOINT_OPEN
_NO_BPF_CAPS = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"]
_NO_CAPS = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin,-net_admin"]
_OWN_PIDS = ["unshare", "--pid", "--fork", "--mount-proc"]


@contextmanager
def shadowed(directory: Path, source: str) -> Iterator[dict[str, str]]:
    """Let another module named bcc come first; yields the environment that does it."""
    (directory / "bcc").mkdir()
    (directory / "bcc" / "__init__.py").write_text(source)
    yield {"PYTHONPATH": str(directory)}


class Child(NamedTuple):
    """A process that was run while somebody traced."""

    pid: int
    code: int


def run_child(code: int = 7, seconds: float = 0.3) -> Child:
    """Run a shell that lives a little and then exits."""
    shell = subprocess.Popen(["/bin/sh", "-c", f"sleep {seconds}; exit {code}", "prt-child"])
    return Child(shell.pid, shell.wait())


def said(result: Result) -> list[str]:
    """Return what was said on stderr, a sentence each."""
    assert "Traceback" not in result.err
    lines = result.err.splitlines()
    assert all(line.startswith(_PREFIX) for line in lines), result.err
    return [line.removeprefix(_PREFIX) for line in lines]


def traced(
    *options: str, before: Sequence[str] = (), env: dict[str, str] | None = None
) -> tuple[Result, Child]:
    """Trace while a child runs."""
    program = PYTHON_ENTRY if env is not None else None
    with tracing(*_ALL, *options, before=before, env=env, program=program) as trace:
        child = run_child()
        result = stop(trace.pid, trace.process)
        return Result(result, trace.out(), trace.err()), child


def below(pid: int) -> int:
    """Return the PID of the program, which may run below a wrapper."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def stop(pid: int, process: subprocess.Popen[bytes]) -> int:
    """End a trace as a user would; return its status."""
    os.kill(below(pid), signal.SIGINT)
    return process.wait(PATIENCE_S)


def told(result: Result, child: Child, source: str) -> None:
    """Assert that a trace went well with a source, and told of the child."""
    assert result.code == 0, result.err
    records = result.records()
    assert {record["proctree"]["source"] for record in records} == {source}
    mine = of_process(records, child.pid)
    assert actions(mine) == ["fork", "exec", "exit"]
    assert mine[1]["process"]["args"][:2] == ["/bin/sh", "-c"]
    wanted = None if source == "proc-walker" else child.code
    assert mine[-1]["process"]["exit_code"] == wanted


class TestBpfIsRefused:
    """The proc connector is used, and why is said."""

    def check(self, result: Result, child: Child, *words: str) -> None:
        told(result, child, "proc-connector")
        why, start, *rest = said(result)
        assert all(word in why for word in words), why
        assert "tracing with proc-connector" in start
        assert any("proc-connector cannot know" in line for line in rest)

    def test_without_the_capabilities(self) -> None:
        self.check(*traced(before=_NO_BPF_CAPS), "CAP_BPF", "sudo")

    def test_without_btf(self) -> None:
        hidden = in_own_mounts(f"mount -t tmpfs none {_BTF.parent}")
        self.check(*traced(before=hidden), "CONFIG_DEBUG_INFO_BTF")

    def test_with_btf_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "btf").write_bytes(b"garbage")
        hidden = in_own_mounts(f"mount --bind '{tmp_path}/btf' {_BTF}")
        self.check(*traced(before=hidden), str(_BTF))

    @pytest.mark.parametrize(
        "source",
        ["raise ImportError('prt-reason')", "raise OSError('libbcc.so.0: prt-reason')", "X = 1"],
    )
    def test_without_a_bcc_that_can_be_imported(self, tmp_path: Path, source: str) -> None:
        with shadowed(tmp_path, source) as env:
            self.check(*traced(env=env), "python3-bpfcc")

    def test_with_a_filter_that_lets_programs_load_but_not_attach(self) -> None:
        self.check(*traced(before=_NO_ATTACH), "BPF")

    def test_asked_for_by_name_it_is_not_replaced(self) -> None:
        result = run("trace", "-d", "0", "--source", "bpf", before=_NO_BPF_CAPS)
        assert (result.code, result.out) == (77, "")
        assert "CAP_BPF" in result.sentence()


class TestTheConnectorIsRefusedToo:
    """The walker is used, and why is said for both."""

    def check(self, result: Result, child: Child, *words: str) -> None:
        told(result, child, "proc-walker")
        bpf, connector, start, *rest = said(result)
        assert "BPF" in bpf
        assert all(word in connector for word in words), connector
        assert "tracing with proc-walker" in start
        assert any("proc-walker cannot know" in line for line in rest)
        assert any("exit codes" in line for line in rest)

    def test_by_a_filter_on_its_socket(self) -> None:
        self.check(*traced(before=[*_NO_BPF_CAPS, *_NO_CONNECTOR]), "proc connector")

    def test_in_a_pid_namespace_of_its_own(self) -> None:
        """The host's processes are not seen there, so the child runs inside."""
        with tracing(*_ALL, before=_OWN_PIDS) as trace:
            enter = ["nsenter", "--pid", "--mount", "--target", str(below(trace.pid))]
            command = ["/bin/sh", "-c", "sleep 0.3; exit 7", "prt-inside"]
            assert subprocess.run([*enter, *command], check=False).returncode == 7
            code = stop(trace.pid, trace.process)
            result = Result(code, trace.out(), trace.err())
        assert result.code == 0, result.err
        bpf, connector, start, *_ = said(result)
        assert "container" in bpf
        assert "container" in connector
        assert "tracing with proc-walker" in start
        records = result.records()
        (pid,) = {
            record["process"]["pid"]
            for record in records
            if record["event"]["action"] == "exec"
            and (record["process"]["args"] or [])[-1:] == ["prt-inside"]
        }
        mine = [record for record in records if record["process"]["pid"] == pid]
        assert actions(mine)[-2:] == ["exec", "exit"]

    def test_without_net_admin_this_kernel_still_allows_it(self) -> None:
        """Since Linux 6.6 anybody may listen; before, this is a refusal."""
        result, child = traced(before=_NO_CAPS)
        release = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
        told(result, child, "proc-connector" if release >= (6, 6) else "proc-walker")

    @pytest.mark.parametrize(
        ("before", "code"), [(_NO_CONNECTOR, 77), (_OWN_PIDS, 69)], ids=["filter", "namespace"]
    )
    def test_asked_for_by_name_it_is_not_replaced(self, before: Sequence[str], code: int) -> None:
        result = run("trace", "-d", "0", "--source", "proc-connector", before=before)
        assert (result.code, result.out) == (code, "")
        assert result.sentence()


def test_with_nothing_at_all_every_reason_is_in_one_sentence() -> None:
    hidden = in_own_mounts("mount -t tmpfs none /proc")
    result = run("trace", "-d", "0", before=[*hidden, *_NO_CAPS, *_NO_CONNECTOR])
    assert result.out == ""
    assert result.code == 69, result.err
    assert "/proc" in result.sentence()


class TestUnprivileged:
    def test_the_tree_and_a_chain_are_shown(self) -> None:
        tree = run("tree", before=AS_NOBODY)
        assert (tree.code, tree.err) == (0, "")
        assert str(os.getpid()) in tree.out
        chain = run("chain", str(os.getpid()), before=AS_NOBODY)
        assert chain.code == 0
        assert chain.out.startswith(f"{os.getpid()}|")

    def test_the_walker_works(self) -> None:
        told(*traced("--source", "proc-walker", before=AS_NOBODY), "proc-walker")

    def test_bpf_is_refused_in_one_sentence(self) -> None:
        result = run("trace", "-d", "0", "--source", "bpf", before=AS_NOBODY)
        assert (result.code, result.out) == (77, "")
        assert "sudo" in result.sentence()

    def test_auto_goes_on_with_something_less(self) -> None:
        result, child = traced(before=AS_NOBODY)
        assert result.code == 0
        assert actions(of_process(result.records(), child.pid)) == ["fork", "exec", "exit"]
        assert "sudo" in said(result)[0]

    def test_the_doctor_says_what_is_missing_and_that_something_works(self) -> None:
        result = run("doctor", "--json", before=AS_NOBODY)
        assert (result.code, result.err) == (0, "")
        report = json.loads(result.out)
        assert report["user"] == 65534
        verdicts = {f["check"]: f["verdict"] for f in report["findings"]}
        assert verdicts["source bpf"] == "FAIL"
        assert verdicts["capabilities"] == "WARN"
        assert verdicts["source proc-walker"] == "PASS"
        assert report["source"] in ("proc-connector", "proc-walker")


class Recorded(NamedTuple):
    """A recording, and the records of the run that made it."""

    path: Path
    live: list[dict[str, Any]]
    child: Child


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    """One recording of each live source."""
    found = {}
    for source in ("bpf", "proc-connector", "proc-walker"):
        path = tmp_path_factory.mktemp(source) / "recording"
        result, child = traced("--source", source, "--record", str(path))
        assert result.code == 0, result.err
        found[source] = Recorded(path, result.records(), child)
    return found


every_source = pytest.mark.parametrize("source", ["bpf", "proc-connector", "proc-walker"])


def without_source(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**record, "proctree": {k: v for k, v in record["proctree"].items() if k != "source"}}
        for record in records
    ]


def replay(path: Path, *options: str, before: Sequence[str] = ()) -> Result:
    """Replay a recording."""
    return run("trace", *_ALL, "--source", f"replay:{path}", *options, before=before)


class TestReplay:
    @every_source
    def test_it_is_the_live_run_again(self, recorded: dict[str, Recorded], source: str) -> None:
        path, live, child = recorded[source]
        result = replay(path)
        assert result.code == 0, result.err
        records = result.records()
        assert {record["proctree"]["source"] for record in records} == {"replay"}
        assert actions(of_process(records, child.pid)) == ["fork", "exec", "exit"]
        assert without_source(records) == without_source(live)

    @every_source
    def test_it_tells_what_the_recorded_source_could_not_know(
        self, recorded: dict[str, Recorded], source: str
    ) -> None:
        err = replay(recorded[source].path).err
        assert ("cannot know" in err) == (source != "bpf")

    def test_a_plain_user_may_replay(self, recorded: dict[str, Recorded]) -> None:
        path, live, _ = recorded["bpf"]
        result = replay(path, before=AS_NOBODY)
        assert result.code == 0, result.err
        assert len(result.records()) == len(live)

    @every_source
    def test_a_recording_of_another_machine_keeps_its_times_and_identities(
        self, recorded: dict[str, Recorded], source: str, tmp_path: Path
    ) -> None:
        """As a bug report would bring it."""
        year_ns = 365 * 86_400 * 1_000_000_000
        data = recorded[source].path.read_bytes()
        header = dict(decode_recording(data).frames[0].content)
        rest = data[len(encode_header(header)) :]
        assert encode_header(header) + rest == data
        header |= {"boot_id": "0" * 8 + "-aaaa", "host": "elsewhere", "machine": "riscv64"}
        header["wall_offset_ns"] -= year_ns
        foreign = tmp_path / "foreign"
        foreign.write_bytes(encode_header(header) + rest)
        records = replay(foreign).records()
        years = {record["@timestamp"][:4] for record in recorded[source].live}
        assert {record["@timestamp"][:4] for record in records} == {
            str(int(year) - 1) for year in years
        }
        ids = [record["process"]["entity_id"] or "" for record in records]
        assert {one.partition("-")[0] for one in ids if one} == {"00000000aaaa"}

    def test_a_recording_made_where_bpf_was_refused_is_of_what_was_used(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "recording"
        result, _ = traced("--record", str(path), before=_NO_BPF_CAPS)
        assert decode_recording(path.read_bytes()).frames[0].content["source"] == "proc-connector"
        assert without_source(replay(path).records()) == without_source(result.records())

    def test_a_recording_made_where_bpf_was_refused_late_is_of_what_was_used(
        self, tmp_path: Path
    ) -> None:
        """The programs loaded, and only then could they not be attached."""
        path = tmp_path / "recording"
        result, _ = traced("--record", str(path), before=_NO_ATTACH)
        again = replay(path)
        assert again.code == 0, again.err
        assert without_source(again.records()) == without_source(result.records())

    def test_a_table_can_be_had_of_a_recording(self, recorded: dict[str, Recorded]) -> None:
        path, _, child = recorded["bpf"]
        result = run("trace", "--source", f"replay:{path}")
        assert result.code == 0
        assert f" {child.pid} " in result.out

    def test_a_recording_names_where_it_was_made(self, recorded: dict[str, Recorded]) -> None:
        header = decode_recording(recorded["bpf"].path.read_bytes()).frames[0].content
        assert header["host"] == platform.node()
        assert header["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert {"kernel", "wall_offset_ns", "boottime_ns", "offsets"} <= header.keys()


class TestBadRecordings:
    """One sentence, exit 65, and nothing on stdout."""

    def refused(self, path: Path | str, *options: str) -> str:
        for form in ((), ("-f", "jsonl"), ("-f", "chain")):
            result = run("trace", "--source", f"replay:{path}", *form, *options)
            assert result.code == 65, result.err
            assert result.out == ""
            sentence = result.sentence()
        return sentence

    @pytest.fixture
    def whole(self, recorded: dict[str, Recorded]) -> bytes:
        return recorded["proc-walker"].path.read_bytes()

    @pytest.mark.parametrize("part", [1, 8, 9, 100])
    def test_cut_short_before_anything_was_recorded(
        self, whole: bytes, tmp_path: Path, part: int
    ) -> None:
        (tmp_path / "cut").write_bytes(whole[:part])
        self.refused(tmp_path / "cut")

    @pytest.mark.parametrize("part", [0.5, 0.99, -1])
    def test_cut_short_later_it_is_replayed_up_to_the_cut_and_says_so(
        self, whole: bytes, tmp_path: Path, part: float
    ) -> None:
        end = int(part * len(whole)) if isinstance(part, float) else part
        (tmp_path / "whole").write_bytes(whole)
        (tmp_path / "cut").write_bytes(whole[:end])
        result = run("trace", "-f", "jsonl", "--source", f"replay:{tmp_path / 'cut'}")
        assert result.code == 0
        assert "is cut short at byte" in result.err.splitlines()[0]
        everything = run("trace", "-f", "jsonl", "--source", f"replay:{tmp_path / 'whole'}")
        records = result.records()
        assert records == everything.records()[: len(records)]

    @pytest.mark.parametrize("number", [2**64 - 1, 2**40])
    def test_a_process_that_began_at_an_impossible_time(self, tmp_path: Path, number: int) -> None:
        info = {"cmd": "a", "user": "b", "ppid": 1, "tgid": 7}
        part = {"begun_ns": 1, "ended_ns": 2, "last": True}
        part["readings"] = [[[7, "a", "S", 1, 2, 1, number], info]]
        (tmp_path / "future").write_bytes(
            encode_header({"source": "proc-walker"})
            + encode_frame(FrameKind.SNAPSHOT, json.dumps(part).encode())
            + encode_frame(FrameKind.END, b"")
        )
        assert "impossible time" in self.refused(tmp_path / "future")

    @pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.999])
    def test_damaged(self, whole: bytes, tmp_path: Path, at: float) -> None:
        damaged = bytearray(whole)
        damaged[int(at * len(whole))] ^= 0x10
        (tmp_path / "damaged").write_bytes(damaged)
        self.refused(tmp_path / "damaged")

    @pytest.mark.parametrize(
        "content", [b"", b"\n", b'{"a": 1}\n', b"\x7fELF" + bytes(500), bytes(10_000)]
    )
    def test_foreign(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "foreign").write_bytes(content)
        assert "not a recording" in self.refused(tmp_path / "foreign")

    def test_of_another_version(self, whole: bytes, tmp_path: Path) -> None:
        header = encode_frame(FrameKind.HEADER, b'{"format":99,"source":"bpf"}')
        rest = whole[len(encode_header(decode_recording(whole).frames[0].content)) :]
        (tmp_path / "newer").write_bytes(whole[:8] + header + rest)
        assert "version" in self.refused(tmp_path / "newer")

    def test_of_an_unknown_source(self, tmp_path: Path) -> None:
        (tmp_path / "unknown").write_bytes(
            encode_header({"source": "dtrace"}) + encode_frame(FrameKind.END, b"")
        )
        assert "dtrace" in self.refused(tmp_path / "unknown")

    def test_a_directory(self, tmp_path: Path) -> None:
        assert str(tmp_path) in self.refused(tmp_path)

    def test_not_there(self, tmp_path: Path) -> None:
        assert "No such file" in self.refused(tmp_path / "missing")

    def test_one_that_a_killed_trace_left(self, tmp_path: Path) -> None:
        path = tmp_path / "killed"
        with tracing("--source", "proc-walker", "--record", str(path)) as trace:
            wait_until("something is recorded", lambda: path.stat().st_size > 8)
            trace.process.kill()
            trace.process.wait()
        result = run("trace", "-f", "jsonl", "--source", f"replay:{path}")
        assert result.code == 0
        assert "cut short" in result.err.splitlines()[0]

    def test_its_output_file_is_left_alone(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.write_text("precious")
        (tmp_path / "foreign").write_bytes(b"foreign")
        self.refused(tmp_path / "foreign", "-o", str(out))
        assert out.read_text() == "precious"


class TestRecordTo:
    @pytest.mark.parametrize("name", ["", "missing/recording"])
    def test_what_cannot_be_written_is_refused_first(self, tmp_path: Path, name: str) -> None:
        result = run("trace", "-d", "0", "--record", str(tmp_path / name))
        assert (result.code, result.out) == (2, "")
        assert "--record" in result.sentence()

    @every_source
    def test_a_full_disk_ends_the_trace(self, source: str) -> None:
        result = run("trace", "-d", "1", "-f", "jsonl", "--source", source, "--record", "/dev/full")
        assert result.code == 70, result.err
        assert "disk is full" in said(result)[-1]

    def test_a_disk_that_fills_up_ends_the_trace(self, tmp_path: Path) -> None:
        small = in_own_mounts(f"mount -t tmpfs -o size=128k none '{tmp_path}'")
        result = run(
            "trace", "-d", "20", "-f", "jsonl", "--source", "proc-walker", "--walk-interval",
            "10", "--record", str(tmp_path / "recording"), before=small,
        )  # fmt: skip
        assert result.code == 70, result.err
        assert "disk is full" in said(result)[-1]


class TestDoctor:
    def test_every_check_passes_where_all_is_well(self) -> None:
        result = run("doctor")
        assert (result.code, result.err) == (0, "")
        lines = result.out.splitlines()
        assert lines[-1] == "--source auto uses bpf."
        assert not any(line.startswith(("FAIL", "WARN")) for line in lines)

    def test_json_says_the_same(self) -> None:
        result = run("doctor", "--json")
        assert (result.code, result.err) == (0, "")
        report = json.loads(result.out)
        assert report["source"] == "bpf"
        text = run("doctor").out
        for finding in report["findings"]:
            assert f"{finding['verdict']:<4}  {finding['check']}: " in text
        assert {f["check"] for f in report["findings"] if f["seconds"] is not None} == {
            "source bpf", "source proc-connector", "source proc-walker",
        }  # fmt: skip

    def findings(self, result: Result) -> dict[str, dict[str, Any]]:
        return {finding["check"]: finding for finding in json.loads(result.out)["findings"]}

    def test_whatever_is_not_well_comes_with_a_remedy(self, tmp_path: Path) -> None:
        with shadowed(tmp_path, "X = 1") as env:
            result = run(
                "doctor", "--json", env=env, program=PYTHON_ENTRY,
                before=[*_NO_CAPS, *_NO_CONNECTOR],
            )  # fmt: skip
        findings = self.findings(result)
        bad = {name for name, finding in findings.items() if finding["verdict"] != "PASS"}
        assert {"bcc", "bcc is not shadowed", "capabilities", "source bpf",
                "source proc-connector"} <= bad  # fmt: skip
        assert all(findings[name]["remedy"] for name in bad)
        assert result.code == 0

    def test_an_unrelated_bcc_is_a_warning_with_its_path(self, tmp_path: Path) -> None:
        with shadowed(tmp_path, "class Lattice: pass") as env:
            result = run("doctor", "--json", env=env, program=PYTHON_ENTRY)
        shadow = self.findings(result)["bcc is not shadowed"]
        assert shadow["verdict"] == "WARN"
        assert str(tmp_path) in shadow["detail"]
        assert "pip uninstall bcc" in shadow["remedy"]
        assert json.loads(result.out)["source"] == "proc-connector"

    @pytest.mark.parametrize("source", ["raise OSError('prt')", "raise RuntimeError('prt')", "("])
    def test_a_broken_bcc_does_not_end_the_examination(self, tmp_path: Path, source: str) -> None:
        with shadowed(tmp_path, source) as env:
            result = run("doctor", "--json", env=env, program=PYTHON_ENTRY)
        assert (result.code, result.err) == (0, "")
        assert self.findings(result)["bcc"]["verdict"] == "FAIL"

    def test_without_btf_it_says_so(self) -> None:
        result = run("doctor", "--json", before=in_own_mounts(f"mount -t tmpfs none {_BTF.parent}"))
        findings = self.findings(result)
        assert findings["BTF"]["verdict"] == "FAIL"
        assert "CONFIG_DEBUG_INFO_BTF" in findings["BTF"]["remedy"]
        assert findings["source proc-connector"]["verdict"] == "PASS"
        assert result.code == 0

    def test_in_a_pid_namespace_only_the_walker_works(self) -> None:
        result = run("doctor", "--json", before=_OWN_PIDS)
        findings = self.findings(result)
        assert findings["PID namespace"]["verdict"] == "WARN"
        verdicts = [findings[f"source {name}"]["verdict"] for name in ("bpf", "proc-connector")]
        assert verdicts == ["FAIL", "FAIL"]
        assert (result.code, json.loads(result.out)["source"]) == (0, "proc-walker")

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_where_nothing_works_it_exits_69(self, options: Sequence[str]) -> None:
        hidden = in_own_mounts("mount -t tmpfs none /proc")
        result = run("doctor", *options, before=[*hidden, *_NO_CAPS, *_NO_CONNECTOR])
        assert result.err == ""
        assert result.code == 69
        if options:
            assert json.loads(result.out)["source"] is None
        else:
            assert "--source auto uses nothing here" in result.out

    def test_it_promises_no_source_that_a_trace_could_not_use(self) -> None:
        """Without /proc, BPF alone is not enough to begin."""
        hidden = in_own_mounts("mount -t tmpfs none /proc")
        trace = run("trace", "-d", "0", before=hidden)
        doctor = run("doctor", before=hidden)
        assert doctor.code == trace.code

    def test_hidden_processes_are_noticed(self) -> None:
        hidden = in_own_mounts("mount -t proc -o hidepid=2 none /proc")
        result = run("doctor", "--json", before=[*hidden, *AS_NOBODY])
        finding = self.findings(result)["/proc"]
        assert finding["verdict"] == "WARN"
        assert "hidepid" in finding["remedy"]


def test_the_wrappers_deny_only_what_they_say() -> None:
    """Without this, the tests above could pass for a reason of their own."""
    for before in (_NO_CONNECTOR, _NO_ATTACH, _NO_CAPS, _OWN_PIDS):
        subprocess.run([*before, "true"], check=True)
    assert run("trace", "-d", "0", "--source", "bpf", before=_NO_CONNECTOR).code == 0
    assert run("trace", "-d", "0", "--source", "proc-connector", before=_NO_ATTACH).code == 0
