/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Wire format between proctree.bpf.c and codecs/sample_decoder.py.
 *
 * Host byte order, no implicit padding. A process is named by its tgid in the
 * initial PID namespace and by start_ns, the start_boottime of its group leader
 * (ns on CLOCK_BOOTTIME). Change PT_WIRE_VERSION with any change of layout.
 */
#ifndef PROCTREE_H
#define PROCTREE_H

#define PT_WIRE_VERSION 3
#define PT_COMM_LEN 16

/* How often each program is attached; more than once where it may be skipped: see
 * sending.bpf.c. Each copy counts its own samples, of kinds from PT_KINDS * its number on. */
#ifndef COPIES
#define COPIES 1
#endif

enum pt_kind {
	PT_FORK = 0,
	PT_EXEC = 1,
	PT_EXIT = 2,
	PT_RENAME = 3,
	PT_MET = 4, /* told by on_exec; each program counts its own */
	PT_MET_BY_RENAME = 5,
	PT_MET_BY_FORK = 6,
	PT_MET_BY_EXIT = 7,
	PT_KINDS = 8,
};

/* pt_header.flags */
#define PT_ARGS_TRUNCATED 0x0001 /* argv was longer than the limit */
#define PT_ARGS_UNREADABLE 0x0002 /* argv was not in memory; none was sent */
#define PT_EXE_INCOMPLETE 0x0004 /* more path components than the walk allows */
#define PT_FILENAME_TRUNCATED 0x0008

/* Room for the two paths of an exec sample. Powers of two: used as masks. */
#define PT_EXE_ROOM 4096
#define PT_FILENAME_ROOM 4096

/* A process. start_ns is exact, or in pt_seed's key the multiple of a tick, PT_TICK_NS,
 * that /proc shows. */
struct pt_key {
	__u64 start_ns;
	__u64 tgid;
};

/* 24 bytes. seq counts the samples of one kind begun on one CPU, from 1. */
struct pt_header {
	__u64 seq;
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u16 version;
	__u16 kind;
	__u16 flags;
	__u16 cpu;
};

/* 96 bytes */
struct pt_fork {
	struct pt_header h;
	__u64 child_start_ns;
	__u64 creator_start_ns;
	__u64 parent_start_ns;
	__u64 cgroup_id;
	__u32 child_tgid;
	__u32 creator_tgid; /* who called fork or clone */
	__u32 parent_tgid; /* real_parent: differs with CLONE_PARENT */
	__u32 ns_pid; /* the child's pid inside its own PID namespace */
	__u32 uid;
	__u32 gid;
	char comm[PT_COMM_LEN];
};

/* 96 bytes, then exe_len + filename_len + args_len bytes. */
struct pt_exec {
	struct pt_header h;
	__u64 start_ns;
	__u64 parent_start_ns;
	__u64 cgroup_id;
	__u32 tgid;
	__u32 parent_tgid;
	__u32 uid;
	__u32 gid;
	char comm[PT_COMM_LEN];
	__u32 args_total; /* length of argv before truncation */
	__u16 exe_len; /* path components, innermost first, each NUL-terminated */
	__u16 filename_len; /* as given to execve, NUL-terminated */
	__u32 args_len; /* argv, each NUL-terminated */
	__u32 reserved;
};

/* 104 bytes; 96, without the last member, if the process can have no children. */
struct pt_exit {
	struct pt_header h;
	__u64 start_ns;
	__u64 parent_start_ns;
	__u64 cgroup_id;
	__u64 cpu_ns; /* run time of all its threads */
	__u32 tgid;
	__u32 parent_tgid;
	__u32 uid;
	__u32 gid;
	__u32 status; /* as from wait(2) */
	__u32 reaper_tgid; /* who adopts its children; 0: it has none, or nobody can say */
	char comm[PT_COMM_LEN];
	__u64 reaper_start_ns;
};

/* 64 bytes; 56, without the last member, if the parent is not told. */
struct pt_rename {
	struct pt_header h;
	__u64 start_ns;
	__u32 tgid;
	__u32 parent_tgid; /* only if it joins: its adoption may have been left out; else 0 */
	char comm[PT_COMM_LEN];
	__u64 parent_start_ns;
};

/* 88 bytes. Only with a filter in the kernel: an ancestor of a process that is now
 * followed, of which the reader may not have heard. */
struct pt_met {
	struct pt_header h;
	__u64 start_ns;
	__u64 creator_start_ns;
	__u64 exited_ns; /* 0 while it lives */
	__u32 tgid;
	__u32 creator_tgid;
	__u32 uid;
	__u32 gid;
	__u32 reserved[2];
	char comm[PT_COMM_LEN]; /* ends with PT_NO_NAME if it is as it was before us */
};

/* One per CPU. begun is counted before the sample is stamped and submitted. */
struct pt_counters {
	__u64 begun[PT_KINDS * COPIES];
	__u64 failed[PT_KINDS * COPIES];
};

/* What follows is only for a filter in the kernel; see filter.bpf.c. */

#define PT_NOBODY 0xffffffff
#define PT_NO_NAME 1 /* where a name has NUL */
#define PT_TICK_NS 10000000ULL

enum pt_announced {
	PT_BY_READER = 1, /* which knows all that is above, too */
	PT_BY_US = 2,
};

/* What the reader says of a process that it knew when the filter was set. */
struct pt_seed {
	struct pt_key creator;
	__u64 exact_ns; /* when it started, once the BPF side has met it; else 0 */
	__u32 followed; /* 2: it has ended, and its children have seeds of their own */
	__u32 announced; /* the reader hears of its changes; a pt_announced */
};

/* What the BPF side knows of a process since it was attached. */
struct pt_proc {
	struct pt_key creator; /* tgid 0: born before, and not seeded */
	__u64 exited_ns;
	__u32 refs; /* one while it lives, and one for each process that it created; one more for
		     * those that it created before it had this entry */
	__u32 generation; /* of the seeds with which followed was decided; 0: never */
	__u32 followed;
	__u32 announced; /* generation in which the reader hears of its changes */
	__u32 told; /* generation in which the reader knows it and all above */
	__u32 has_children;
	__u32 uid; /* PT_NOBODY: it was there before us, and not told since */
	__u32 gid;
	__u32 uncounted; /* its creator had no entry, so no reference is held on it */
	__u32 exec_left_out; /* generation in which its last exec before the filter fell back was; 0: it was
			      * sent */
	char comm[PT_COMM_LEN]; /* ends with PT_NO_NAME while none was noted */
};

/* A program file that is looked for: the components of its path as in an exec sample, then
 * zeros. A longer path is not looked for here. */
#define PT_FILE_ROOM 256
struct pt_file {
	char components[PT_FILE_ROOM];
};

/* Set by the reader. */
struct pt_control {
	__u32 filtering;
	__u32 generation; /* of the seeds */
};

/* Set by the BPF side when it can no longer decide; cleared by the reader. While reason is
 * not 0, everything is sent. */
struct pt_fallback {
	__u64 since_ns; /* of the sample that made it fall back */
	__u64 reason;
};

enum pt_fallback_reason {
	PT_NO_FALLBACK = 0,
	PT_JOINED_LATE = 1, /* by exec after it had children, or by a rename */
	PT_TABLE_FULL = 2,
	PT_TOO_DEEP = 3,
};

#endif
