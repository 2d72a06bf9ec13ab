"""What ``doctor`` says of the mounts and namespaces in which it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.cli.doctor.finding import Finding, Verdict, passed
from proctree_bpf.sources.bpf import BTF_PATH
from proctree_bpf.sources.system import cgroups, clock, place, privilege, procfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from proctree_bpf.sources.system.causes import Cause


def _warning(check: str, trouble: Cause) -> Finding:
    return Finding(check, Verdict.WARN, trouble.reason, trouble.remedy)


def _check_pid_namespace() -> Finding:
    if privilege.in_initial_pid_namespace():
        return passed("PID namespace", "the initial one")
    return Finding(
        "PID namespace", Verdict.WARN, "that of a container: only the proc-walker works here",
        "run on the host, or start the container with --pid=host",
    )  # fmt: skip


def _check_user_namespace() -> Finding:
    if privilege.in_initial_user_namespace():
        return passed("user namespace", "the initial one")
    return Finding(
        "user namespace", Verdict.WARN,
        "not the initial one: its root may not use BPF, only the proc-walker works here",
        "run it on the host, as root",
    )  # fmt: skip


def _check_time_namespace() -> Finding:
    shift = clock.shift()
    if shift.trouble is not None:
        return Finding(
            "time namespace", Verdict.FAIL, shift.trouble, "nsenter --time --target 1"
        )  # fmt: skip
    if not shift.boottime_ns and not shift.monotonic_ns:
        return passed("time namespace", "the clocks are the kernel's")
    seconds = shift.boottime_ns / 1_000_000_000
    return passed("time namespace", f"its clock is {seconds:g} s ahead, which is subtracted")


def _check_network_namespace() -> Finding:
    is_hosts = place.network_is_the_hosts()
    if is_hosts is None:
        return passed("network namespace", "unknown; only the proc connector depends on it")
    if is_hosts or not privilege.in_initial_pid_namespace():
        return passed("network namespace", "that of PID 1")
    return Finding(
        "network namespace", Verdict.WARN,
        "not that of PID 1: the proc connector does not work here", "nsenter --net --target 1",
    )  # fmt: skip


def _check_cgroups() -> Finding:
    there = cgroups.hierarchy()
    if there is None:
        return passed("cgroups", "version 2 is not mounted, which only --cgroup needs")
    if there.is_foreign:
        return Finding(
            "cgroups", Verdict.WARN, f"{there.mount} shows another cgroup namespace",
            "mount -t cgroup2 cgroup2 DIRECTORY",
        )  # fmt: skip
    return passed("cgroups", f"version 2 at {there.mount}, from {there.top} down")


def _check_proc() -> Finding:
    try:
        pids = procfs.list_pids()
    except OSError as error:
        return Finding("/proc", Verdict.FAIL, str(error.strerror), "mount -t proc proc /proc")
    trouble = place.proc_trouble()
    if trouble is not None:
        return Finding("/proc", Verdict.FAIL, *trouble)
    for lack in (place.hiding(), place.boot_id_trouble()):
        if lack is not None:
            return _warning("/proc", lack)
    return passed("/proc", f"shows {len(pids)} processes")


def _check_users() -> Finding:
    trouble = place.unmapped_users()
    return _warning("users", trouble) if trouble else passed("users", "all have an id here")


def _check_sys() -> Finding:
    trouble = place.sys_trouble(BTF_PATH)
    return _warning("/sys", trouble) if trouble else passed("/sys", "the kernel's own")


ENVIRONMENT_CHECKS: tuple[Callable[[], Finding], ...] = (
    _check_pid_namespace,
    _check_user_namespace,
    _check_time_namespace,
    _check_network_namespace,
    _check_cgroups,
    _check_users,
    _check_proc,
    _check_sys,
)
"""The checks, each of one mount or namespace."""
