"""Which struct members the BPF program needs, and the -D macros that tell it where they are.

Fields are probed, never kernel versions. Where a kernel spells a member differently,
the alternatives stand here, newest first, with the commit that changed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proctree_bpf.codecs.sample_decoder import MAX_COPIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proctree_bpf.codecs.btf import Btf

# macro suffix -> (struct, member path) alternatives
_MEMBERS: dict[str, tuple[tuple[str, str], ...]] = {
    "TASK_PID": (("task_struct", "pid"),),
    "TASK_TGID": (("task_struct", "tgid"),),
    # Renamed from real_start_time by cf25e24db61c (Linux 5.5).
    "TASK_START": (("task_struct", "start_boottime"), ("task_struct", "real_start_time")),
    "TASK_REAL_PARENT": (("task_struct", "real_parent"),),
    "TASK_LEADER": (("task_struct", "group_leader"),),
    "TASK_SIGNAL": (("task_struct", "signal"),),
    "TASK_MM": (("task_struct", "mm"),),
    "TASK_COMM": (("task_struct", "comm"),),
    "TASK_EXIT_CODE": (("task_struct", "exit_code"),),
    "TASK_REAL_CRED": (("task_struct", "real_cred"),),
    "TASK_THREAD_PID": (("task_struct", "thread_pid"),),
    "TASK_CGROUPS": (("task_struct", "cgroups"),),
    "CSS_SET_DFL_CGRP": (("css_set", "dfl_cgrp"),),
    "CGROUP_KN": (("cgroup", "kn"),),
    "KERNFS_ID": (("kernfs_node", "id"),),
    "SIGNAL_LIVE": (("signal_struct", "live"),),
    "SIGNAL_FLAGS": (("signal_struct", "flags"),),
    "SIGNAL_GROUP_EXIT_CODE": (("signal_struct", "group_exit_code"),),
    "SIGNAL_RUNTIME": (("signal_struct", "sum_sched_runtime"),),
    "TASK_RUNTIME": (("task_struct", "se.sum_exec_runtime"),),
    "MM_ARG_START": (("mm_struct", "arg_start"),),
    "MM_ARG_END": (("mm_struct", "arg_end"),),
    "MM_EXE_FILE": (("mm_struct", "exe_file"),),
    "CRED_UID": (("cred", "uid"),),
    "CRED_GID": (("cred", "gid"),),
    "BPRM_FILENAME": (("linux_binprm", "filename"),),
    "FILE_PATH": (("file", "f_path"),),
    "PATH_MNT": (("path", "mnt"),),
    "PATH_DENTRY": (("path", "dentry"),),
    "DENTRY_PARENT": (("dentry", "d_parent"),),
    "DENTRY_NAME": (("dentry", "d_name.name"),),
    "VFSMOUNT_ROOT": (("vfsmount", "mnt_root"),),
    "MOUNT_MNT": (("mount", "mnt"),),
    "MOUNT_PARENT": (("mount", "mnt_parent"),),
    "MOUNT_MOUNTPOINT": (("mount", "mnt_mountpoint"),),
    "PID_LEVEL": (("pid", "level"),),
    "PID_NUMBERS": (("pid", "numbers"),),
    "UPID_NR": (("upid", "nr"),),
}

# For bpf/reaper.h, all or none: who adopts orphans is not told where one is missing.
_REAPER_MEMBERS = {
    "TASK_CHILDREN": ("task_struct", "children"),
    "SIGNAL_NR_THREADS": ("signal_struct", "nr_threads"),
    "UPID_NS": ("upid", "ns"),
    "PID_NAMESPACE_CHILD_REAPER": ("pid_namespace", "child_reaper"),
}
# Bit-fields; on Linux 7.2 each is a bool.
_REAPER_FLAGS = {
    "HAS_SUBREAPER": ("signal_struct", "has_child_subreaper"),
    "IS_SUBREAPER": ("signal_struct", "is_child_subreaper"),
}

# The probe's own void *, the task, and group_dead where the kernel passes it (6.18 does).
_EXIT_ARITY_WITH_GROUP_DEAD = 3

# Where this is, tracepoints are preemptible (Linux 7.0, a46023d5616e): see bpf/sending.bpf.c.
_PREEMPTIBLE_WITH = "tracepoint_srcu_srcu_data"


TRACEPOINTS = {
    "sched_process_fork": "on_fork",
    "sched_process_exec": "on_exec",
    "sched_process_exit": "on_exit",
    "task_rename": "on_rename",
}
"""The tracepoints, and the program in bpf/proctree.bpf.c that is attached to each."""

# By the types of their arguments, programs read with plain loads: see bpf/reading.h.
_FARTHEST = 0x7FFF  # what a load can add to an address


class MissingFieldError(LookupError):
    """The kernel's BTF lacks a member that the program cannot do without."""


def layout_macros(btf: Btf) -> dict[str, int]:
    """Return the macros that describe this kernel to the BPF program.

    MissingFieldError, which names it, if a struct member is not there.
    """
    macros = {}
    for name, alternatives in _MEMBERS.items():
        member = btf.first_member(alternatives)
        if member is None:
            raise MissingFieldError(".".join(alternatives[0]))
        macros[f"OFF_{name}"] = member.offset
    upid_size = btf.struct_size("upid")
    if upid_size is None:
        raise MissingFieldError("upid")
    macros["UPID_SIZE"] = upid_size
    if btf.prototype_arity("btf_trace_sched_process_exit") == _EXIT_ARITY_WITH_GROUP_DEAD:
        macros["HAVE_GROUP_DEAD"] = 1
    if btf.has_variable(_PREEMPTIBLE_WITH):
        macros["COPIES"] = MAX_COPIES
    macros |= _reaper(btf)
    macros |= _types(btf, macros)
    return macros | _flag(btf, "IN_EXECVE", ("task_struct", "in_execve"))


def _flag(btf: Btf, name: str, member: tuple[str, str]) -> dict[str, int]:
    """Return the byte that a flag is in, and its mask; nothing if there is none.

    A flag is a bit-field of one bit, or a bool of its own.
    """
    found = btf.member(*member)
    if found is None or found.bit_size > 1:
        return {}
    mask = 1 << found.bit_offset % 8 if found.bit_size else 0xFF
    return {f"{name}_OFF": found.offset, f"{name}_MASK": mask}


def _reaper(btf: Btf) -> dict[str, int]:
    """Return what is needed to tell who adopts orphans; nothing if any of it is missing."""
    macros = {"HAVE_REAPER": 1}
    for name, member in _REAPER_MEMBERS.items():
        found = btf.member(*member)
        if found is None:
            return {}
        macros[f"OFF_{name}"] = found.offset
    for name, member in _REAPER_FLAGS.items():
        flag = _flag(btf, name, member)
        if not flag:
            return {}
        macros |= flag
    return macros


def _types(btf: Btf, macros: Mapping[str, int]) -> dict[str, int]:
    """Return the tracepoints' types, and DIRECT, if this BTF allows programs to use them."""
    found = {}
    for tracepoint in TRACEPOINTS:
        type_id = btf.typedef_id(f"btf_trace_{tracepoint}")
        if type_id is None:
            return {}
        found[f"TYPE_OF_{tracepoint}"] = type_id
    return found | {"DIRECT": 1} if max(macros.values()) <= _FARTHEST else {}
