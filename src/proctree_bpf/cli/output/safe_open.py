"""Opens what the user names for writing, without being led astray by somebody else.

Whoever can write in a directory can put a link where we are about to write, or a file that
is not what it seems. So the path is walked here, component by component, and in a directory
where others can write nothing is followed or written to that may be another user's doing.
What they cannot write is trusted as it is.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_LINKS = 40  # as many as the kernel follows
_ROOT_UID = 0
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# No terminal becomes ours by being written to.
_WRITING = os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotTrustedError(OSError):
    """What is there may be another user's doing."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """A name in an open directory; ``found`` is what it is now, None if there is nothing.

    ``magic`` says that it is one of the links of /proc that lead to an open file without
    naming it, as /dev/stdout does.
    """

    directory: int
    name: str
    found: os.stat_result | None
    magic: bool = False

    @property
    def is_ordinary(self) -> bool:
        """Whether it is a regular file of this name, or can become one."""
        return self.found is None or (stat.S_ISREG(self.found.st_mode) and not self.magic)


@contextmanager
def target_of(path: Path) -> Iterator[WriteTarget]:
    """Find where a path leads, following the links that can be trusted.

    Raises:
        NotTrustedError: it leads where somebody else may have wanted it to.
        OSError: it leads nowhere.

    """
    with closing(_PathWalk(os.fspath(path))) as walk:
        yield walk.end()


class _PathWalk:
    """The directory reached, and what is still to be walked."""

    def __init__(self, path: str) -> None:
        self._directory = -1
        self._links = 0
        self._todo: list[str] = []
        self._enter_start(path)

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)

    def end(self) -> WriteTarget:
        """Walk to the last name."""
        while True:
            name, is_last = self._todo.pop(), not self._todo
            found = self._look_at(name)
            if found is not None and stat.S_ISLNK(found.st_mode):
                _check(os.fstat(self._directory), found)
                if not _is_of_proc(found):
                    self._follow(name)
                    continue
                if is_last:
                    behind = os.stat(name, dir_fd=self._directory)
                    return WriteTarget(self._directory, name, behind, magic=True)
                self._enter(name, _DIRECTORY & ~os.O_NOFOLLOW)
            elif is_last:
                if found is not None:
                    _check(os.fstat(self._directory), found)
                return WriteTarget(self._directory, name, found)
            else:
                self._enter(name, _DIRECTORY)

    def _enter_start(self, path: str) -> None:
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if path.startswith("/") or self._directory < 0:
            self._enter("/" if path.startswith("/") else ".", _DIRECTORY)
        # A slash at the end means a directory, as in the kernel.
        names = [name for name in path.split("/") if name]
        if path.endswith("/") or not names:
            names.append(".")
        self._todo += reversed(names)

    def _look_at(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            if self._todo:
                raise
            return None

    def _follow(self, name: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._enter_start(os.readlink(name, dir_fd=self._directory))

    def _enter(self, name: str, flags: int) -> None:
        here = None if self._directory < 0 else self._directory
        entered = os.open(name, flags, dir_fd=here)
        self.close()
        self._directory = entered


def _is_of_proc(link: os.stat_result) -> bool:
    """Tell the links that the kernel makes, which no text describes."""
    with suppress(OSError):
        return link.st_dev == os.stat("/proc/self/fd").st_dev  # noqa: PTH116 - as everywhere here
    return False


def _check(directory: os.stat_result, found: os.stat_result) -> None:
    """Refuse what others may have put there for us to write into, or to be led by."""
    others_write = bool(directory.st_mode & _WRITABLE_BY_OTHERS)
    trusted = {_ROOT_UID, os.geteuid()}
    if (directory.st_uid in trusted and not others_write) or stat.S_ISDIR(found.st_mode):
        return
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "file")
    if found.st_nlink > 1:
        raise NotTrustedError(
            f"the {kind} has another name too, in a directory where others can write"
        )
    if not (others_write or stat.S_ISLNK(found.st_mode)):
        trusted.add(directory.st_uid)  # it holds what its owner made, for themselves
    if found.st_uid not in trusted:
        raise NotTrustedError(
            f"there is a {kind} of {_user(found.st_uid)}, in a directory where others can write"
        )


_KINDS = {
    stat.S_IFLNK: "link", stat.S_IFREG: "file", stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFSOCK: "socket",
}  # fmt: skip


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def open_for_writing(path: Path, *, private: bool = False) -> int:
    """Open what is there for appending, or make a file; return its descriptor.

    Nothing is emptied yet: a run that cannot start should not cost what an earlier one left.
    ``private`` says that nobody else is to read it. An OSError says that it cannot be written; if
    it may be another user's doing, that is a NotTrustedError.
    """
    with target_of(path) as target:
        return open_target(target, private=private)


def open_target(target: WriteTarget, *, private: bool = False) -> int:
    """Open a target: see ``open_for_writing``."""
    if target.found is None:
        made = _WRITING | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        return os.open(target.name, made, 0o600 if private else 0o666, dir_fd=target.directory)
    flags = _WRITING if target.magic else _WRITING | os.O_NOFOLLOW
    if target.is_ordinary:
        flags |= os.O_NONBLOCK  # or a named pipe put there since would hold us up
    descriptor = os.open(target.name, flags, dir_fd=target.directory)
    try:
        opened = os.fstat(descriptor)
        if not target.magic and not os.path.samestat(opened, target.found):
            raise NotTrustedError("somebody replaced it just now")
        if private and target.is_ordinary:
            _make_private(descriptor, opened)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _make_private(descriptor: int, opened: os.stat_result) -> None:
    if opened.st_uid != os.geteuid():
        raise NotTrustedError(f"it belongs to {_user(opened.st_uid)}, who could read it")
    os.fchmod(descriptor, 0o600)
