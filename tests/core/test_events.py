from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proctree_bpf.core.events import (
    EVENT_KINDS,
    Exec,
    Exit,
    Fork,
    ProcEvent,
    Rename,
    exit_code_of,
    exit_signal_of,
    split_args,
)
from proctree_bpf.core.identity import ProcessKey

KEY = ProcessKey(7, 1_000)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, ()),
        (b"", ()),
        (b"\0", ("",)),
        (b"\0\0", ("", "")),
        (b"ls\0", ("ls",)),
        (b"ls\0-l\0", ("ls", "-l")),
        (b"ls\0\0-l\0", ("ls", "", "-l")),
        pytest.param(b"ls\0-lon", ("ls", "-lon"), id="cut short"),
        pytest.param(b"ls\0\xff\xfe\0", ("ls", "\udcff\udcfe"), id="not UTF-8"),
        pytest.param(b"a b\0c\nd\0", ("a b", "c\nd"), id="spaces and newlines"),
    ],
)
def test_an_argument_block_is_split_at_its_nuls(
    raw: bytes | None, expected: tuple[str, ...]
) -> None:
    assert split_args(raw) == expected


@given(st.lists(st.binary().map(lambda raw: raw.replace(b"\0", b""))))
def test_every_list_of_arguments_survives_the_block(args: list[bytes]) -> None:
    block = b"".join(arg + b"\0" for arg in args)
    assert [os.fsencode(arg) for arg in split_args(block)] == args


@given(st.integers(0, 0xFFFF))
def test_a_wait_status_is_read_as_the_c_library_reads_it(status: int) -> None:
    if os.WIFEXITED(status):
        assert exit_code_of(status) == os.WEXITSTATUS(status)
        assert exit_signal_of(status) is None
    if os.WIFSIGNALED(status):
        assert exit_code_of(status) is None
        assert exit_signal_of(status) == os.WTERMSIG(status)
        assert Exit(1, KEY, status=status).core_dumped is os.WCOREDUMP(status)


def test_an_unknown_status_says_nothing() -> None:
    event = Exit(1, KEY)
    assert (event.exit_code, event.signal, event.core_dumped) == (None, None, False)


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_code_of_a_real_child_is_read_back(code: int) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {})
    _, status = os.waitpid(pid, 0)
    assert Exit(1, KEY, status=status).exit_code == code


def test_the_signal_of_a_real_child_is_read_back() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        child.send_signal(signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        child.returncode = -signal.SIGKILL  # reaped behind the back of subprocess
    finally:
        if child.stdin is not None:
            child.stdin.close()
    event = Exit(1, KEY, status=status)
    assert event.signal == signal.SIGKILL
    assert event.exit_code is None


def test_a_fork_is_about_the_child() -> None:
    event = Fork(1, child=ProcessKey(8, 5), creator=KEY)
    assert event.key == ProcessKey(8, 5)
    assert (event.child_pid, event.parent_pid) == (8, 7)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Fork(1, KEY, ProcessKey(1)), "fork"),
        (Exec(1, KEY), "exec"),
        (Exit(1, KEY), "exit"),
        (Rename(1, KEY, "x"), "rename"),
    ],
)
def test_every_kind_of_event_has_a_name_and_a_process(event: ProcEvent, kind: str) -> None:
    assert EVENT_KINDS[type(event)] == kind
    assert event.key.pid == 7


def test_an_event_does_not_change() -> None:
    event = Exec(1, KEY)
    with pytest.raises(AttributeError):
        event.comm = "other"  # type: ignore[misc]
