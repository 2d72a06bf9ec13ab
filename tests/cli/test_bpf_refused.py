"""Each reason why BPF cannot be used has its sentence and its exit status."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import proctree_bpf
from proctree_bpf.sources.loading.compiling import bpf_directory
from support.denied_calls import denied
from support.program import AS_NOBODY, PYTHON_ENTRY, Result, in_own_mounts, run

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.kernel

_BTF = Path("/sys/kernel/btf/vmlinux")
_BPF_DENIED = denied("bpf")


def refused(before: Sequence[str] = (), *options: str, env: dict[str, str] | None = None) -> Result:
    """Try to trace with BPF; should it start after all, it ends at once."""
    program = PYTHON_ENTRY if env is not None else None
    result = run(
        "trace", "--source", "bpf", "-d", "0", *options, before=before, env=env, program=program
    )
    assert result.out == ""
    return result


class TestTypeInformation:
    def test_a_btf_without_a_needed_field_is_named(self, tmp_path: Path) -> None:
        doctored = tmp_path / "btf"
        doctored.write_bytes(
            _BTF.read_bytes().replace(b"\0start_boottime\0", b"\0start_b00ttime\0")
        )
        result = refused(in_own_mounts(f"mount --bind '{doctored}' {_BTF}"))
        assert result.code == 69
        assert "task_struct.start_boottime" in result.sentence()

    @pytest.mark.parametrize("content", [b"", b"garbage" * 1000], ids=["empty", "garbage"])
    def test_a_btf_that_is_none_is_said_to_be_unreadable(
        self, tmp_path: Path, content: bytes
    ) -> None:
        doctored = tmp_path / "btf"
        doctored.write_bytes(content)
        result = refused(in_own_mounts(f"mount --bind '{doctored}' {_BTF}"))
        assert result.code == 69
        assert str(_BTF) in result.sentence()

    def test_a_btf_cut_short_is_said_to_be_unreadable(self, tmp_path: Path) -> None:
        doctored = tmp_path / "btf"
        doctored.write_bytes(_BTF.read_bytes()[:-1000])
        result = refused(in_own_mounts(f"mount --bind '{doctored}' {_BTF}"))
        assert result.code == 69
        assert str(_BTF) in result.sentence()

    def test_a_kernel_without_btf_is_told_what_it_lacks(self) -> None:
        result = refused(in_own_mounts(f"mount -t tmpfs none {_BTF.parent}"))
        assert result.code == 69
        assert "CONFIG_DEBUG_INFO_BTF" in result.sentence()


class TestPrivilege:
    def test_a_plain_user_is_sent_to_sudo(self) -> None:
        result = refused(AS_NOBODY)
        assert result.code == 77
        assert "sudo" in result.sentence()

    def test_root_without_the_capabilities_is_no_better(self) -> None:
        result = refused(["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"])
        assert result.code == 77
        assert "CAP_BPF" in result.sentence()

    def test_the_two_named_capabilities_are_enough(self) -> None:
        held = "+bpf,+perfmon,+dac_read_search"
        user = [word for word in AS_NOBODY if not word.startswith("--bounding-set")]
        granted = [word.replace("+dac_read_search", held) for word in user]
        result = run("trace", "--source", "bpf", "-d", "0", "-f", "jsonl", before=granted)
        assert result.code == 0, result.err

    def test_root_of_a_user_namespace_is_refused_by_the_kernel(self) -> None:
        result = refused(["unshare", "--user", "--map-root-user"])
        assert result.code in (69, 77)
        assert "operation not permitted" in result.sentence()

    def test_a_filter_on_the_system_call_is_told_from_missing_privilege(self) -> None:
        result = refused(_BPF_DENIED)
        assert result.code == 69
        assert "seccomp" in result.sentence()

    @pytest.mark.skipif(not Path("/sys/kernel/security").is_dir(), reason="no place for securityfs")
    def test_lockdown_is_named_as_the_reason(self) -> None:
        pretend = (
            "mount -t tmpfs none /sys/kernel/security\n"
            "echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown"
        )
        result = refused([*in_own_mounts(pretend), *_BPF_DENIED])
        assert result.code == 69
        assert "lockdown is in mode confidentiality" in result.sentence()

    def test_a_pid_namespace_of_its_own_is_recognised(self) -> None:
        result = refused(["unshare", "--pid", "--fork", "--mount-proc"])
        assert result.code == 69
        assert "container" in result.sentence()


class TestProgram:
    """A copy of the package with another BPF program in it."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        copy = tmp_path / "proctree_bpf"
        shutil.copytree(Path(proctree_bpf.__file__).parent, copy)
        shutil.copytree(bpf_directory(), copy / "bpf", dirs_exist_ok=True)
        return copy

    def refused(self, package: Path, *options: str) -> Result:
        return refused((), *options, env={"PYTHONPATH": str(package.parent)})

    @pytest.fixture
    def invalid(self, package: Path) -> Path:
        source = package / "bpf" / "proctree.bpf.c"
        text = source.read_text()
        assert "int on_rename(" in text
        # The verifier insists on a test for NULL (not for an index known to be in range).
        source.write_text(
            text.replace("int on_rename(", "int unused(")
            + "int on_rename(void *ctx)\n{ u32 k = 1; struct pt_counters *c = counters.lookup(&k);"
            " return c->begun[0]; }\n"
        )
        return package

    def test_a_program_that_the_verifier_rejects_is_our_fault(self, invalid: Path) -> None:
        result = self.refused(invalid)
        assert result.code == 70
        assert "did not load" in result.sentence()
        assert "--debug" in result.sentence()

    def test_debug_shows_the_verifiers_log_in_lines(self, invalid: Path) -> None:
        result = self.refused(invalid, "--debug")
        assert result.code == 70
        assert any("map_value_or_null" in line for line in result.err.splitlines())
        assert r"\x0a" not in result.err

    def test_a_program_that_does_not_compile_is_our_fault(self, package: Path) -> None:
        with (package / "bpf" / "proctree.bpf.c").open("a") as source:
            source.write("#error prt-compile\n")
        result = self.refused(package)
        assert result.code == 70
        assert "did not compile" in result.sentence()
        assert "prt-compile" in self.refused(package, "--debug").err

    @pytest.mark.parametrize("header", ["reading.h", "include/include/linux/types.h"])
    def test_nor_one_whose_headers_do_not_compile(self, package: Path, header: str) -> None:
        with (package / "bpf" / header).open("a") as source:
            source.write("#error prt-compile\n")
        result = self.refused(package)
        assert result.code == 70
        assert "did not compile" in result.sentence()

    def test_a_header_that_is_missing_is_not_looked_for_elsewhere(self, package: Path) -> None:
        """BCC would look for the running kernel's, and unpack them below $TMPDIR."""
        (package / "bpf" / "include" / "include" / "linux" / "kconfig.h").unlink()
        result = self.refused(package)
        assert result.code == 70
        assert "kconfig.h" in result.sentence()

    def test_a_missing_source_is_a_broken_installation(self, package: Path) -> None:
        (package / "bpf" / "proctree.bpf.c").unlink()
        result = self.refused(package)
        assert result.code == 70
        assert "proctree.bpf.c" in result.sentence()


