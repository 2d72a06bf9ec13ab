"""The directory that git ignores: what was built is kept by a digest of what it was built from."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from failure import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = ROOT / ".cache" / "vm"
LOGS = CACHE / "logs"
DOWNLOADS = CACHE / "downloads"
_DIGITS = 12


def is_ours() -> bool:
    """Tell whether this user may write there; if not, say what to do."""
    for directory in (CACHE, CACHE.parent, ROOT):
        if directory.exists():
            if os.access(directory, os.W_OK):
                return True
            say(f"you may not write to {directory.relative_to(ROOT.parent)}; run this with sudo")
            return False
    return False


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"proctree-bpf: {text}\n")
    sys.stderr.flush()


def fresh_log(name: str) -> Path:
    """Return the path of an empty log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    log.unlink(missing_ok=True)  # it may be another user's
    log.write_bytes(b"")
    return log


def built(name: str, inputs: object, build: Callable[[Path], None]) -> Path:
    """Return the directory of this name that was built from these inputs; build it if need be.

    The code that builds it is one of them. One that was built from others is removed afterwards.
    """
    code = Path(inspect.getfile(build)).read_text()
    text = json.dumps([name, inputs, code], sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    directory = CACHE / f"{name}-{key}"
    if directory.exists():
        return directory
    with only_one("build.lock"):
        if not directory.exists():  # nor has another run built it since
            _build(name, directory, build)
    return directory


def _build(name: str, directory: Path, build: Callable[[Path], None]) -> None:
    say(f"building {name} ...")
    began = time.monotonic()
    part = directory.with_name(f"{directory.name}.part")
    remove(part)
    part.mkdir(parents=True)
    try:
        build(part)
    except BaseException:  # a signal too
        remove(part)
        raise
    part.rename(directory)
    for other in _entries(name):
        if other != directory:
            remove(other)
    say(f"built {name} in {time.monotonic() - began:.0f} s")


def forget_or_end(*names: str) -> None:
    """Remove what was built under these names; if that cannot be, say so and end."""
    try:
        with only_one("build.lock"):
            for directory in (entry for name in names for entry in _entries(name)):
                remove(directory)
    except OSError as error:
        say(f"what is in the cache could not be removed: {error}")
        sys.exit(1)


def _entries(name: str) -> list[Path]:
    """Return what was built under a name, and what was left of it by a run that was killed."""
    return [*CACHE.glob(f"{name}-{'?' * _DIGITS}"), *CACHE.glob(f"{name}-{'?' * _DIGITS}.part")]


def remove(directory: Path) -> None:
    """Remove a directory that may have other users' files in it."""
    if not directory.exists():
        return
    with suppress(PermissionError):
        shutil.rmtree(directory)
        return
    # It removes what is theirs, and complains of what is ours.
    subprocess.run(
        ["mmdebstrap", "--unshare-helper", "rm", "-rf", directory],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    shutil.rmtree(directory)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Wait until no other run holds the lock of this name."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run to finish ({name}) ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
