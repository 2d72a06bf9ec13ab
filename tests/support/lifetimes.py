"""What each process of a build ran and how it ended, as strace and as we tell it."""

from __future__ import annotations

import re
import signal
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

STRACE = ("strace", "-f", "-q", "-e", "trace=process", "-v", "-xx")
# The longest string that strace can be told to show is longer than any argument.
STRACE_STRINGS = ("-s", "131072")

_LINE = re.compile(r"(\d+) +(.*)")
_EXECVE = re.compile(r'execve\("(.*?)", \[(.*?)\], ')
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_END = re.compile(r"\+\+\+ (exited with|killed by) (\w+)(?: \(core dumped\))? \+\+\+")
_TEMPORARY = re.compile(r"/tmp/cc[A-Za-z0-9]{6}")


class Lifetime(NamedTuple):
    """The arguments of each program that a process became, and its exit code or signal."""

    programs: tuple[tuple[str, ...], ...]
    end: int | str


def _stable(argument: str) -> str:
    """Give the compiler's temporary files one name in every run."""
    return _TEMPORARY.sub("/tmp/ccXXXXXX", argument)


def _decode(text: str) -> str:
    return bytes.fromhex(text.replace("\\x", "")).decode("utf-8", "surrogateescape")


def _with_interpreter(path: str, argv: list[str], directory: Path) -> list[str]:
    """Return what the kernel makes of the arguments of a script (execve(2))."""
    first = (directory / path).read_bytes().partition(b"\n")[0]
    if not first.startswith(b"#!"):
        return argv
    interpreter = first[2:].decode().strip().split(maxsplit=1)
    return [*interpreter, path, *argv[1:]]


def told_by_strace(log: Path, directory: Path) -> Counter[Lifetime]:
    """Read the log of STRACE; relative paths of scripts are meant from ``directory``."""
    found: Counter[Lifetime] = Counter()
    programs: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    begun: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        match = _LINE.fullmatch(line)
        assert match, line
        pid, what = match.groups()
        assert "CLONE_THREAD" not in what, "a thread is no process"
        call = _EXECVE.match(what)
        if call:
            path, argv = _decode(call[1]), [_decode(text) for text in _STRING.findall(call[2])]
            begun[pid] = [path, *argv]
        if (call or what.startswith("<... execve resumed>")) and what.endswith(" = 0"):
            path, *argv = begun.pop(pid)
            programs[pid].append(tuple(map(_stable, _with_interpreter(path, argv, directory))))
        ended = _END.fullmatch(what)
        if ended:
            end = int(ended[2]) if ended[1] == "exited with" else ended[2]
            found[Lifetime(tuple(programs.pop(pid, ())), end)] += 1
    assert not programs, f"these never ended: {programs}"
    return found


def told_by_us(records: Iterable[Mapping[str, Any]]) -> Counter[Lifetime]:
    """Read JSON records of execs and exits."""
    found: Counter[Lifetime] = Counter()
    programs: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for record in records:
        process, more = record["process"], record["proctree"]
        who = process["entity_id"]
        if record["event"]["action"] == "exec":
            assert not more["truncated"]
            programs[who].append(tuple(map(_stable, process["args"])))
        if record["event"]["action"] == "exit":
            number = more["exit_signal"]
            end = process["exit_code"] if number is None else signal.Signals(number).name
            found[Lifetime(tuple(programs.pop(who, ())), end)] += 1
    assert not programs, f"these never ended: {programs}"
    return found


def difference(ours: Counter[Lifetime], theirs: Counter[Lifetime]) -> Sequence[str]:
    """Return what only one of the two tells, a line each."""
    return [
        *(f"only ours ({count}): {life}" for life, count in (ours - theirs).items()),
        *(f"only strace's ({count}): {life}" for life, count in (theirs - ours).items()),
    ]
