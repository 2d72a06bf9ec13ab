// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Sends one sample per fork, exec and exit of a process, and per rename of a
 * thread group leader, through one perf buffer.
 *
 * Compiled by BCC without kernel headers. Every kernel structure is reached by
 * an OFF_* offset that the loader took from the running kernel's BTF; no kernel
 * version is tested anywhere.
 */
#include "reading.h"
#include "reaper.h"

/* Knobs, set by the loader with -D:
 *   MAX_ARGS_BYTES   argv bytes copied per exec
 *   SCRATCH_SLOTS    possible CPUs
 *   OFF_*            byte offsets of struct members
 *   UPID_SIZE        sizeof(struct upid)
 *   HAVE_GROUP_DEAD  sched_process_exit passes group_dead (Linux 6.18)
 *   IN_EXECVE_OFF, IN_EXECVE_MASK  task_struct.in_execve, where there is one
 *   HAVE_REAPER      see reaper.h
 *   KERNEL_FILTER    filter.bpf.c stands before this file
 *   FILTER_BY_FILE   and looks for program files
 *   COPIES           of each program (sending.bpf.c)
 */

#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */
#define MAX_PATH_STEPS 40
#define MAX_NAME_LEN 255
#define EXE_INCOMPLETE PT_EXE_ROOM

struct exec_scratch {
	struct pt_exec rec;
	char data[PT_EXE_ROOM + PT_FILENAME_ROOM + MAX_ARGS_BYTES];
};

/* An ordinary array with a slot per CPU and copy: a per-CPU value may not exceed 32 KiB.
 * Only on_exec uses it, and the kernel never runs a program twice at once on one
 * CPU (bpf_prog.active), so a slot has one writer even where tracepoints can be
 * preempted. */
BPF_ARRAY(scratch, struct exec_scratch, SCRATCH_SLOTS *COPIES);

INLINE int tell_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[0], child = ctx->args[1];
	struct ids ids = ids_of(child);
	if (ids.pid != ids.tgid)
		return 0;

	struct pt_fork rec = {};
	struct pt_key creator = key_with(task, ids_of_current(task));
	struct pt_key key = {.start_ns = read_u64(child, OFF_TASK_START), .tgid = ids.tgid};
	struct user user = user_of_current(child);
	read_comm(rec.comm, child);
#ifdef KERNEL_FILTER
	u32 verdict = filter_fork(creator, key, rec.comm, user);
	if (!verdict)
		return 0;
	prepare(ctx, creator, 0, PT_MET_BY_FORK, verdict);
#endif
	struct pt_counters *c = begin(&rec.h, PT_FORK);
	if (!c)
		return 0;

	struct pt_key parent = key_of(read_u64(child, OFF_TASK_REAL_PARENT));
	rec.child_tgid = key.tgid;
	rec.child_start_ns = key.start_ns;
	rec.creator_tgid = creator.tgid;
	rec.creator_start_ns = creator.start_ns;
	rec.parent_tgid = parent.tgid;
	rec.parent_start_ns = parent.start_ns;
	rec.ns_pid = pid_in_own_namespace(child, key.tgid);
	rec.cgroup_id = cgroup_of(child);
	rec.uid = user.uid;
	rec.gid = user.gid;

	if (events.perf_submit(ctx, &rec, sizeof(rec)) != 0)
		count_failed(c, PT_FORK);
	return 0;
}

/* Returns the length of a name with its NUL; 0 if there is no room for it. */
INLINE int add_component(struct exec_scratch *s, u32 at, u64 name)
{
	if (at >= PT_EXE_ROOM - 1 - MAX_NAME_LEN)
		return 0;
	return bpf_probe_read_kernel_str(&s->data[at & (PT_EXE_ROOM - 1)], MAX_NAME_LEN + 1,
					 (void *)name);
}

