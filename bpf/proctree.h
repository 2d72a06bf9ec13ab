/* SPDX-License-Identifier: MIT */
/*
 * Wire format between proctree.bpf.c and codecs/perf_records.py.
 *
 * Host byte order, no implicit padding. A process is named by its tgid in the
 * initial PID namespace and by start_ns, the start_boottime of its group leader
 * (ns on CLOCK_BOOTTIME). Change PT_WIRE_VERSION with any change of layout.
 */
#ifndef PROCTREE_H
#define PROCTREE_H

#define PT_WIRE_VERSION 1
#define PT_COMM_LEN 16

enum pt_kind {
	PT_FORK = 0,
	PT_EXEC = 1,
	PT_EXIT = 2,
	PT_RENAME = 3,
	PT_KINDS = 4,
};

/* pt_header.flags */
#define PT_ARGS_TRUNCATED 0x0001 /* argv was longer than the limit */
#define PT_ARGS_UNREADABLE 0x0002 /* argv was not in memory; none was sent */
#define PT_EXE_INCOMPLETE 0x0004 /* more path components than the walk allows */
#define PT_FILENAME_TRUNCATED 0x0008

/* Room for the two paths of an exec record. Powers of two: used as masks. */
#define PT_EXE_ROOM 4096
#define PT_FILENAME_ROOM 4096

/* 24 bytes. seq counts the records of one kind begun on one CPU, from 1. */
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

/* 80 bytes */
struct pt_exit {
	struct pt_header h;
	__u64 start_ns;
	__u64 parent_start_ns;
	__u32 tgid;
	__u32 parent_tgid;
	__u32 uid;
	__u32 gid;
	__u32 status; /* as from wait(2) */
	__u32 reserved;
	char comm[PT_COMM_LEN];
};

/* 56 bytes */
struct pt_rename {
	struct pt_header h;
	__u64 start_ns;
	__u32 tgid;
	__u32 reserved;
	char comm[PT_COMM_LEN];
};

/* One per CPU. begun is counted before the record is stamped and submitted. */
struct pt_counters {
	__u64 begun[PT_KINDS];
	__u64 failed[PT_KINDS];
};

#endif
