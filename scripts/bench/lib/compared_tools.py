"""The tools that are compared, and how to read what each tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from figures import NotRunError
from running_tool import says_it_traces, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Report(NamedTuple):
    """What a tool reports of a process: at its fork, exec or exit; None is what it does not say."""

    pid: int
    kind: str
    name: str | None = None
    args: list[str] | None = None
    creator: int | None = None
    code: int | None = None


class ComparedTool(Protocol):
    """A tool that is run beside a load."""

    name: str
    share: float
    """Which part of the load it gets: a slow one would take minutes."""

    def command(self, directory: Path) -> list[str]:
        """Return what starts it, or nothing if it starts the spawners itself."""

    def prefix(self, directory: Path, number: int) -> list[str]:
        """Return what is put before a spawner."""

    def is_ready(self, directory: Path) -> bool:
        """Tell whether it traces; its output is in the files out and err."""

    def catch_up(self, directory: Path) -> None:
        """Let it write all that it has received, if it would not at Ctrl-C."""

    def reports(self, directory: Path) -> Iterable[Report] | None:
        """Return what it reported; None if that is not looked at."""

    def lost(self, directory: Path) -> int | None:
        """Return how many events it says to have lost; None if it does not say."""

    def remark(self, directory: Path, count: int) -> str:
        """Return what else is to be known of a run of so many processes."""


class _Defaults:
    """What holds for most tools."""

    share = 1.0

    def prefix(self, directory: Path, number: int) -> list[str]:
        del directory, number
        return []

    def catch_up(self, directory: Path) -> None:
        del directory

    def reports(self, directory: Path) -> Iterable[Report] | None:
        del directory
        return None

    def lost(self, directory: Path) -> int | None:
        del directory
        return None

    def remark(self, directory: Path, count: int) -> str:
        del directory, count
        return ""


class Ours(_Defaults):
    """proctree-bpf, with some options."""

    def __init__(self, name: str, program: str, style: str, *words: str) -> None:
        self.name = name
        self._program = program
        self._style = style
        self._words = words

    def command(self, directory: Path) -> list[str]:
        return [
            self._program, "trace", "-f", self._style, "-e", "exec,exit",
            "-o", str(directory / "records"), "--stats-file", str(directory / "stats"),
            *self._words,
        ]  # fmt: skip

    def is_ready(self, directory: Path) -> bool:
        return says_it_traces(directory / "err")()

    def reports(self, directory: Path) -> Iterable[Report] | None:
        if self._style != "jsonl" or "nobody" in self._words:
            return None
        return _reports_by_us(directory / "records")

    def _stats(self, directory: Path) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads((directory / "stats").read_bytes())
        return stats

    def lost(self, directory: Path) -> int | None:
        return int(self._stats(directory)["lost"])

    def remark(self, directory: Path, count: int) -> str:
        left_out = self._stats(directory).get("dropped_in_kernel")
        if left_out is None or "nobody" not in self._words:
            return ""
        return f"{min(1.0, left_out / (3 * count)):.1%} of the events left out in the kernel"


def _reports_by_us(records: Path) -> Iterator[Report]:
    with records.open("rb") as lines:
        for line in lines:
            record = json.loads(line)
            if "process" not in record:  # a gap
                continue
            process, kind = record["process"], record["event"]["action"]
            if kind in {"exec", "exit"}:
                parent = process.get("parent") or {}
                yield Report(
                    process["pid"], kind, process["name"], process.get("args"),
                    parent.get("pid"), process.get("exit_code"),
                )  # fmt: skip


class Forkstat(_Defaults):
    """forkstat(8): it listens to the proc connector and then looks at ``/proc``."""

    name = "forkstat"

    def command(self, directory: Path) -> list[str]:
        del directory
        return [_needed("forkstat"), "-l", "-e", "fork,exec,exit"]

    def is_ready(self, directory: Path) -> bool:
        subprocess.run(["/bin/true"], check=True)
        return b"exit" in (directory / "out").read_bytes()

    def catch_up(self, directory: Path) -> None:
        last = subprocess.Popen(["/bin/true"])
        last.wait()
        out = directory / "out"
        wait_for("its last line", lambda: b"%7d" % last.pid in out.read_bytes())

    def reports(self, directory: Path) -> Iterable[Report]:
        creator: int | None = None
        for line in (directory / "out").read_text("utf-8", "replace").splitlines():
            words = line.split()
            if len(words) < 4 or not words[2].isdigit():  # noqa: PLR2004 - time, kind, PID, rest
                continue
            kind, pid, rest = words[1], int(words[2]), words[3:]
            if kind == "fork":
                creator = pid if rest[0] == "parent" else creator
                if rest[0] == "child":
                    yield Report(pid, kind, creator=creator)
            elif kind == "exec":
                yield Report(pid, kind, Path(rest[0]).name, rest)
            elif kind == "exit" and rest[0].isdigit():
                args = rest[2:] or ["?"]
                yield Report(pid, kind, Path(args[0]).name, args, code=int(rest[0]) >> 8)


class Bpftrace(_Defaults):
    """bpftrace with one line for each fork, exec and exit; tracefs is mounted for it alone."""

    name = "bpftrace fork+exec+exit"
    _SCRIPT = r"""