/* Goes on from the root of a mount, by addresses of which the verifier knows no types. */
INLINE u32 read_exe_above(struct exec_scratch *s, u32 used, u64 mount, u64 mount_root)
{
	u64 dentry = mount_root;

#pragma clang loop unroll_count(8) /* more is much code, less takes the verifier long */
	for (int step = 0; step < MAX_PATH_STEPS; step++) {
		if (dentry == mount_root) {
			u64 above = peek_u64(mount, OFF_MOUNT_PARENT);
			if (above == mount)
				return used;
			dentry = peek_u64(mount, OFF_MOUNT_MOUNTPOINT);
			mount = above;
			mount_root = peek_u64(mount, OFF_MOUNT_MNT + OFF_VFSMOUNT_ROOT);
		} else {
			u64 parent = peek_u64(dentry, OFF_DENTRY_PARENT);
			if (parent == dentry)
				return used;
			int n = add_component(s, used, peek_u64(dentry, OFF_DENTRY_NAME));
			if (n <= 0)
				return EXE_INCOMPLETE;
			used = (used + (n & 0x1ff)) & (PT_EXE_ROOM - 1);
			dentry = parent;
		}
	}
	return EXE_INCOMPLETE;
}

/* Writes the name of a file that is in no directory, such as a memfd, as simple_dname() in
 * fs/libfs.c does. */
INLINE u32 read_name_alone(struct exec_scratch *s, u64 dentry)
{
	char deleted[] = " (deleted)";
	int n = add_component(s, 0, read_u64(dentry, OFF_DENTRY_NAME));
	if (n <= 0)
		return EXE_INCOMPLETE;
	u32 end = (n - 1) & 0x1ff;
	bpf_probe_read_kernel(&s->data[end], sizeof(deleted), deleted);
	return end + sizeof(deleted);
}

/* Writes the components of mm->exe_file's path, innermost first, and returns
 * their length, or EXE_INCOMPLETE. bpf_d_path() is not allowed in raw tracepoints, so this walks
 * the dentries and crosses mounts as fs/d_path.c does. */
INLINE u32 read_exe(struct exec_scratch *s, u64 mm)
{
	u64 file = mm ? read_u64(mm, OFF_MM_EXE_FILE) : 0;
	if (!file)
		return EXE_INCOMPLETE;
	u64 dentry = read_u64(file, OFF_FILE_PATH + OFF_PATH_DENTRY);
	u64 vfsmount = read_u64(file, OFF_FILE_PATH + OFF_PATH_MNT);
	if (!dentry || !vfsmount)
		return EXE_INCOMPLETE;
	u64 mount = vfsmount - OFF_MOUNT_MNT;
	u64 mount_root = read_u64(vfsmount, OFF_VFSMOUNT_ROOT);
	u32 used = 0;

#pragma nounroll
	for (int step = 0; step < MAX_PATH_STEPS; step++) {
		if (dentry == mount_root)
			goto root;
		u64 parent = read_u64(dentry, OFF_DENTRY_PARENT);
		if (parent == dentry)
			return used ? used : read_name_alone(s, dentry);
		int n = add_component(s, used, read_u64(dentry, OFF_DENTRY_NAME));
		if (n <= 0)
			return EXE_INCOMPLETE;
		used = (used + (n & 0x1ff)) & (PT_EXE_ROOM - 1);
		dentry = parent;
	}
	return EXE_INCOMPLETE;
root:
	return read_exe_above(s, used, mount, mount_root);
}

INLINE u32 read_filename(struct exec_scratch *s, u32 at, u64 bprm)
{
	u64 filename = read_u64(bprm, OFF_BPRM_FILENAME);
	int n = bpf_probe_read_kernel_str(&s->data[at & (PT_EXE_ROOM - 1)], PT_FILENAME_ROOM,
					  (void *)filename);
	if (n <= 0)
		return 0;
	if (n == PT_FILENAME_ROOM)
		s->rec.h.flags |= PT_FILENAME_TRUNCATED;
	return n & (2 * PT_FILENAME_ROOM - 1);
}

INLINE u32 read_args(struct exec_scratch *s, u32 at, u64 mm)
{
	u64 start = read_u64(mm, OFF_MM_ARG_START);
	u64 total = read_u64(mm, OFF_MM_ARG_END) - start;
	s->rec.args_total = total;
	u64 n = total;
	if (n > MAX_ARGS_BYTES) {
		n = MAX_ARGS_BYTES;
		s->rec.h.flags |= PT_ARGS_TRUNCATED;
	}
	/* Keeps the compiler from proving the next check away: the verifier of
	 * older kernels cannot follow its proof. */
	asm volatile("" : "+r"(n));
	if (n > MAX_ARGS_BYTES)
		return 0;
	if (bpf_probe_read_user(&s->data[at & (PT_EXE_ROOM + PT_FILENAME_ROOM - 1)], n,
				(void *)start) != 0) {
		s->rec.h.flags |= PT_ARGS_UNREADABLE;
		return 0;
	}
	return n;
}

