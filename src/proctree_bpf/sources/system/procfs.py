"""Reads ``/proc``: one process, or a snapshot of them all.

A process directory is opened once and its files are read relative to it: the kernel
ties the directory to one process, so a PID that is reused in between makes the reads
fail instead of mixing two processes.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from pwd import getpwnam, getpwuid
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import TTLCache, cached

from proctree_bpf.codecs.proc_files import Stat, parse_stat, parse_status
from proctree_bpf.core.identity import TICK_NS, ProcessKey
from proctree_bpf.core.model import PidNode, ProcInfo
from proctree_bpf.errors import DecodeError
from proctree_bpf.sources.system.clock import boottime_ns, shift
from proctree_bpf.sources.system.privilege import own_pid_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proctree_bpf.codecs.proc_files import Reading
    from proctree_bpf.core.model import Entry

PROC = "/proc"
# The size limit of the kernel's argument block is larger, but nobody reads so far; what
# is longer is marked truncated.
MAX_ARGS_BYTES = 32_768
_MAX_PID = 2**32 - 1
# More than 52 numbers and a name can take (proc_pid_stat(5)); one read gets it all.
_STAT_BYTES = 4096
# Of a process that calls exec, or takes a new name, each time while it is read.
_MOST_READINGS = 3
_DELETED = " (deleted)"
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)

_NAMES_KEPT_S = 60


@cached(TTLCache(maxsize=4096, ttl=_NAMES_KEPT_S), lock=Lock())
def uid_to_username(uid: int) -> str | None:
    """Return the name of a user id from the user database, or None if it has none.

    An answer is kept for a minute, so that a user who is added meanwhile gets a name.
    """
    try:
        return getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


def user_of(uid: int) -> str:
    """Return the name of a user id, or its decimal form if it has none."""
    return uid_to_username(uid) or str(uid)


def uid_of_user(name: str) -> int | None:
    """Return the user id of a name from the user database, or None if it has none."""
    try:
        return getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def boot_id() -> str:
    """Return this boot's id (random(4)), or an empty string where it cannot be read.

    PIDs of a container are not the host's, nor another container's: there it is an id of this
    boot and this PID namespace.
    """
    with suppress(OSError):
        of_boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = own_pid_namespace()
        return of_boot if namespace is None else _mixed(f"{of_boot} {namespace}")
    return ""


def _mixed(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _read(name: str, directory: int, limit: int = 65_536) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        chunks = []
        while limit > 0:
            chunk = os.read(fd, limit)
            if not chunk:
                break
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def _executable(directory: int) -> str | None:
    """Return the path of the running file; None for a kernel thread or without permission."""
    try:
        path = os.readlink("exe", dir_fd=directory)
        if path.endswith(_DELETED) and not os.stat("exe", dir_fd=directory).st_nlink:
            path = path.removesuffix(_DELETED)
    except OSError:
        return None
    return path


def _stat_of(raw: bytes) -> Stat:
    """Parse a stat file; the start is told as outside of our time namespace."""
    stat = parse_stat(raw)
    ticks = shift().boottime_ns // TICK_NS
    return stat._replace(start_ticks=max(stat.start_ticks - ticks, 0)) if ticks else stat


def _entry(directory: int) -> Reading:
    """Read one process, all of it between the same two execs and new names if possible."""
    for _ in range(_MOST_READINGS):
        stat, info = _entry_once(directory)
        if not _has_changed(directory, stat):
            return stat, info
    return stat, replace(info, executable=None, args_raw=None, truncated=False)


def _has_changed(directory: int, stat: Stat) -> bool:
    """Tell whether a process, if it is still there, has another name or program than it had."""
    try:
        now = parse_stat(_read("stat", directory))
    except (OSError, DecodeError):
        return False
    return (now.comm, now.start_stack) != (stat.comm, stat.start_stack)


def _entry_once(directory: int) -> Reading:
    stat = _stat_of(_read("stat", directory))
    status = parse_status(_read("status", directory))
    if status.tgid != stat.pid:
        raise DecodeError("a thread, not a process")
    args_raw: bytes | None = None
    with suppress(OSError):
        # Empty for a kernel thread, and for a process that is just ending.
        args_raw = _read("cmdline", directory, MAX_ARGS_BYTES + 1) or None
    truncated = args_raw is not None and len(args_raw) > MAX_ARGS_BYTES
    info = ProcInfo(
        cmd=stat.comm,
        user=user_of(status.uid),
        ppid=stat.ppid,
        tgid=stat.pid,
        start_time_ns=stat.start_ns,
        uid=status.uid,
        gid=status.gid,
        executable=_executable(directory),
        args_raw=args_raw[:MAX_ARGS_BYTES] if args_raw is not None else None,
        inherited=stat.never_execed,
        truncated=truncated,
        ns_pid=status.ns_pid,
    )
    return stat, info


def read_process(pid: int, proc: str = PROC) -> Reading | None:
    """Read one process from one opening of its directory; None if it is gone or hidden.

    OSError only if too many files are open.
    """
    if not 0 < pid <= _MAX_PID:
        return None
    try:
        directory = os.open(f"{proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _entry(directory)
        finally:
            os.close(directory)
    except (OSError, DecodeError) as error:
        if getattr(error, "errno", 0) in _NO_DESCRIPTOR:
            raise
        return None


def parse_proc_entry(pid: int, proc: str = PROC) -> Entry | None:
    """Read one process from ``/proc``; None if it is gone, hidden, or no process.

    The creator is taken to be the present parent, whose start time is looked up.
    """
    read = read_process(pid, proc)
    if read is None:
        return None
    return _entry_of(read, read_proc_start_time_ns(read[0].ppid, proc), boottime_ns())


def _entry_of(read: Reading, parent_start_ns: int, now_ns: int) -> Entry:
    stat, info = read
    if parent_start_ns > info.start_time_ns:
        parent_start_ns = 0  # its PID was reused while we were reading
    exited_ns = now_ns if stat.ended else None
    if exited_ns is not None:
        info = replace(info, exited_ns=exited_ns)
    node = PidNode(
        ppid=stat.ppid,
        cmd=stat.comm,
        start_time_ns=stat.start_ns,
        pid=stat.pid,
        creator_start_ns=parent_start_ns,
        exited_ns=exited_ns,
    )
    return node, info


def list_pids(proc: str = PROC) -> list[int]:
    """Return the PIDs that ``/proc`` shows, ascending; OSError if it cannot be listed."""
    with os.scandir(proc) as entries:
        pids = sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
    if not pids and proc == PROC:
        raise FileNotFoundError(errno.ENOENT, "it shows no process, not even this one", proc)
    return pids


def iter_stats(proc: str = PROC) -> Iterator[Stat]:
    """Yield the stat file of each of ``list_pids`` that is still there."""
    yield from filter(None, (read_stat(pid, proc) for pid in list_pids(proc)))


def iter_snapshot(proc: str = PROC) -> Iterator[Reading]:
    """Yield each of ``list_pids`` that is still there."""
    yield from filter(None, (read_process(pid, proc) for pid in list_pids(proc)))


def link_entries(read: list[Reading], now_ns: int) -> list[Entry]:
    """Give each process of a snapshot the identity of its parent.

    One that is dead and only waited for counts as ended at ``now_ns``: nothing would
    ever tell of its end.
    """
    starts = {stat.pid: stat.start_ns for stat, _ in read}
    return [_entry_of(each, starts.get(each[0].ppid, 0), now_ns) for each in read]


def read_snapshot(proc: str = PROC) -> list[Entry]:
    """Read every process that ``/proc`` shows; OSError if it cannot be listed."""
    return link_entries(list(iter_snapshot(proc)), boottime_ns())


def read_proc_comm(pid: int, proc: str = PROC) -> str | None:
    """Return the name (comm) of a process, or None if there is no such process."""
    stat = read_stat(pid, proc)
    return stat.comm if stat is not None else None


def read_proc_start_time_ns(pid: int, proc: str = PROC) -> int:
    """Return a process's start on CLOCK_BOOTTIME in ns, floored to 10 ms; 0 if unknown."""
    stat = read_stat(pid, proc)
    return stat.start_ns if stat is not None else 0


def read_key(pid: int, proc: str = PROC) -> ProcessKey:
    """Return the identity of a process; its start time is 0 if there is no such process."""
    return ProcessKey(pid, read_proc_start_time_ns(pid, proc))


def read_stat(pid: int, proc: str = PROC) -> Stat | None:
    """Read the stat file of a process; None if it is gone, hidden, or not a process.

    OSError only if too many files are open.
    """
    if not 0 < pid <= _MAX_PID:
        return None
    try:
        fd = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _stat_of(os.read(fd, _STAT_BYTES))
        finally:
            os.close(fd)
    except (OSError, DecodeError) as error:
        if getattr(error, "errno", 0) in _NO_DESCRIPTOR:
            raise
        return None


class LiveProcReader:
    """Reads ``/proc``, now; each reading is about one process only."""

    def __init__(self, proc: str = PROC) -> None:
        self._proc = proc

    def stat(self, pid: int) -> Stat | None:
        """Read one process's stat file."""
        return read_stat(pid, self._proc)

    def entry(self, pid: int) -> Reading | None:
        """Read all that is known of one process."""
        return read_process(pid, self._proc)
