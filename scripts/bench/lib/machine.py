"""The machine that was measured: its processor, its kernel, and the versions of all tools."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEERS = {
    "bpftrace": ("bpftrace", "--version"),
    "forkstat": ("forkstat", "-h"),
    "strace": ("strace", "--version"),
}
_VERSION = re.compile(r"\d+\.\d[\w.]*")


def first_line(command: Sequence[str]) -> str:
    """Return the first line that a command writes, or nothing if it cannot be run."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "")


def _version(command: Sequence[str]) -> str:
    found = _VERSION.search(first_line(command))
    return found.group() if found else "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("ascii", "replace").splitlines():
        if line.lower().startswith(("model name", "cpu model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _package(name: str) -> str:
    """Return the version of an installed Debian package."""
    if not shutil.which("dpkg-query"):
        return "unknown"
    return first_line(["dpkg-query", "-W", "-f", "${Version}", name]) or "unknown"


def _of_python(python: str, script: str) -> str:
    said = first_line([python, "-s", "-c", script])
    return said if _VERSION.match(said) else "none"


def describe(program: str, python: str) -> dict[str, Any]:
    """Describe the machine, what is measured, and what it is measured beside."""
    versions = {
        name: _version(command) if shutil.which(name) else "none"
        for name, command in _PEERS.items()
    }
    versions["psutil"] = _of_python(python, "import psutil; print(psutil.__version__)")
    versions["bpfcc-tools"] = _package("bpfcc-tools")
    return {
        "program": first_line([program, "--version"]) or "does not run",
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} CPUs to use",
        "memory": f"{_memory_gb()} GB",
        "kernel": f"{platform.release()} {platform.machine()}",
        "Python": _of_python(python, "import platform; print(platform.python_version())"),
        "BCC": _of_python(python, "import bcc; print(bcc.__version__)"),
        "peers": versions,
        "pid_max": Path("/proc/sys/kernel/pid_max").read_text("ascii").strip(),
        "load at the start": "{:.2f}".format(os.getloadavg()[0]),  # noqa: UP032 - one number
    }
