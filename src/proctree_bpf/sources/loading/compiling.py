"""Compiles our programs, in a process that sees nothing of the world but our sources.

BCC makes the current directory the first place where headers are looked for, and clang adds
those that the environment names. Whoever can write there would write the program that the
kernel runs for us. So the program is one text without includes, and the process that
compiles it has the directory of our own headers and an environment of what is needed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from proctree_bpf.errors import Refusal, SourceUnavailableError
from proctree_bpf.sources.loading import bcc_program
from proctree_bpf.sources.loading.compiled import checked
from proctree_bpf.sources.system.causes import program_refused, shortage, unavailable_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proctree_bpf.sources.loading.compiled import Compiled

# Without this one BCC would look for headers of the running kernel: in its modules, and unpacked
# below $TMPDIR.
_FIRST_HEADER = "include/linux/kconfig.h"
_INCLUDE = re.compile(rb'^#include "([^"]+)"$', re.MULTILINE)
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def bpf_directory() -> Path:
    """Return the directory of the C sources: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "bpf"
    return inside if inside.is_dir() else package.parent.parent / "bpf"


def source_text(names: Iterable[str]) -> bytes:
    """Return C sources one after another, with what they include in its place, once each."""
    seen: set[str] = set()

    def whole(name: str) -> bytes:
        if name in seen:
            return b""
        seen.add(name)
        return _INCLUDE.sub(lambda found: whole(os.fsdecode(found[1])), read_source(name))

    return b"".join(map(whole, names))


def read_source(name: str) -> bytes:
    """Return one of our C sources; SourceUnavailableError if it cannot be read."""
    path = bpf_directory() / name
    with unavailable_as(f"{path} cannot be read", "install proctree-bpf again", Refusal.BROKEN):
        return path.read_bytes()


def header_texts() -> list[tuple[str, bytes]]:
    """Return the headers that are compiled besides, which BCC's own ask for."""
    include = bpf_directory() / "include"
    read_source(f"{include}/{_FIRST_HEADER}")
    return [
        (os.fspath(path.relative_to(include)), read_source(os.fspath(path)))
        for path in sorted(include.rglob("*.h"))
    ]


def compile_programs(source: bytes, flags: Sequence[str]) -> tuple[Compiled, float]:
    """Return compiled programs, and how long it took to import BCC, in seconds."""
    header_texts()
    request = {
        "path": [path for path in sys.path if path.startswith("/")],
        "source": source.decode(),
        "flags": list(flags),
    }
    status, told, log = _run(json.dumps(request).encode())
    try:
        answer = json.loads(told)
        if "failed" not in answer:
            return checked(answer["compiled"]), float(answer["import_seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise _ended_early(status, log) from error
    raise _refusal(answer, log)


def _run(request: bytes) -> tuple[int, bytes, str]:
    """Return how the compiler's process ended, what it answers, and what it says besides.

    Through files and not pipes: nothing need be waited for but its end.
    """
    import subprocess  # noqa: PLC0415 - only where there is something to compile

    include = bpf_directory() / "include"
    environment = {"BCC_KERNEL_SOURCE": os.fspath(include), "PATH": _PATH}
    if "LD_LIBRARY_PATH" in os.environ:  # where this very process has its libraries from
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    remedy = "end some processes, or raise their number (ulimit -u)"
    with (
        unavailable_as("BCC's compiler cannot be run", remedy),
        _memory() as asked, _memory() as told, _memory() as log,
    ):  # fmt: skip
        asked.write(request)
        asked.seek(0)  # which flushes it, too
        status = subprocess.run(  # noqa: S603 - our own Python and file
            [sys.executable, "-I", "-S", bcc_program.__file__],
            stdin=asked, stdout=told, stderr=log, check=False, cwd=include, env=environment,
            process_group=0,  # what the keyboard sends is for us, who then end
        ).returncode  # fmt: skip
        for each in (told, log):
            each.seek(0)
        return status, told.read(), log.read().decode("utf-8", "replace")


def _memory() -> BinaryIO:
    return os.fdopen(os.memfd_create("proctree-bpf-compiler", os.MFD_CLOEXEC), "w+b")


def _refusal(answer: dict[str, Any], log: str) -> SourceUnavailableError:
    number = answer.get("errno")
    reason = str(answer["reason"])
    error = OSError(number, reason) if number else Exception(reason)
    if answer["failed"] == "import":
        short = shortage(error, log)
        if short is not None:
            return short.refusal(log)
        return SourceUnavailableError(reason, str(answer["remedy"]), log=log)
    return program_refused(error, log)


def _ended_early(status: int, log: str) -> SourceUnavailableError:
    how = f"was ended by signal {-status}" if status < 0 else "ended without an answer"
    return SourceUnavailableError(
        f"BCC's compiler {how}",
        "give it more memory, or run again with --debug and report what it prints as a bug",
        log=log,
    )