class TestStepDown:
    """Whoever did not ask for BPF gets the next best source, and is told what that costs."""

    @pytest.mark.parametrize(
        ("before", "reason", "source"),
        [
            (_BPF_DENIED, "seccomp", "proc-connector"),
            (["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"], "CAP_BPF", "proc-connector"),
            (["unshare", "--pid", "--fork", "--mount-proc"], "container", "proc-walker"),
        ],
        ids=["filter", "capabilities", "container"],
    )
    def test_the_refusal_and_the_blind_spots_are_told(
        self, before: list[str], reason: str, source: str
    ) -> None:
        result = run("trace", "-d", "0", "-f", "jsonl", "-e", "fork", before=before)
        assert result.code == 0
        lines = result.err.splitlines()
        assert all(line.startswith("proctree-bpf: ") for line in lines)
        assert reason in lines[0]
        assert any(f"tracing with {source}, " in line for line in lines)
        assert f"{source} cannot know: " in lines[-1]


class TestBcc:
    """Another module named bcc stands first on the path."""

    @pytest.mark.parametrize(
        "source",
        [
            "raise ImportError('prt-reason')",
            # What ctypes raises where Python's part is installed and the library is not.
            "raise OSError('libbcc.so.0: cannot open shared object file: prt-reason')",
            "raise AttributeError('prt-reason')",
        ],
        ids=["ImportError", "OSError", "AttributeError"],
    )
    def test_a_bcc_that_cannot_be_imported_is_to_be_installed(
        self, tmp_path: Path, source: str
    ) -> None:
        (tmp_path / "bcc.py").write_text(source)
        result = refused(env={"PYTHONPATH": str(tmp_path)})
        assert result.code == 69
        assert "python3-bpfcc" in result.sentence()
        assert "prt-reason" in result.sentence()

    @pytest.mark.parametrize(
        "source", ["VERSION = 'lattices'\n", "print 'Python 2'\n"], ids=["module", "Python 2"]
    )
    def test_an_unrelated_project_of_that_name_is_recognised(
        self, tmp_path: Path, source: str
    ) -> None:
        (tmp_path / "bcc").mkdir()
        (tmp_path / "bcc" / "__init__.py").write_text(source)
        result = refused(env={"PYTHONPATH": str(tmp_path)})
        assert result.code == 69
        assert "python3-bpfcc" in result.sentence()
        assert str(tmp_path) in result.sentence()


def test_the_clean_program_is_not_refused() -> None:
    """Without this, the tests above could pass for a reason of their own."""
    assert run("trace", "--source", "bpf", "-d", "0").code == 0


def test_the_seccomp_wrapper_denies_only_bpf() -> None:
    subprocess.run([*_BPF_DENIED, "true"], check=True)
