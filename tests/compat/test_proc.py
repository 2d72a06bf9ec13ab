"""The rows "proc" and "tests/proc" of the coverage table: reading /proc."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from proctree_bpf import (
    DefaultCache,
    parse_proc_entry,
    read_proc_comm,
    read_proc_start_time_ns,
    resolve,
    uid_to_username,
)

NOT_A_PID = 2**31 - 1


def test_read_proc_comm() -> None:
    told = Path("/proc/self/comm").read_bytes().removesuffix(b"\n")
    comm = read_proc_comm(os.getpid())
    assert comm is not None
    assert os.fsencode(comm) == told


def test_read_proc_start_time_ns() -> None:
    start = read_proc_start_time_ns(os.getpid())
    assert 0 < read_proc_start_time_ns(1) <= start


def test_uid_to_username() -> None:
    assert uid_to_username(0) == "root"
    assert uid_to_username(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name


def test_uid_to_username_unknown() -> None:
    assert uid_to_username(2**32 - 2) is None


def test_nonexistent_pid() -> None:
    assert parse_proc_entry(NOT_A_PID) is None
    assert read_proc_comm(NOT_A_PID) is None
    assert read_proc_start_time_ns(NOT_A_PID) == 0
    assert resolve(DefaultCache(), NOT_A_PID) is None


def test_pid1_fields() -> None:
    entry = parse_proc_entry(1)
    assert entry is not None
    node, info = entry
    assert (node.ppid, info.ppid, info.tgid) == (0, 0, 1)
    assert node.cmd == info.cmd != ""
    assert (info.uid, info.user) == (0, "root")
    assert info.start_time_ns == read_proc_start_time_ns(1) > 0


def test_self_resolve() -> None:
    info = resolve(DefaultCache(), os.getpid())
    assert info is not None
    assert (info.tgid, info.ppid) == (os.getpid(), os.getppid())
    assert info.user == pwd.getpwuid(os.getuid()).pw_name
