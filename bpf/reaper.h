/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who adopts the children of a process that ends, as find_new_reaper() in kernel/exit.c
 * chooses it a little later: the nearest living subreaper above it in its PID namespace, else
 * that namespace's init. No maps.
 *
 * Look for it only after the sample of the end was stamped. If the subreaper that is found ends
 * meanwhile, its own end is then stamped later, and tells who is next.
 *
 * HAVE_REAPER  the kernel's BTF has all that this needs
 */
#ifndef REAPER_H
#define REAPER_H

#include "reading.h"

#ifdef HAVE_REAPER

#define MAX_STEPS_TO_REAPER 128 /* of a longer way, nothing is told */

/* To be read before the run time of threads that are gone (gone_ns). */
INLINE u32 count_threads(u64 signal)
{
	return read_u32(signal, OFF_SIGNAL_NR_THREADS);
}

/* The children of a thread that ends become another thread's, or the reaper's, perhaps before the
 * last thread comes here: so if a process has had threads, an empty list does not say that it has
 * no children. A thread adds its run time to gone_ns before it is no longer counted. */
INLINE int may_have_children(u64 task, u64 leader, u32 threads, u64 gone_ns)
{
	if (leader != task || threads > 1 || gone_ns)
		return 1;
	return read_u64(task, OFF_TASK_CHILDREN) != task + OFF_TASK_CHILDREN;
}

INLINE int has_flag(u64 signal, u64 offset, u8 mask)
{
	u8 flags = 0;
	bpf_probe_read_kernel(&flags, sizeof(flags), (void *)(signal + offset));
	return flags & mask;
}

INLINE struct pt_key peek_key(u64 task)
{
	u64 leader = peek_u64(task, OFF_TASK_LEADER);
	struct pt_key key = {
		.start_ns = peek_u64(leader, OFF_TASK_START), .tgid = peek_u32(task, OFF_TASK_TGID)
	};
	return key;
}

INLINE u64 init_of_namespace(u64 pid, u32 level)
{
	u64 upid = pid + OFF_PID_NUMBERS + level * UPID_SIZE;
	return peek_u64(peek_u64(upid, OFF_UPID_NS), OFF_PID_NAMESPACE_CHILD_REAPER);
}

/* Its tgid is 0 if it is not known, and at the end of a namespace's init, which keeps its
 * children until they are killed with it. */
INLINE struct pt_key reaper_of(u64 task, u64 signal)
{
	struct pt_key nobody = {};
	u64 pid = peek_u64(task, OFF_TASK_THREAD_PID);
	u32 level = peek_u32(pid, OFF_PID_LEVEL);
	u64 above = task;

	if (!has_flag(signal, HAS_SUBREAPER_OFF, HAS_SUBREAPER_MASK))
		goto init;
#pragma nounroll
	for (int step = 0; step < MAX_STEPS_TO_REAPER; step++) {
		above = peek_u64(above, OFF_TASK_REAL_PARENT);
		if (peek_u32(peek_u64(above, OFF_TASK_THREAD_PID), OFF_PID_LEVEL) != level)
			goto init;
		if (!peek_u32(above, OFF_TASK_PID))
			goto init; /* the idle task, which is above all */
		u64 its = peek_u64(above, OFF_TASK_SIGNAL);
		if (has_flag(its, IS_SUBREAPER_OFF, IS_SUBREAPER_MASK) &&
		    peek_u32(its, OFF_SIGNAL_LIVE))
			return peek_key(above);
	}
	return nobody;
init:
	above = init_of_namespace(pid, level);
	return peek_u32(above, OFF_TASK_TGID) == peek_u32(task, OFF_TASK_TGID) ? nobody :
										 peek_key(above);
}

#else

#define count_threads(signal) 0
#define may_have_children(task, leader, threads, gone_ns) 0

INLINE struct pt_key reaper_of(u64 task, u64 signal)
{
	struct pt_key nobody = {};
	return nobody;
}

#endif

#endif
