"""Runs the real command as a user does, and judges what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_SCRIPT = Path(sys.executable).with_name("proctree-bpf")
# Where PYTHONPATH must count: the installed script may run Python in isolated mode.
PYTHON_ENTRY = [sys.executable, "-P", "-c", "from proctree_bpf.cli import main; main()"]
PROGRAM = [str(_SCRIPT)] if _SCRIPT.exists() else PYTHON_ENTRY

NOBODY = 65534
# It keeps the right to read any file, because the checkout may be in root's home.
_READ_ONLY = "-all,+dac_read_search"
AS_NOBODY = (
    [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        f"--inh-caps={_READ_ONLY}", f"--ambient-caps={_READ_ONLY}",
        f"--bounding-set={_READ_ONLY}",
    ]
    if os.geteuid() == 0
    else []
)  # fmt: skip

_PREFIX = "proctree-bpf: "
_FROM_OUTSIDE = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONPATH", "PYTHONWARNINGS")


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment that does not depend on who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name not in _FROM_OUTSIDE}
    return kept | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | dict(changes or {})


@dataclass(frozen=True)
class Result:
    """How a run ended: exit status, stdout, stderr."""

    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """Return the only thing on stderr: one sentence of the program."""
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith(_PREFIX), self.err
        assert lines[0].endswith("."), self.err
        assert "internal error" not in self.err
        return lines[0].removeprefix(_PREFIX)

    def sentence_after_start(self) -> str:
        """Return what is on stderr beside the line that tracing has started."""
        start, *rest = self.err.splitlines(keepends=True)
        assert start.startswith(f"{_PREFIX}tracing with "), self.err
        return Result(self.code, self.out, "".join(rest)).sentence()

    def usage_error(self) -> str:
        """Return what is wrong with the command line, told in the shape of usage errors."""
        assert "Traceback" not in self.err
        assert (self.code, self.out) == (2, ""), self
        first, *_, last = self.err.splitlines()
        assert first.startswith("Usage: "), self.err
        assert last.startswith("Error: "), self.err
        return last.removeprefix("Error: ")

    def records(self) -> list[dict[str, Any]]:
        """Return stdout as JSON lines."""
        return json_lines(self.out)


def json_lines(text: str) -> list[dict[str, Any]]:
    """Parse JSON lines as the strictest reader does: complete, and encodable as UTF-8."""
    assert text.isascii()
    assert not text or text.endswith("\n"), f"cut short: {text[-80:]!r}"
    found = [json.loads(line) for line in text.splitlines()]
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")
    return found


def run(
    *args: str | bytes,
    before: Sequence[str] = (),
    program: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> Result:
    """Run the program to its end; ``before`` are words in front of the command."""
    done = subprocess.run(
        [*before, *(program or PROGRAM), *args],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(env),
        timeout=60,
        check=False,
    )
    return Result(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def is_compiling(pid: int) -> bool:
    """Tell whether the program has a child that has loaded BCC's compiler."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):
                if "libbcc" in Path(f"/proc/{child}/maps").read_text():
                    return True
    return False


def in_own_mounts(script: str) -> list[str]:
    """Return the words that run ``script``, and then a command, with mounts of its own."""
    shell = f'set -e\n{script}\nexec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell, "sh"]


class Trace:
    """A running ``proctree-bpf trace``."""

    def __init__(self, process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        return self.process.pid

    def err(self) -> str:
        """Return what is on stderr so far."""
        return _read(self._err)

    def out(self) -> str:
        """Return what is on stdout so far."""
        return _read(self._out)

    def wait_until_started(self) -> None:
        """Wait for the line that says so, or for the end."""
        wait_until(
            "tracing starts",
            lambda: "tracing with" in self.err() or self.process.poll() is not None,
        )

    def stop(
        self, number: signal.Signals = signal.SIGINT, patience_s: float = PATIENCE_S
    ) -> Result:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.wait(patience_s)

    def wait(self, patience_s: float = PATIENCE_S) -> Result:
        """Wait for the end."""
        self.process.wait(patience_s)
        return Result(self.process.returncode, self.out(), self.err())


def _read(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), 1 << 28, 0).decode()


@contextmanager
def tracing(
    *args: str,
    before: Sequence[str] = (),
    program: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> Iterator[Trace]:
    """Run ``trace`` in the background; it has started when the block begins."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [*before, *(program or PROGRAM), "trace", *args],
            stdin=subprocess.DEVNULL,
            stdout=out if stdout is None else stdout,
            stderr=err,
            env=environment(env),
        )
        trace = Trace(process, out, err)
        try:
            trace.wait_until_started()
            yield trace
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def of_process(records: Iterable[dict[str, Any]], pid: int) -> list[dict[str, Any]]:
    """Return the records about one process that we started, in their order.

    Another process of the machine may get the PID while we look; it is not our descendant.
    """
    return [
        record
        for record in records
        if record.get("process", {}).get("pid") == pid
        and any(link["pid"] == os.getpid() for link in record["proctree"]["chain"])
    ]


def of_command(records: Sequence[dict[str, Any]], args: Sequence[str]) -> list[dict[str, Any]]:
    """Return the records about the one process that ran this, in their order.

    Its PID may have been another's a moment before, so the exact start time decides.
    """
    (life,) = {
        (record["process"]["pid"], record["proctree"]["start_time_ns"])
        for record in records
        if record["event"]["action"] == "exec" and record["process"]["args"] == list(args)
    }
    return [
        record
        for record in of_process(records, life[0])
        if record["proctree"]["start_time_ns"] == life[1]
    ]


def actions(records: Iterable[dict[str, Any]]) -> list[str]:
    """Return what happened, in order."""
    return [record["event"]["action"] for record in records]