INLINE int tell_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[0], bprm = ctx->args[2];
	u32 slot = bpf_get_smp_processor_id() * COPIES + copy_number();
	struct exec_scratch *s = scratch.lookup(&slot);
	if (!s)
		return 0;
	struct pt_key key = key_with(task, ids_of_current(task));
	struct user user = user_of_current(task);
	read_comm(s->rec.comm, task);
#ifdef FILTER_BY_FILE
	u64 mm = read_u64(task, OFF_TASK_MM);
	u32 exe_len = read_exe(s, mm);
	int is_wanted_file = exe_len != EXE_INCOMPLETE && runs_wanted(s->data, exe_len);
#else
	int is_wanted_file = 0;
#endif
#ifdef KERNEL_FILTER
	u32 verdict = filter_exec(key, s->rec.comm, user, is_wanted_file);
	if (!verdict)
		return 0;
	prepare(ctx, key, 0, PT_MET, verdict);
#endif
	struct pt_key parent = key_of(read_u64(task, OFF_TASK_REAL_PARENT));
#ifdef KERNEL_FILTER
	announce_parent(ctx, parent, PT_MET);
#endif
	struct pt_counters *c = begin(&s->rec.h, PT_EXEC);
	if (!c)
		return 0;

	s->rec.tgid = key.tgid;
	s->rec.start_ns = key.start_ns;
	s->rec.parent_tgid = parent.tgid;
	s->rec.parent_start_ns = parent.start_ns;
	s->rec.cgroup_id = cgroup_of(task);
	s->rec.uid = user.uid;
	s->rec.gid = user.gid;

#ifndef FILTER_BY_FILE
	u64 mm = read_u64(task, OFF_TASK_MM);
	u32 exe_len = read_exe(s, mm);
#endif
	if (exe_len == EXE_INCOMPLETE)
		s->rec.h.flags |= PT_EXE_INCOMPLETE;
	exe_len &= PT_EXE_ROOM - 1;
	u32 filename_len = read_filename(s, exe_len, bprm);
	u32 at = (exe_len + filename_len) & (PT_EXE_ROOM + PT_FILENAME_ROOM - 1);
	u32 args_len = read_args(s, at, mm);
	s->rec.exe_len = exe_len;
	s->rec.filename_len = filename_len;
	s->rec.args_len = args_len;

	u64 size = sizeof(s->rec) + at + args_len;
	asm volatile("" : "+r"(size));
	if (size > sizeof(*s) || events.perf_submit(ctx, s, size) != 0)
		count_failed(c, PT_EXEC);
	return 0;
}

INLINE int is_last_thread(struct bpf_raw_tracepoint_args *ctx)
{
#ifdef HAVE_GROUP_DEAD
	return ctx->args[1] & 0xff;
#else
	/* Two last threads can both see 0: the reader drops the second exit. */
	return read_u32(read_u64(ctx->args[0], OFF_TASK_SIGNAL), OFF_SIGNAL_LIVE) == 0;
#endif
}

INLINE int tell_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[0];
	if (!is_last_thread(ctx))
		return 0;

	struct ids ids = ids_of_current(task);
	u64 leader = leader_of(task, ids);
	struct pt_key key = key_with(task, ids);
	struct pt_exit rec = {};
	read_comm(rec.comm, leader);
#ifdef KERNEL_FILTER
	int joins;
	struct pt_proc *p = ending(&key, rec.comm, &joins);
	u32 verdict = filter_exit(key, p, rec.comm, task, joins);
	if (!verdict) {
		note_exit(key, p);
		return 0;
	}
	prepare(ctx, key, 0, PT_MET_BY_EXIT, verdict);
#endif
	struct pt_key parent = key_of(read_u64(leader, OFF_TASK_REAL_PARENT));
#ifdef KERNEL_FILTER
	announce_parent(ctx, parent, PT_MET_BY_EXIT);
	note_exit(key, p);
