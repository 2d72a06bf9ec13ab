"""What the compiler sees of the world, and that the world is as before when it is done."""

from __future__ import annotations

import ctypes
import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.sources.compiling import bpf_directory, sealed_off, source_text

if TYPE_CHECKING:
    import pytest

_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_char_p


def c_variable(name: str) -> bytes | None:
    value: bytes | None = _libc.getenv(name.encode())
    return value


def test_the_text_includes_nothing() -> None:
    text = source_text(["sending.bpf.c", "filter.bpf.c", "proctree.bpf.c"])
    assert b"#include" not in text
    assert text.count(b"struct pt_key {") == 1


def test_c_code_sees_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPATH", "/somewhere")
    before = dict(os.environ)
    with sealed_off():
        assert c_variable("CPATH") is None
        assert c_variable("HOME") is None
        assert c_variable("BCC_KERNEL_SOURCE") == os.fsencode(bpf_directory() / "include")
        assert dict(os.environ) == before
    assert c_variable("CPATH") == b"/somewhere"
    assert c_variable("BCC_KERNEL_SOURCE") is None
    assert dict(os.environ) == before


def test_what_another_thread_sets_meanwhile_stays_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRT_BEFORE", "x")
    with sealed_off():
        monkeypatch.setenv("PRT_MEANWHILE", "y")
    assert c_variable("PRT_MEANWHILE") == b"y"
    assert c_variable("PRT_BEFORE") == b"x"
    assert c_variable("BCC_KERNEL_SOURCE") is None
    assert c_variable("PATH") == os.fsencode(os.environ["PATH"])


def test_the_working_directory_is_ours_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with sealed_off():
        assert Path.cwd() == bpf_directory() / "include"
    assert Path.cwd() == tmp_path


def test_a_fork_of_another_thread_waits_for_its_end(tmp_path: Path) -> None:
    """So the child finds its own directory and environment."""
    answer = tmp_path / "answer"
    before = Path.cwd()

    def fork() -> None:
        with warnings.catch_warnings(action="ignore"):  # of threads, since Python 3.12
            pid = os.fork()
        if pid == 0:
            answer.write_text(f"{Path.cwd()} {c_variable('BCC_KERNEL_SOURCE')}")
            os._exit(0)
        os.waitpid(pid, 0)

    thread = threading.Thread(target=fork)
    with sealed_off():
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join()
    assert answer.read_text() == f"{before} None"
