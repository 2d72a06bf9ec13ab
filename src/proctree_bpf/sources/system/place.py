"""Where this process runs: the mounts and namespaces in which a source would be wrong.

Each is found out by a fact that the kernel tells, not by a name or by what works.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from proctree_bpf.sources.base import MOUNT_PROC
from proctree_bpf.sources.system import clock, privilege, procfs
from proctree_bpf.sources.system.causes import Cause, shortage

# include/uapi/linux/magic.h
_PROC_SUPER_MAGIC, _SYSFS_MAGIC = 0x9FA0, 0x62656572
_STATFS_BYTES = 512  # more than struct statfs has
_PTRACEABLE = ("ptraceable", "4")
_WHOLE_RANGE = 2**32 - 1

_libc = ctypes.CDLL(None, use_errno=True)


class Mount(NamedTuple):
    """A line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

    root: str
    point: str
    kind: str
    options: tuple[str, ...]


def mounts() -> list[Mount]:
    """Return what is mounted here, in the order of mounting; empty where it is not told."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
            before, _, after = line.partition(b" - ")
            fields, kind = before.split(b" "), after.split(b" ")
            root, point = (_unescaped(each) for each in fields[3:5])
            options = tuple(_unescaped(kind[2]).split(","))
            found.append(Mount(root, point, kind[0].decode(), options))
    return found


def _unescaped(raw: bytes) -> str:
    for char in b" \t\n\\":
        raw = raw.replace(b"\\%03o" % char, bytes([char]))
    return os.fsdecode(raw)


def _is_of_kind(path: str, magic: int) -> bool:
    """Tell whether a path is on a kind of file system, by statfs(2)."""
    data = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(path), data) != 0:
        return False
    return ctypes.c_long.from_buffer(data).value == magic


def proc_is_there() -> bool:
    """Tell whether what is at ``/proc`` is the kernel's."""
    return _is_of_kind(procfs.PROC, _PROC_SUPER_MAGIC)


def proc_trouble() -> Cause | None:
    """Return why ``/proc`` says nothing, or not the truth, about the processes here."""
    if not proc_is_there():
        return Cause("/proc is not mounted", MOUNT_PROC)
    status = ""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError as error:
        short = shortage(error)
        if short is not None:
            return short
    if _own_pids(status) != [os.getpid()]:
        return Cause(
            "/proc shows the processes of another PID namespace",
            "mount this one's with 'mount -t proc proc /proc'",
        )
    trouble = clock.shift().trouble
    if trouble is not None:
        return Cause(trouble, "run it outside, with 'nsenter --time --target 1'")
    return None


def _own_pids(status: str) -> list[int]:
    """Return our PIDs, from the PID namespace of ``/proc`` down to the innermost."""
    with suppress(ValueError):
        for line in status.splitlines():
            if line.startswith("NSpid:"):
                return [int(pid) for pid in line.split()[1:]]
    return []


def require(trouble: Cause | None) -> None:
    """Raise SourceUnavailableError if there is trouble."""
    if trouble is not None:
        raise trouble.refusal()


def _proc_options() -> tuple[str, ...]:
    there = [mount for mount in mounts() if mount.point == procfs.PROC]
    return there[-1].options if there else ()


def hiding() -> Cause | None:
    """Return how ``/proc`` hides the processes of others from us, if it does.

    Whoever is not shown would pass for ended when the tree is mended.
    """
    options = dict(option.partition("=")[::2] for option in _proc_options())
    level = options.get("hidepid", "off")
    if level in ("off", "0"):
        return None
    is_initial = privilege.in_initial_user_namespace()
    if privilege.has(privilege.CAP_SYS_PTRACE) and is_initial:
        return None
    # proc(5): members of a group see all, but at the highest level; root's unless told.
    group = options.get("gid", "0" if is_initial else "")
    groups = map(str, (os.getegid(), *os.getgroups()))
    if level not in _PTRACEABLE and group in groups:
        return None
    return Cause(
        f"/proc hides the processes of others (hidepid={level})",
        "run it as root or with CAP_SYS_PTRACE, or remount /proc with hidepid=0",
    )


def boot_id_trouble() -> Cause | None:
    """Return why processes have no ``entity_id`` here, if so."""
    if procfs.boot_id():
        return None
    how = " (subset=pid)" if "subset=pid" in _proc_options() else ""
    return Cause(
        f"/proc does not show this boot's id{how}, so no process has an entity_id",
        "mount it whole with 'mount -t proc proc /proc'",
    )


def unmapped_users() -> Cause | None:
    """Return that ``/proc`` shows some users as others, because this user namespace lacks them."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/uid_map").read_text("ascii").splitlines()
        if sum(int(line.split()[2]) for line in lines) >= _WHOLE_RANGE:
            return None
    return Cause(
        "users that this user namespace does not have (shown as the overflow user)",
        "run it outside, on the host",
    )


def sys_trouble(path: Path) -> Cause | None:
    """Return why a file of ``/sys`` may not be this kernel's, if so."""
    if _is_of_kind(str(path), _SYSFS_MAGIC):
        return None
    return Cause(
        f"{path} is not the kernel's own, but from another file system",
        "mount it with 'mount -t sysfs sysfs /sys'",
    )


def network_is_the_hosts() -> bool | None:
    """Tell whether this is the first process's network namespace; None if that is not told."""
    try:
        return Path("/proc/self/ns/net").stat().st_ino == Path("/proc/1/ns/net").stat().st_ino
    except OSError:
        return None
