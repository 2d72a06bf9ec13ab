"""Keeps compiled programs on disk, and trusts nothing there that others could have written.

What lies there is loaded into the kernel with our rights. So each directory on the way is opened
without following links and must be root's or ours and nobody else's to write, and so must the file.
Whatever is not as it should be is as if it were not there; and if it cannot be
written, it is not: the programs are compiled then.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_ROOT = Path("/var/cache/proctree-bpf")
_MAGIC = b"proctree-bpf programs 1 "
_SUFFIX = ".programs"
MOST_FILES = 16
"""How many are kept; the oldest go first."""
_MOST_BYTES = 16 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_SECURE = 23
_FOR_OTHERS_TO_WRITE = stat.S_IWGRP | stat.S_IWOTH


def default_directory() -> Path | None:
    """Return where the programs of this user are kept; None: nowhere.

    The environment has no say in what root loads, nor in what somebody loads with
    rights that the program gives and not the user.
    """
    if os.geteuid() == 0:
        return _OF_ROOT
    if ctypes.CDLL(None).getauxval(_AT_SECURE):
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        home = os.environ.get("HOME", "")
        if not home.startswith("/"):
            return None
        base = f"{home}/.cache"
    return Path(base, "proctree-bpf")


def _is_only_ours(about: os.stat_result) -> bool:
    return about.st_uid in (0, os.geteuid()) and not about.st_mode & _FOR_OTHERS_TO_WRITE


def _may_lead_to_ours(about: os.stat_result) -> bool:
    """Tell whether nobody else can put something in the place of what is ours in a directory."""
    return _is_only_ours(about) or (about.st_uid == 0 and bool(about.st_mode & stat.S_ISVTX))


class ProgramCache:
    """One directory of programs. Its methods raise no OSError: what fails is not kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, key: bytes) -> bytes | None:
        """Return what was stored under a key, if it is there and beyond doubt."""
        with suppress(OSError), self._opened(create=False) as directory:
            fd = os.open(
                _name(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                dir_fd=directory,
            )  # fmt: skip
            with os.fdopen(fd, "rb") as file:
                about = os.fstat(fd)
                if not stat.S_ISREG(about.st_mode) or not _is_only_ours(about):
                    return None
                return _checked(file.read(_MOST_BYTES), key)
        return None

    def store(self, key: bytes, content: bytes) -> bool:
        """Keep something under a key, in the place of what was there; return whether it is kept."""
        whole = _MAGIC + _digest(key, content) + b"\n" + content
        with suppress(OSError), self._opened(create=True) as directory:
            name = _name(key)
            new = f".{name}.{os.getpid()}"
            try:
                _write(directory, new, whole)
                os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                with suppress(OSError):
                    os.unlink(new, dir_fd=directory)
                raise
            _remove_oldest(directory)
            return True
        return False

    @contextmanager
    def _opened(self, *, create: bool) -> Iterator[int]:
        """Open the directory, looking at each one on the way; OSError if it is not only ours."""
        parts = self._directory.parts
        fd = os.open("/", _DIRECTORY)
        try:
            for at, part in enumerate(parts[1:], 2):
                if not _may_lead_to_ours(os.fstat(fd)):
                    raise PermissionError(f"{self._directory}: others can write on the way")
                below = _step(fd, part, create=create)
                os.close(fd)
                fd = below
                if at == len(parts) and not _is_only_ours(os.fstat(fd)):
                    raise PermissionError(f"{self._directory}: others can write there")
            yield fd
        finally:
            os.close(fd)


def _step(fd: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(part, 0o700, dir_fd=fd)
    return os.open(part, _DIRECTORY, dir_fd=fd)


def _name(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest() + _SUFFIX


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.sha256(key + b"\0" + content).hexdigest().encode()


def _checked(whole: bytes, key: bytes) -> bytes | None:
    head, _, content = whole.partition(b"\n")
    return content if head == _MAGIC + _digest(key, content) else None


def _write(directory: int, name: str, whole: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):  # of one that was ended while it wrote
        os.unlink(name, dir_fd=directory)
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory), "wb") as file:
        file.write(whole)


def _remove_oldest(directory: int) -> None:
    """Keep the number of files bounded, half-written ones of others included."""
    with os.scandir(directory) as entries:
        ours = [entry for entry in entries if _SUFFIX in entry.name]
        aged = sorted(ours, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
    for entry in aged[:-MOST_FILES]:
        with suppress(OSError):
            os.unlink(entry.name, dir_fd=directory)
