"""What this process is allowed to do, and where it runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# include/uapi/linux/capability.h
CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 19, 21, 38, 39

# PROC_PID_INIT_INO and PROC_USER_INIT_INO, include/linux/proc_ns.h: the initial ones' inodes.
_INITIAL_PID_NS, _INITIAL_USER_NS = 0xEFFFFFFC, 0xEFFFFFFD


def effective_capabilities() -> int:
    """Return the effective capabilities of this process as a bit mask (capabilities(7))."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return -1 if os.geteuid() == 0 else 0


def has(capability: int) -> bool:
    """Tell whether this process has an effective capability."""
    return bool(effective_capabilities() >> capability & 1)


def may_load_bpf() -> bool:
    """Tell whether the capabilities for tracing programs are there (since Linux 5.8)."""
    return has(CAP_SYS_ADMIN) or (has(CAP_BPF) and has(CAP_PERFMON))


def how_to_gain() -> str:
    """Say how to get the privileges that are lacking."""
    where = "" if in_initial_user_namespace() else " outside of this user namespace"
    return f"run it with sudo{where}"


def in_initial_pid_namespace() -> bool:
    """Tell whether PIDs here are the ones that the kernel's side of a source uses."""
    with suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino == _INITIAL_PID_NS
    return True


def in_initial_user_namespace() -> bool:
    """Tell whether capabilities and user ids here are those that the kernel means."""
    with suppress(OSError):
        return Path("/proc/self/ns/user").stat().st_ino == _INITIAL_USER_NS
    return True


def lockdown_mode() -> str:
    """Return the active mode of kernel_lockdown(7), or "none" where there is none."""
    with suppress(OSError):
        text = Path("/sys/kernel/security/lockdown").read_text("ascii", "replace")
        return text.partition("[")[2].partition("]")[0] or "none"
    return "none"
