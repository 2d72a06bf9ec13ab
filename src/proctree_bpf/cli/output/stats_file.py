"""The statistics file: always whole, because it is written beside its place and renamed."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from proctree_bpf.cli.errors import output_failed
from proctree_bpf.cli.output.channel import Channel
from proctree_bpf.cli.output.safe_open import WriteTarget, open_target, target_of
from proctree_bpf.cli.output.standard import start_over, unwritable
from proctree_bpf.cli.output.writers import FrameWriter

if TYPE_CHECKING:
    from pathlib import Path

    from proctree_bpf.cli.output.writers import EndRequest

_NAME_KEPT = 200  # of the 255 bytes that a name may have, after encoding a few more


class StatsFile:
    """Where statistics go at the end.

    Tried before anything else: a name that cannot be written should not cost a trace.
    """

    def __init__(self, path: Path, option: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        try:
            with target_of(path) as target:
                if target.found is not None:
                    self._descriptor = open_target(target)
                else:
                    name, descriptor = _make_beside(target)
                    os.close(descriptor)
                    os.unlink(name, dir_fd=target.directory)
                self._is_ordinary = target.is_ordinary
        except OSError as error:
            raise unwritable(path, error, option) from error

    def write(self, summary: dict[str, Any], ending: EndRequest) -> None:
        """Write statistics, and close the file; WritingAbandoned says that nobody reads it."""
        data = (json.dumps(summary, indent=2) + "\n").encode()
        try:
            if not (self._is_ordinary and self._replace(data)):
                self._write_in_place(data, ending)
        except OSError as error:
            raise output_failed(error, self._path) from error
        finally:
            self.close()

    def close(self) -> None:
        """Leave what is there as it is."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _replace(self, data: bytes) -> bool:
        """Put a new file in the place of what is there; tell whether that is possible there."""
        with target_of(self._path) as target:
            try:
                name, descriptor = _make_beside(target)
            except OSError:
                if self._descriptor is None:
                    raise
                return False
            try:
                _fill(descriptor, data, target.found)
                os.rename(
                    name, target.name, src_dir_fd=target.directory, dst_dir_fd=target.directory
                )
            except BaseException as error:
                with suppress(OSError):
                    os.unlink(name, dir_fd=target.directory)
                if self._descriptor is not None and _is_mount(error):
                    return False  # a file that is a mount of its own cannot be replaced
                raise
        return True

    def _write_in_place(self, data: bytes, ending: EndRequest) -> None:
        if self._descriptor is None:
            raise FileNotFoundError
        descriptor = os.dup(self._descriptor)
        start_over(descriptor)
        with closing(FrameWriter(Channel(descriptor, shared=False), self._path)) as writer:
            writer.end_with(ending)
            writer.write(data)


def _is_mount(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in {errno.EBUSY, errno.EXDEV}


def _make_beside(target: WriteTarget) -> tuple[str, int]:
    name = f".{target.name[:_NAME_KEPT]}.{os.urandom(6).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return name, os.open(name, flags, 0o666, dir_fd=target.directory)


def _fill(descriptor: int, data: bytes, earlier: os.stat_result | None) -> None:
    """Write a new file, which gets owner and mode of the one that it will retarget."""
    with os.fdopen(descriptor, "wb", 0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        if earlier is not None:
            with suppress(OSError):
                os.fchown(descriptor, earlier.st_uid, earlier.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(earlier.st_mode) & 0o777)
