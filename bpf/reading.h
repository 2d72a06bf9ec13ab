/* SPDX-License-Identifier: MIT */
/* How to read what is needed of a task; no maps. Offsets (OFF_*) come from the loader. */
#ifndef READING_H
#define READING_H

#include "proctree.h"

#define INLINE static inline __attribute__((always_inline))

INLINE u64 read_u64(u64 base, u64 offset)
{
	u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

INLINE u32 read_u32(u64 base, u64 offset)
{
	u32 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

INLINE void read_comm(char *comm, u64 task)
{
	bpf_probe_read_kernel(comm, PT_COMM_LEN, (void *)(task + OFF_TASK_COMM));
}

INLINE int is_leader(u64 task)
{
	return read_u32(task, OFF_TASK_PID) == read_u32(task, OFF_TASK_TGID);
}

/* The identity of the process that a task belongs to. */
INLINE u64 start_of(u64 task)
{
	return read_u64(read_u64(task, OFF_TASK_LEADER), OFF_TASK_START);
}

INLINE u64 cgroup_of(u64 task)
{
	u64 css_set = read_u64(task, OFF_TASK_CGROUPS);
	u64 cgroup = read_u64(css_set, OFF_CSS_SET_DFL_CGRP);
	return read_u64(read_u64(cgroup, OFF_CGROUP_KN), OFF_KERNFS_ID);
}

INLINE u32 pid_in_own_namespace(u64 task)
{
	u64 pid = read_u64(task, OFF_TASK_THREAD_PID);
	u64 level = read_u32(pid, OFF_PID_LEVEL) & 0x3f; /* MAX_PID_NS_LEVEL is 32 */
	return read_u32(pid, OFF_PID_NUMBERS + level * UPID_SIZE + OFF_UPID_NR);
}

#endif
