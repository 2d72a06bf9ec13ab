/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How to read what is needed of a task; no maps. Offsets (OFF_*) come from the loader. */
#ifndef READING_H
#define READING_H

#include "proctree.h"

#define INLINE static inline __attribute__((always_inline))

/*
 * With DIRECT the programs are of the kind whose arguments the kernel's verifier knows by
 * their types (BPF_TRACE_RAW_TP): what lies behind an argument, or behind a pointer that was read
 * there, is read by plain loads, a tenth as dear as a helper. They read 0 where there is
 * no memory. Such a pointer may be moved by constants only, must come from one place for each load, and
 * where it may be null, that must be asked first. What has no type for the verifier is read by
 * peek_*. Without DIRECT all is read by the helper, which knows no types.
 */
INLINE u64 peek_u64(u64 base, u64 offset)
{
	u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

INLINE u32 peek_u32(u64 base, u64 offset)
{
	u32 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

#ifdef DIRECT

/* In assembler, so that clang does not merge loads across members, which the verifier refuses,
 * and BCC does not put the helper in their place. */
#define LOAD(value, size, base, offset)                 \
	asm volatile("%0 = *(" #size " *)(%1 + %2)"       \
		     : "=r"(value)                         \
		     : "r"(base), "i"(offset))

INLINE u64 read_u64(u64 base, u64 offset)
{
	u64 value;
	LOAD(value, u64, base, offset);
	return value;
}

INLINE u32 read_u32(u64 base, u64 offset)
{
	u64 value;
	LOAD(value, u32, base, offset);
	return value;
}

INLINE u8 read_u8(u64 base, u64 offset)
{
	u64 value;
	LOAD(value, u8, base, offset);
	return value;
}

INLINE u64 read_u32_pair(u64 base, u64 first, u64 second)
{
	return read_u32(base, first) | (u64)read_u32(base, second) << 32;
}

#else

#define read_u64 peek_u64
#define read_u32 peek_u32

INLINE u8 read_u8(u64 base, u64 offset)
{
	u8 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
	return value;
}

/* Two numbers in one, the first in the low half, as the kernel's helpers give them. A call of
 * a helper costs more than what it reads: members that the kernel declares one after the
 * other are read at once, unless RANDSTRUCT has put them elsewhere. */
INLINE u64 read_u32_pair(u64 base, u64 first, u64 second)
{
	u32 pair[2] = {};
	if (second == first + sizeof(u32)) {
		bpf_probe_read_kernel(pair, sizeof(pair), (void *)(base + first));
	} else {
		pair[0] = read_u32(base, first);
		pair[1] = read_u32(base, second);
	}
	return pair[0] | (u64)pair[1] << 32;
}

#endif

#ifdef DIRECT

INLINE void read_comm(char *comm, u64 task)
{
	u64 *halves = (u64 *)comm;
	halves[0] = read_u64(task, OFF_TASK_COMM);
	halves[1] = read_u64(task, OFF_TASK_COMM + sizeof(u64));
}

#else

INLINE void read_comm(char *comm, u64 task)
{
	bpf_probe_read_kernel(comm, PT_COMM_LEN, (void *)(task + OFF_TASK_COMM));
}

#endif

struct ids {
	u32 pid;
	u32 tgid;
};

INLINE struct ids ids_from(u64 both)
{
	struct ids ids = {.pid = both, .tgid = both >> 32};
	return ids;
}

INLINE struct ids ids_of(u64 task)
{
	return ids_from(read_u32_pair(task, OFF_TASK_PID, OFF_TASK_TGID));
}

/* Of the task that runs now, a helper tells at once what else takes several. */
INLINE struct ids ids_of_current(u64 task)
{
#ifdef DIRECT
	return ids_of(task);
#else
	return ids_from(bpf_get_current_pid_tgid());
#endif
}

INLINE u64 leader_of(u64 task, struct ids ids)
{
#ifdef DIRECT
	return read_u64(task, OFF_TASK_LEADER); /* from one place, and no dearer than to ask */
#else
	return ids.pid == ids.tgid ? task : read_u64(task, OFF_TASK_LEADER);
#endif
}

/* The identity of the process that a task belongs to. */
INLINE struct pt_key key_with(u64 task, struct ids ids)
{
	struct pt_key key = {
		.start_ns = read_u64(leader_of(task, ids), OFF_TASK_START), .tgid = ids.tgid
	};
	return key;
}

INLINE struct pt_key key_of(u64 task)
{
	return key_with(task, ids_of(task));
}

struct user {
	u32 uid;
	u32 gid;
};

INLINE struct user user_from(u64 both)
{
	struct user user = {.uid = both, .gid = both >> 32};
	return user;
}

INLINE struct user user_of(u64 task)
{
	u64 cred = read_u64(task, OFF_TASK_REAL_CRED);
	if (!cred)
		return user_from(-1); /* nobody */
	return user_from(read_u32_pair(cred, OFF_CRED_UID, OFF_CRED_GID));
}

/* Of the task that runs now, or one to which it has just given the same. */
INLINE struct user user_of_current(u64 task)
{
#ifdef DIRECT
	return user_of(task);
#else
	return user_from(bpf_get_current_uid_gid());
#endif
}

/* A null pointer is nowhere to be seen here; the verifier wants them to be asked for. */
INLINE u64 cgroup_of(u64 task)
{
	u64 css_set = read_u64(task, OFF_TASK_CGROUPS);
	if (!css_set)
		return 0;
	u64 cgroup = read_u64(css_set, OFF_CSS_SET_DFL_CGRP);
	if (!cgroup)
		return 0;
	u64 node = read_u64(cgroup, OFF_CGROUP_KN);
	return node ? read_u64(node, OFF_KERNFS_ID) : 0;
}

INLINE u32 pid_in_own_namespace(u64 task, u32 pid_outside)
{
	u64 pid = read_u64(task, OFF_TASK_THREAD_PID);
	if (!pid)
		return 0;
	u64 level = read_u32(pid, OFF_PID_LEVEL) & 0x3f; /* MAX_PID_NS_LEVEL is 32 */
	if (!level)
		return pid_outside;
	return peek_u32(pid, OFF_PID_NUMBERS + level * UPID_SIZE + OFF_UPID_NR);
}

#endif
