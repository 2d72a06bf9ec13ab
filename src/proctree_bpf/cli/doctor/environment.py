"""What ``doctor`` says of the mounts and namespaces in which it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.cli.doctor.finding import Finding, failed, passed, warned
from proctree_bpf.sources.bpf import BTF_PATH
from proctree_bpf.sources.system import cgroups, clock, place, privilege, procfs

if TYPE_CHECKING:
    from collections.abc import Callable


def _check_pid_namespace() -> Finding:
    if privilege.in_initial_pid_namespace():
        return passed("the initial one")
    return warned(
        "that of a container: only the proc-walker works here",
        "run on the host, or start the container with --pid=host",
    )


def _check_user_namespace() -> Finding:
    if privilege.in_initial_user_namespace():
        return passed("the initial one")
    return warned(
        "not the initial one: its root may not use BPF, only the proc-walker works here",
        "run it on the host, as root",
    )


def _check_time_namespace() -> Finding:
    shift = clock.shift()
    if shift.trouble is not None:
        return failed(shift.trouble, "nsenter --time --target 1")
    if not shift.boottime_ns and not shift.monotonic_ns:
        return passed("the clocks are the kernel's")
    seconds = shift.boottime_ns / 1_000_000_000
    return passed(f"its clock is {seconds:g} s ahead, which is subtracted")


def _check_network_namespace() -> Finding:
    is_hosts = place.network_is_the_hosts()
    if is_hosts is None:
        return passed("unknown; only the proc connector depends on it")
    if is_hosts or not privilege.in_initial_pid_namespace():
        return passed("that of PID 1")
    return warned(
        "not that of PID 1: the proc connector does not work here", "nsenter --net --target 1"
    )


def _check_cgroups() -> Finding:
    there = cgroups.hierarchy()
    if there is None:
        return passed("version 2 is not mounted, which only --cgroup needs")
    if there.is_foreign:
        return warned(
            f"{there.mount} shows another cgroup namespace", "mount -t cgroup2 cgroup2 DIRECTORY"
        )
    return passed(f"version 2 at {there.mount}, from {there.top} down")


def _check_proc() -> Finding:
    try:
        pids = procfs.list_pids()
    except OSError as error:
        return failed(str(error.strerror), "mount -t proc proc /proc")
    trouble = place.proc_trouble()
    if trouble is not None:
        return failed(*trouble)
    lack = place.hiding() or place.boot_id_trouble()
    return warned(*lack) if lack else passed(f"shows {len(pids)} processes")


def _check_users() -> Finding:
    trouble = place.unmapped_users()
    return warned(*trouble) if trouble else passed("all have an id here")


def _check_sys() -> Finding:
    trouble = place.sys_trouble(BTF_PATH)
    return warned(*trouble) if trouble else passed("the kernel's own")


ENVIRONMENT_CHECKS: dict[str, Callable[[], Finding]] = {
    "PID namespace": _check_pid_namespace,
    "user namespace": _check_user_namespace,
    "time namespace": _check_time_namespace,
    "network namespace": _check_network_namespace,
    "cgroups": _check_cgroups,
    "users": _check_users,
    "/proc": _check_proc,
    "/sys": _check_sys,
}
"""The checks, each of one mount or namespace."""
