"""What the compiler sees of the world, and that the world is as before all the while."""

from __future__ import annotations

import json
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from proctree_bpf.errors import Refusal, SourceUnavailableError
from proctree_bpf.sources.loading import bcc_program, compiling
from proctree_bpf.sources.loading.compiling import bpf_directory, compile_programs, source_text

# In the place of BCC: tells what it sees.
_TELL = """
import json, os, sys
json.load(sys.stdin)
seen = {"environment": dict(os.environ), "directory": os.getcwd(),
        "files": os.listdir("/proc/self/fd"), "path": sys.path, "group": os.getpgrp()}
json.dump({"failed": "compile", "reason": json.dumps(seen), "errno": None}, sys.stdout)
"""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is run in the place of the compiler."""
    path = tmp_path / "compiler.py"
    path.write_text(_TELL)
    monkeypatch.setattr(bcc_program, "__file__", str(path))
    return path


def refusal() -> SourceUnavailableError:
    with pytest.raises(SourceUnavailableError) as raised:
        compile_programs(b"", [])
    return raised.value


def seen() -> dict[str, Any]:
    return dict(json.loads(refusal().log.strip()))


def test_the_text_includes_nothing() -> None:
    text = source_text(["sending.bpf.c", "filter.bpf.c", "proctree.bpf.c"])
    assert b"#include" not in text
    assert text.count(b"struct pt_key {") == 1


@pytest.mark.usefixtures("compiler")
def test_it_sees_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPATH", "/somewhere")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    before = dict(os.environ)
    environment = seen()["environment"]
    assert environment.pop("BCC_KERNEL_SOURCE") == os.fspath(bpf_directory() / "include")
    assert environment.pop("PATH").startswith("/usr/")
    assert not environment.keys() - {"LC_CTYPE"}  # which Python sets for itself
    assert dict(os.environ) == before


@pytest.mark.usefixtures("compiler")
def test_it_is_where_our_headers_are_and_we_stay_where_we_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = seen()["directory"]
    assert directory == os.fspath(bpf_directory() / "include")
    assert Path.cwd() == tmp_path


@pytest.mark.usefixtures("compiler")
def test_nothing_is_imported_from_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("")
    path = seen()["path"]
    assert all(directory.startswith("/") for directory in path)
    assert os.fspath(bpf_directory() / "include") not in path


@pytest.mark.usefixtures("compiler")
def test_it_has_none_of_our_files() -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)  # noqa: FBT003 - os has it so
    try:
        assert len(seen()["files"]) == 4  # and the directory that it lists
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.usefixtures("compiler")
def test_the_keyboards_signals_are_for_us() -> None:
    assert seen()["group"] != os.getpgrp()


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGABRT)", "signal 6"),
        ("import sys\nsys.exit(3)", "without an answer"),
        ("print('garbage')", "without an answer"),
        ("print('{}')", "without an answer"),
        ("print('[]')", "without an answer"),
    ],
)
def test_a_compiler_that_crashes_is_said_to_and_takes_nobody_with_it(
    compiler: Path, text: str, how: str
) -> None:
    compiler.write_text(f"import os\nos.write(2, b'prt-last-words')\n{text}\n")
    error = refusal()
    assert how in error.reason
    assert "prt-last-words" in error.log
    assert error.refusal is Refusal.UNSUPPORTED


def test_a_fork_of_another_thread_need_not_wait_for_its_end(compiler: Path, tmp_path: Path) -> None:
    """Nothing of this process is other than a child should find it."""
    go = tmp_path / "go"
    compiler.write_text(
        f"import os, time\nwhile not os.path.exists({os.fspath(go)!r}): time.sleep(0.01)\n"
    )
    thread = threading.Thread(target=refusal)
    thread.start()
    before, environment = Path.cwd(), dict(os.environ)
    with warnings.catch_warnings(action="ignore"):  # of threads, since Python 3.12
        pid = os.fork()
    if pid == 0:
        os._exit(not (Path.cwd() == before and dict(os.environ) == environment))
    assert os.waitpid(pid, 0)[1] == 0
    assert thread.is_alive()
    go.touch()
    thread.join()


def test_without_a_python_that_can_be_run_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.sys, "executable", "/nowhere/python")
    assert "cannot be run" in refusal().reason
