"""What the compiler in BCC reads, and all that it may see of the world while it runs.

BCC makes the current directory the first place where headers are looked for, and clang adds
those that the environment names. Whoever can write there would write the program that the
kernel runs for us. So the program is one text without includes, and for as long as it
is compiled the current directory is the one of our own headers and the environment is empty
but for what is needed.
"""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from proctree_bpf.sources.base import Refusal, SourceUnavailableError
from proctree_bpf.sources.causes import what_helps
from proctree_bpf.sources.forks import momentary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Without this one BCC would look for headers of the running kernel: in its modules, and unpacked
# below $TMPDIR.
_FIRST_HEADER = "include/linux/kconfig.h"
_INCLUDE = re.compile(rb'^#include "([^"]+)"$', re.MULTILINE)
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_environ = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")


def bpf_directory() -> Path:
    """Return the directory of the C sources: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "bpf"
    return inside if inside.is_dir() else package.parent.parent / "bpf"


def source_text(names: Iterable[str]) -> bytes:
    """Return C sources one after another, with what they include in its place, once each.

    Raises:
        SourceUnavailableError: one cannot be read.

    """
    seen: set[str] = set()

    def whole(name: str) -> bytes:
        return _INCLUDE.sub(lambda found: included(os.fsdecode(found[1])), read_source(name))

    def included(name: str) -> bytes:
        if name in seen:
            return b""
        seen.add(name)
        return whole(name)

    return b"".join(whole(name) for name in names)


def read_source(name: str) -> bytes:
    """Return one of our C sources.

    Raises:
        SourceUnavailableError: it cannot be read.

    """
    path = bpf_directory() / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceUnavailableError(
            f"{path} cannot be read ({error.strerror})",
            what_helps(error, "install proctree-bpf again"),
            Refusal.BROKEN,
        ) from error


@contextmanager
def sealed_off() -> Iterator[None]:
    """Let BCC compile with our headers alone.

    Both are the whole process's: other threads are in our directory meanwhile, as BCC has it in
    any case. ``os.environ`` stays as it is.

    Raises:
        SourceUnavailableError: our headers are not there.
        OSError: the directory cannot be changed.

    """
    include = bpf_directory() / "include"
    read_source(f"{include}/{_FIRST_HEADER}")
    with (
        momentary,
        _working_directory(include),
        _environment({"BCC_KERNEL_SOURCE": str(include), "PATH": _PATH}),
    ):
        yield


@contextmanager
def _working_directory(path: Path) -> Iterator[None]:
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path)
        try:
            yield
        finally:
            os.fchdir(before)
    finally:
        os.close(before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let C code see these variables only."""
    entries = [os.fsencode(f"{name}={value}") for name, value in variables.items()]
    block = (ctypes.c_char_p * (len(entries) + 1))(*entries)
    before, ours = _environ.value, ctypes.addressof(block)
    _environ.value = ours
    try:
        yield
    finally:
        if _environ.value == ours:
            _environ.value = before
        else:  # another thread has set a variable, and setenv(3) let go of what was before
            for name in variables:
                os.unsetenv(name)
            for key, value in os.environb.items():
                os.putenv(key, value)
