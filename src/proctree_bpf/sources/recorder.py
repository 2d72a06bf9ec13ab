"""Writes what a source reads to a file, for ``--source replay:FILE``."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from proctree_bpf.codecs import recording
from proctree_bpf.sources.system import procfs
from proctree_bpf.sources.system.clock import boottime_ns
from proctree_bpf.sources.system.clock import wall_offset_ns as clock_offset_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.codecs.proc_files import Reading, Stat
    from proctree_bpf.codecs.recording import Answers
    from proctree_bpf.core.model import ProcInfo
    from proctree_bpf.streams.proc_reader import ProcReader


class RecordingError(OSError):
    """The recording cannot be written."""


class Out(Protocol):
    """As much of a binary file as a recorder wants."""

    def write(self, data: bytes, /) -> int:
        """Write bytes."""

    def close(self) -> None:
        """Close it."""


class Recorder:
    """Writes frames to a binary file; the source says first who it is.

    Args:
        out: the file; closed by ``finish`` and ``abandon``.
        before: called before the first byte is written.
        wall_offset_ns: what to add to CLOCK_BOOTTIME to get UTC.

    Raises:
        RecordingError: from any method, if the file cannot be written.

    """

    def __init__(
        self,
        out: Out,
        before: Callable[[], object] = lambda: None,
        wall_offset_ns: int | None = None,
    ) -> None:
        self.out = out
        self._before = before
        self._offset_ns = wall_offset_ns if wall_offset_ns is not None else clock_offset_ns()
        self._open = False

    def write(self, data: bytes) -> None:
        """Write a frame, made by ``codecs.recording``."""
        try:
            self.out.write(data)
        except OSError as error:
            raise RecordingError(error.errno, error.strerror) from error

    def begin(self, source: str, **facts: Any) -> None:
        """Write the header: where and when, and what the source needs to be read again."""
        system = os.uname()
        header = {
            "source": source,
            "host": system.nodename,
            "kernel": system.release,
            "machine": system.machine,
            "boot_id": procfs.boot_id(),
            "boottime_ns": boottime_ns(),
            "wall_offset_ns": self._offset_ns,
            **facts,
        }
        self._before()
        self.write(recording.encode_header(header))
        self._open = True

    def finish(self) -> None:
        """Say that the recording is complete, and close the file."""
        if self._open:
            self._open = False
            self.write(recording.encode_end())
            try:
                self.out.close()
            except OSError as error:
                raise RecordingError(error.errno, error.strerror) from error

    def abandon(self) -> None:
        """Close the file as it is: it will not pass for a complete recording."""
        self._open = False
        with suppress(OSError):
            self.out.close()


class RecordingProcReader:
    """A ``ProcReader`` that remembers the answers of another one."""

    def __init__(self, reader: ProcReader) -> None:
        self._reader = reader
        self._answers: list[Stat | Reading | None] = []

    def stat(self, pid: int) -> Stat | None:
        """Ask, and remember the answer."""
        answer = self._reader.stat(pid)
        self._answers.append(answer)
        return answer

    def entry(self, pid: int) -> tuple[Stat, ProcInfo] | None:
        """Ask, and remember the answer."""
        answer = self._reader.entry(pid)
        self._answers.append(answer)
        return answer

    def take(self) -> Answers:
        """Return and forget the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers
