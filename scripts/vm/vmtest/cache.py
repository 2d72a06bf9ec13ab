"""The directory that git ignores: what was built is kept by a digest of what it was built from.

Each user has one, as what one has made another may be unable to remove, or may not enter.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vmtest.failure import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME = "vm" if os.geteuid() == ROOT.stat().st_uid else f"vm-{os.geteuid()}"
CACHE = ROOT / ".cache" / _NAME
LOGS = CACHE / "logs"
DOWNLOADS = CACHE / "downloads"
BUILDERS = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in (
        "box", "cloud_kernel", "debian_packages", "initrd", "mmdebstrap", "root_filesystem",
    )
)  # fmt: skip
"""The code of what is built: one change to it, and all is built anew."""
_DIGITS = 12
_outdated: set[str] = set()


def is_writable() -> bool:
    """Tell whether this user may write there; if not, say what to do."""
    if os.geteuid() == 0 and not CACHE.parent.exists():  # not to keep the owner out
        CACHE.parent.mkdir()
        os.chown(CACHE.parent, ROOT.stat().st_uid, ROOT.stat().st_gid)
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
    code = [path.read_text() for path in BUILDERS]
    text = json.dumps([name, inputs, code], sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    directory = CACHE / f"{name}-{key}"
    if directory.exists() and name not in _outdated:
        return directory
    with locked("build.lock"):
        if name in _outdated or not directory.exists():  # nor has another run built it since
            _build(name, directory, build)
            _outdated.discard(name)
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
    for entry in _entries(name):
        if entry not in (directory, part):
            remove(entry)
    old = directory.with_name(f"{directory.name}.old")
    if directory.exists():
        directory.rename(old)
    part.rename(directory)
    remove(old)
    say(f"built {name} in {time.monotonic() - began:.0f} s")


def rebuild_on_next_use(*names: str) -> None:
    """Let what is built under these names be built anew when it is asked for: it may be outdated.

    Until then, and if that fails, the old is kept.
    """
    _outdated.update(names)


def _entries(name: str) -> list[Path]:
    """Return what was built under a name, and what was left of it by a run that was killed."""
    start = f"{name}-{'?' * _DIGITS}"
    return [path for end in ("", ".part", ".old") for path in CACHE.glob(f"{start}{end}")]


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
def locked(name: str) -> Iterator[None]:
    """Wait until no other run holds the lock of this name."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run to finish ({name}) ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