tracepoint:sched:sched_process_fork { printf("F %d %d\n", args->child_pid, args->parent_pid); }
tracepoint:sched:sched_process_exec { printf("E %d %s\n", pid, comm); }
tracepoint:sched:sched_process_exit /pid == tid/ { printf("X %d %s\n", pid, comm); }
"""
    _SHELL = (
        "[ -e /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; "
        'exec "$0" -B full -e "$1"'
    )

    def command(self, directory: Path) -> list[str]:
        del directory
        shell = ["unshare", "--mount", "--propagation", "private", "sh", "-c", self._SHELL]
        return [*shell, _needed("bpftrace"), self._SCRIPT]

    def is_ready(self, directory: Path) -> bool:
        said = (directory / "out").read_bytes() + (directory / "err").read_bytes()
        return b"Attaching" in said

    def reports(self, directory: Path) -> Iterable[Report]:
        for line in (directory / "out").read_text("utf-8", "replace").splitlines():
            kind, _, rest = line.partition(" ")
            pid, _, what = rest.partition(" ")
            if kind == "F":
                yield Report(int(pid), "fork", creator=int(what))
            elif kind in {"E", "X"}:
                yield Report(int(pid), "exec" if kind == "E" else "exit", what)

    def lost(self, directory: Path) -> int | None:
        said = (directory / "out").read_text("utf-8", "replace")
        said += (directory / "err").read_text("utf-8", "replace")
        return sum(map(int, re.findall(r"Lost (\d+) events", said)))


class Strace(_Defaults):
    """strace -f, around each spawner."""

    name = "strace -f"
    share = 0.1
    _EXECVE = re.compile(r'(\d+) +execve\("[^"]*", \[(.*?)\]')
    _CREATED = re.compile(r"(\d+) +(?:<\.\.\. )?(?:clone3?|v?fork)\b.* = (\d+)$")
    _ENDED = re.compile(r"(\d+) +\+\+\+ exited with (\d+) \+\+\+")

    def command(self, directory: Path) -> list[str]:
        del directory
        return []

    def prefix(self, directory: Path, number: int) -> list[str]:
        log = str(directory / f"strace-{number}")
        return [_needed("strace"), "-f", "-q", "-s", "4096", "-e", "trace=process", "-o", log]

    def is_ready(self, directory: Path) -> bool:
        del directory
        return True

    def reports(self, directory: Path) -> Iterable[Report]:
        for log in sorted(directory.glob("strace-*")):
            for line in log.read_text("utf-8", "replace").splitlines():
                if match := self._EXECVE.match(line):
                    args = re.findall(r'"([^"]*)"', match[2])
                    name = Path(args[0]).name if args else None
                    yield Report(int(match[1]), "exec", name, args)
                elif match := self._CREATED.match(line):
                    yield Report(int(match[2]), "fork", creator=int(match[1]))
                elif match := self._ENDED.match(line):
                    yield Report(int(match[1]), "exit", code=int(match[2]))


class Execsnoop(_Defaults):
    """BCC's own execsnoop: it sees execs only."""

    name = "execsnoop (BCC)"

    def command(self, directory: Path) -> list[str]:
        del directory
        return [_needed("execsnoop-bpfcc")]

    def is_ready(self, directory: Path) -> bool:
        return b"PCOMM" in (directory / "out").read_bytes()


def _needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise NotRunError(f"{program} is not installed")
    return found
