"""What the program does where its best source is refused."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.program import AS_NOBODY, Result, actions, in_own_mounts, of_process, run, tracing
from support.refused_sources import (
    ALL_AS_JSON,
    BTF,
    NO_ATTACH,
    NO_BPF_CAPS,
    NO_CAPS,
    NO_CONNECTOR,
    OWN_PIDS,
    Child,
    below,
    said,
    shadowed,
    stop,
    told,
    traced,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel


class TestBpfIsRefused:
    """The proc connector is used, and why is said."""

    def check(self, result: Result, child: Child, *words: str) -> None:
        told(result, child, "proc-connector")
        why, start, *rest = said(result)
        assert all(word in why for word in words), why
        assert "tracing with proc-connector" in start
        assert any("proc-connector cannot know" in line for line in rest)

    def test_without_the_capabilities(self) -> None:
        self.check(*traced(before=NO_BPF_CAPS), "CAP_BPF", "sudo")

    def test_without_btf(self) -> None:
        hidden = in_own_mounts(f"mount -t tmpfs none {BTF.parent}")
        self.check(*traced(before=hidden), "CONFIG_DEBUG_INFO_BTF")

    def test_with_btf_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "btf").write_bytes(b"garbage")
        hidden = in_own_mounts(f"mount --bind '{tmp_path}/btf' {BTF}")
        self.check(*traced(before=hidden), str(BTF))

    @pytest.mark.parametrize(
        "source",
        ["raise ImportError('prt-reason')", "raise OSError('libbcc.so.0: prt-reason')", "X = 1"],
    )
    def test_without_a_bcc_that_can_be_imported(self, tmp_path: Path, source: str) -> None:
        with shadowed(tmp_path, source) as env:
            self.check(*traced(env=env), "python3-bpfcc")

    def test_with_a_filter_that_lets_programs_load_but_not_attach(self) -> None:
        self.check(*traced(before=NO_ATTACH), "BPF")

    def test_asked_for_by_name_it_is_not_replaced(self) -> None:
        result = run("trace", "-d", "0", "--source", "bpf", before=NO_BPF_CAPS)
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
        self.check(*traced(before=[*NO_BPF_CAPS, *NO_CONNECTOR]), "proc connector")

    def test_in_a_pid_namespace_of_its_own(self) -> None:
        """The host's processes are not seen there, so the child runs inside."""
        with tracing(*ALL_AS_JSON, before=OWN_PIDS) as trace:
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
        result, child = traced(before=NO_CAPS)
        release = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
        told(result, child, "proc-connector" if release >= (6, 6) else "proc-walker")

    @pytest.mark.parametrize(
        ("before", "code"), [(NO_CONNECTOR, 77), (OWN_PIDS, 69)], ids=["filter", "namespace"]
    )
    def test_asked_for_by_name_it_is_not_replaced(self, before: Sequence[str], code: int) -> None:
        result = run("trace", "-d", "0", "--source", "proc-connector", before=before)
        assert (result.code, result.out) == (code, "")
        assert result.sentence()


def test_with_nothing_at_all_every_reason_is_in_one_sentence() -> None:
    hidden = in_own_mounts("mount -t tmpfs none /proc")
    result = run("trace", "-d", "0", before=[*hidden, *NO_CAPS, *NO_CONNECTOR])
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


def test_the_wrappers_deny_only_what_they_say() -> None:
    """Without this, the tests above could pass for a reason of their own."""
    for before in (NO_CONNECTOR, NO_ATTACH, NO_CAPS, OWN_PIDS):
        subprocess.run([*before, "true"], check=True)
    assert run("trace", "-d", "0", "--source", "bpf", before=NO_CONNECTOR).code == 0
    assert run("trace", "-d", "0", "--source", "proc-connector", before=NO_ATTACH).code == 0
