"""Traces by sources of which some are refused, and what is said of it.

Sources are refused for real: by dropped capabilities, by mounts, by namespaces, by seccomp
filters, and by another module named bcc.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from support.denied_calls import denied
from support.program import PYTHON_ENTRY, Result, actions, of_process, tracing
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BTF = Path("/sys/kernel/btf/vmlinux")
ALL_AS_JSON = ("-f", "jsonl", "-e", "fork,exec,exit")
_PREFIX = "proctree-bpf: "

NO_CONNECTOR = denied("socket:2:11")  # NETLINK_CONNECTOR
NO_ATTACH = denied("bpf:0:17")  # BPF_RAW_TRACEPOINT_OPEN
NO_BPF_CAPS = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"]
NO_CAPS = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin,-net_admin"]
OWN_PIDS = ["unshare", "--pid", "--fork", "--mount-proc"]


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
    with tracing(*ALL_AS_JSON, *options, before=before, env=env, program=program) as trace:
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
