"""The directory that git ignores: what was built is kept by a digest of what it was built from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from failure import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CACHE = ROOT / ".cache" / "vm"
LOGS = CACHE / "logs"


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"proctree-bpf: {text}\n")
    sys.stderr.flush()


def fresh_log(name: str) -> Path:
    """Return the path of an empty log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    log.write_bytes(b"")
    return log


def built(name: str, inputs: object, build: Callable[[Path], None]) -> Path:
    """Return the directory of this name that was built from these inputs; build it if need be.

    One that was built from other inputs is removed afterwards.
    """
    text = json.dumps([name, inputs], sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    directory = CACHE / f"{name}-{key}"
    if directory.exists():
        return directory
    with _only_one():
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
    for other in CACHE.glob(f"{name}-????????????"):
        if other != directory:
            remove(other)
    say(f"built {name} in {time.monotonic() - began:.0f} s")


def remove(directory: Path) -> None:
    """Remove a directory that may have other users' files in it."""
    if not directory.exists():
        return
    try:
        shutil.rmtree(directory)
    except PermissionError:
        subprocess.run(["mmdebstrap", "--unshare-helper", "rm", "-rf", directory], check=True)


@contextmanager
def _only_one() -> Iterator[None]:
    """Wait until no other run builds."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run to finish ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
