"""What the doctor finds, where all is well and where something is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.program import AS_NOBODY, PYTHON_ENTRY, Result, in_own_mounts, run
from support.refused_sources import BTF, NO_CAPS, NO_CONNECTOR, OWN_PIDS, shadowed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel


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
                before=[*NO_CAPS, *NO_CONNECTOR],
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
        result = run("doctor", "--json", before=in_own_mounts(f"mount -t tmpfs none {BTF.parent}"))
        findings = self.findings(result)
        assert findings["BTF"]["verdict"] == "FAIL"
        assert "CONFIG_DEBUG_INFO_BTF" in findings["BTF"]["remedy"]
        assert findings["source proc-connector"]["verdict"] == "PASS"
        assert result.code == 0

    def test_in_a_pid_namespace_only_the_walker_works(self) -> None:
        result = run("doctor", "--json", before=OWN_PIDS)
        findings = self.findings(result)
        assert findings["PID namespace"]["verdict"] == "WARN"
        verdicts = [findings[f"source {name}"]["verdict"] for name in ("bpf", "proc-connector")]
        assert verdicts == ["FAIL", "FAIL"]
        assert (result.code, json.loads(result.out)["source"]) == (0, "proc-walker")

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_where_nothing_works_it_exits_69(self, options: Sequence[str]) -> None:
        hidden = in_own_mounts("mount -t tmpfs none /proc")
        result = run("doctor", *options, before=[*hidden, *NO_CAPS, *NO_CONNECTOR])
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