#endif
	struct pt_counters *c = begin(&rec.h, PT_EXIT);
	if (!c)
		return 0;

	struct user user = user_of(task);
	u64 signal = read_u64(task, OFF_TASK_SIGNAL);
	rec.tgid = key.tgid;
	rec.start_ns = key.start_ns;
	rec.parent_tgid = parent.tgid;
	rec.parent_start_ns = parent.start_ns;
	rec.uid = user.uid;
	rec.gid = user.gid;
	/* As wait_task_zombie() in kernel/exit.c chooses it. */
	if (read_u32(signal, OFF_SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT)
		rec.status = read_u32(signal, OFF_SIGNAL_GROUP_EXIT_CODE);
	else
		rec.status = read_u32(leader, OFF_TASK_EXIT_CODE);
	rec.cgroup_id = cgroup_of(task);
	u32 threads = count_threads(signal);
	u64 gone_ns = read_u64(signal, OFF_SIGNAL_RUNTIME);
	rec.cpu_ns = gone_ns + read_u64(task, OFF_TASK_RUNTIME);
	if (leader != task)
		rec.cpu_ns += read_u64(leader, OFF_TASK_RUNTIME);

	u64 size = sizeof(rec) - sizeof(rec.reaper_start_ns);
	if (may_have_children(task, leader, threads, gone_ns)) {
		struct pt_key reaper = reaper_of(task, signal);
		rec.reaper_tgid = reaper.tgid;
		rec.reaper_start_ns = reaper.start_ns;
		size = sizeof(rec);
#ifdef KERNEL_FILTER
		announce_parent(ctx, reaper, PT_MET_BY_EXIT);
#endif
	}
	if (events.perf_submit(ctx, &rec, size) != 0)
		count_failed(c, PT_EXIT);
	return 0;
}

INLINE int tell_rename(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[0];
#ifdef IN_EXECVE_MASK
	/* exec renames too; its own sample follows at once. */
	if (read_u8(task, IN_EXECVE_OFF) & IN_EXECVE_MASK)
		return 0;
#endif
	struct ids ids = ids_of(task);
	if (ids.pid != ids.tgid)
		return 0;

	struct pt_key key = {.start_ns = read_u64(task, OFF_TASK_START), .tgid = ids.tgid};
	struct pt_rename rec = {};
	u64 size = sizeof(rec) - sizeof(rec.parent_start_ns);
	bpf_probe_read_kernel_str(rec.comm, PT_COMM_LEN, (void *)ctx->args[1]);
#ifdef KERNEL_FILTER
	char before[PT_COMM_LEN] = {};
	u32 verdict = filter_rename(key, rec.comm, before);
	if (!verdict)
		return 0;
	prepare(ctx, key, before, PT_MET_BY_RENAME, verdict);
	if (verdict != SENDS) {
		struct pt_key parent = key_of(read_u64(task, OFF_TASK_REAL_PARENT));
		announce_parent(ctx, parent, PT_MET_BY_RENAME);
		rec.parent_tgid = parent.tgid;
		rec.parent_start_ns = parent.start_ns;
		size = sizeof(rec);
	}
#endif
	struct pt_counters *c = begin(&rec.h, PT_RENAME);
	if (!c)
		return 0;

	rec.tgid = key.tgid;
	rec.start_ns = key.start_ns;

	if (events.perf_submit(ctx, &rec, size) != 0)
		count_failed(c, PT_RENAME);
	return 0;
}

/* The tracepoints' programs. */

int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u64 what = event_name(ctx->args[1], PT_FORK);
	if (!is_told_by_another(what)) {
		tell_fork(ctx);
		leave_note(what);
	}
	return 0;
}

int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u64 what = event_name(ctx->args[0], PT_EXEC);
	if (!is_told_by_another(what)) {
		tell_exec(ctx);
		leave_note(what);
	}
	return 0;
}

int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 what = event_name(ctx->args[0], PT_EXIT);
	if (!is_told_by_another(what)) {
		tell_exit(ctx);
		leave_note(what);
	}
	return 0;
}

int on_rename(struct bpf_raw_tracepoint_args *ctx)
{
	u64 what = event_name(ctx->args[0], PT_RENAME);
	if (!is_told_by_another(what)) {
		tell_rename(ctx);
		leave_note(what);
	}
	return 0;
}
