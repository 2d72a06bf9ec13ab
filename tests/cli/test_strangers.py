"""What a stranger can write, or put into the environment, has no say in what root runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proctree_bpf.sources.loading.compiling import bpf_directory
from support.program import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not (ROOT / "scripts" / "run").exists(), reason="needs a checkout"),
]

_COMPILER = (
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "COMPILER_PATH",
    "BCC_KERNEL_SOURCE",
)


@pytest.fixture(scope="module", params=["checkout", "installed"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program as it is run from a checkout, and as scripts/install puts it there."""
    if request.param == "checkout":
        return str(ROOT / "scripts" / "run")
    place = tmp_path_factory.mktemp("installed")
    done = subprocess.run(
        [ROOT / "scripts" / "install", "--prefix", place / "prefix", "--bindir", place],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    if "Failed to establish a new connection" in done.stderr:
        pytest.skip("no Python packages can be had here")
    assert done.returncode == 0, done.stderr
    return str(place / "proctree-bpf")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of a stranger's: in it, each header that is compiled, and more of the kind."""
    ours = bpf_directory()
    names = [path.relative_to(ours) for path in ours.glob("*.h")]
    stubs = [path.relative_to(ours / "include") for path in ours.glob("include/**/*.h")]
    names += [
        *stubs,
        *(path.relative_to("include") for path in stubs if path.parts[0] == "include"),
    ]
    names += [Path("bcc/proto.h"), Path("stdarg.h"), Path("include/generated/autoconf.h")]
    release = os.uname().release
    names += [Path(f"kheaders-{release}") / path for path in stubs]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#error a stranger's\n")
    return tmp_path


def trace(
    program: str, directory: Path, changes: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "trace", "--source", "bpf", "--no-program-cache", "-f", "jsonl", "-d", "0"],
        cwd=directory, env=environment(changes), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.kernel
class TestTheCompiler:
    def test_headers_in_the_current_directory_are_not_compiled(
        self, program: str, place: Path
    ) -> None:
        done = trace(program, place, {})
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("name", _COMPILER)
    def test_headers_that_the_environment_names_are_not_compiled(
        self, program: str, place: Path, name: str
    ) -> None:
        done = trace(program, Path("/"), {name: f"{place}:{place}/include"})
        assert done.returncode == 0, done.stderr

    def test_an_environment_that_is_hostile_throughout_changes_nothing(
        self, program: str, place: Path
    ) -> None:
        changes = dict.fromkeys(
            (*_COMPILER, "HOME", "TMPDIR", "TEMP", "XDG_CONFIG_HOME"), str(place)
        )
        changes |= {
            "BCC_LINUX_VERSION_CODE": "garbage",
            "BCC_KERNEL_MODULES_SOURCE": str(place),
            "BCC_KERNEL_MODULES_SUFFIX": f"../../..{place}",
            "BCC_PROBE_LIMIT": "garbage",
        }
        done = trace(program, place, changes)
        assert done.returncode == 0, done.stderr

    def test_a_directory_that_was_removed_is_as_good_as_any(
        self, program: str, tmp_path: Path
    ) -> None:
        gone = tmp_path / "gone"
        command = 'cd "$1"; rmdir "$1"; shift; exec "$@"'
        gone.mkdir()
        done = subprocess.run(
            ["sh", "-c", command, "sh", gone, program, "trace", "--source", "bpf",
             "--no-program-cache", "-d", "0"],
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize", "proctree_bpf", "typer"])
def test_modules_that_the_environment_or_the_directory_offers_are_not_imported(
    program: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("import os\nos.write(2, b'a stranger')\nos._exit(99)\n")
    done = subprocess.run(
        [program, "--version"],
        cwd=tmp_path, env=environment({"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "x.py"}),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["sitecustomize", "pytest", "_pytest", "proctree_bpf"])
def test_the_tests_run_without_a_strangers_modules(tmp_path: Path, name: str) -> None:
    if not Path(sys.prefix, ".proctree-bpf-setup").exists():
        pytest.skip("needs the environment that scripts/test makes")
    (tmp_path / f"{name}.py").write_text("import os\nos.write(2, b'a stranger')\nos._exit(99)\n")
    done = subprocess.run(
        [ROOT / "scripts" / "test", "--version"],
        cwd=tmp_path, env=environment({"PYTHONPATH": str(tmp_path)}),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "stranger" not in done.stderr
    assert done.returncode == 0, done.stderr
