/* SPDX-License-Identifier: MIT */
/* Every way to create a process, and to wait for one. */
#include "forest.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t former; /* a PID that was had before */

/* The PID of the init of a PID namespace in the one around it, which is this one's. */
static pid_t outer_pid(void)
{
	char text[4096], *at;
	int fd = must(open("/proc/self/status", O_RDONLY | O_CLOEXEC), 106);

	text[must(read(fd, text, sizeof(text) - 1), 106)] = 0;
	close(fd);
	at = strstr(text, "\nNSpid:");
	if (!at)
		_exit(106);
	at += 7;
	pid_t last = 0, before = 0;
	while (*at && *at != '\n') {
		before = last;
		last = strtol(at, &at, 10);
	}
	return before;
}

static pid_t pid_outside(void)
{
	char text[32];

	text[must(readlink("/proc/self", text, sizeof(text) - 1), 105)] = 0;
	return atoi(text);
}

/* Called first in the child; ``parent`` is the parent before the fork, or -1 after an exec. */
void be_born(struct life *self, const struct life *creator, long long fork_ns, pid_t parent)
{
	char text[16], name[64] = "-";
	pid_t in_outer = 0;
	struct stat info;

	self->ns_pid = getpid();
	if (self->ns_pid == 1) {
		self->is_nested = 1;
		must(stat("/proc/self/ns/pid", &info), 104);
		self->ns = info.st_ino;
		in_outer = outer_pid();
	}
	self->pid = self->is_nested ? pid_outside() : self->ns_pid;
	if (parent != -1) {
		prctl(PR_GET_NAME, text);
		to_hex(name, text, strnlen(text, sizeof(text)));
	} else {
		parent = self->fork_parent;
	}
	pid_t parent_now = parent_of(self);
	self->born = now_ns();
	tell("B %d %lld %d %lld %lld %d %d %lu %d %lu %d %u %s\n", self->pid, self->born,
	     creator->pid, creator->born, fork_ns, parent, parent_now, self->ns, self->ns_pid,
	     creator->ns, in_outer, self->uid, name);
}

/* While it is a zombie, nobody else can have its PID. */
int reap(pid_t which)
{
	siginfo_t info = {0};
	int status, told;

	if (waitid(which > 0 ? P_PID : P_ALL, which, &info, WEXITED | WNOWAIT | __WALL) != 0)
		return 0;
	told = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
	if (info.si_code == CLD_DUMPED)
		told |= 0x80;
	tell("W %lu %d %d %lld %d\n", me.ns, info.si_pid, told, now_ns(), me.pid);
	if (waitpid(info.si_pid, &status, __WALL) != info.si_pid || status != told)
		_exit(103);
	former = info.si_pid;
	return 1;
}

static pid_t clone_with(uint64_t flags, pid_t *wanted)
{
	struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};

	if (flags & CLONE_PARENT)
		args.exit_signal = 0;
	if (wanted) {
		args.set_tid = (uintptr_t)wanted;
		args.set_tid_size = 1;
	}
	return syscall(SYS_clone3, &args, sizeof(args));
}

/* Lets the next PID be one that was had before. */
static void rewind_pids(void)
{
	char text[16];
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	int length = snprintf(text, sizeof(text), "%d", former - 1);

	if (fd < 0)
		return;
	/* Who lacks the privilege gets another PID. */
	if (write(fd, text, length) != length)
		former = 0;
	close(fd);
}

/* Whom we are to kill must be our own child. */
static pid_t fork_somehow(uint64_t *flags, int is_ours)
{
	pid_t wanted = former;

	*flags = 0;
	switch (draw(&me, 10)) {
	case 0:
		*flags = 0;
		break;
	case 1:
		*flags = is_ours ? 0 : CLONE_PARENT;
		break;
	case 2:
		*flags = CLONE_NEWPID;
		break;
	case 3:
		*flags = CLONE_NEWPID | CLONE_NEWUSER;
		break;
	case 4:
		if (former) {
			pid_t child = clone_with(0, &wanted);
			if (child >= 0)
				return child;
		}
		break;
	case 5:
		if (former)
			rewind_pids();
		return fork();
	default:
		return fork();
	}
	/* The root's parent is not ours, and a kernel may refuse any of these. */
	if (!(*flags & CLONE_PARENT) || me.creator_pid) {
		pid_t child = clone_with(*flags, NULL);
		if (child >= 0)
			return child;
	}
	*flags = 0;
	return fork();
}

static struct life child_of_mine(int share)
{
	struct life child = me;

	child.budget = share - 1;
	child.execs = 3;
	child.seed = me.seed ^ ((uint64_t)share << 32) ^ 0x5851f42dULL;
	draw(&me, 2);
	draw(&child, 2);
	child.creator_pid = me.pid;
	child.creator_born = me.born;
	child.fork_parent = me.pid;
	return child;
}

struct by_thread {
	struct life child;
	pid_t pid;
};

static void *fork_in_a_thread(void *data)
{
	struct by_thread *made = data;

	prctl(PR_SET_NAME, draw(&me, 4) ? "begetter" : "oak");
	long long before = now_ns();
	made->pid = must(fork(), 101);
	if (made->pid == 0) {
		struct life creator = me;
		be_born(&made->child, &creator, before, creator.pid);
		me = made->child;
		former = 0;
		live();
	}
	return NULL;
}

static pid_t beget_by_thread(int share)
{
	struct by_thread made = {.child = child_of_mine(share)};
	pthread_t thread;

	if (pthread_create(&thread, NULL, fork_in_a_thread, &made) != 0)
		_exit(101);
	pthread_join(thread, NULL);
	return made.pid;
}

static pid_t beget_by_vfork(int share)
{
	struct life child = child_of_mine(share), creator = me;
	int execs = draw(&me, 5);

	child.execs = execs < 3 ? execs : 3;
	long long before = now_ns();
	pid_t pid = vfork();
	if (pid == 0) {
		struct life self = child;
		be_born(&self, &creator, before, creator.pid);
		if (execs || share > 1)
			become(&self);
		tell("X %d %lld %lld %d\n", self.pid, self.born, now_ns(), parent_of(&self));
		_exit(7);
	}
	return must(pid, 100);
}

static pid_t beget_by_spawn(int share)
{
	struct life child = child_of_mine(share);

	child.born = 0;
	child.fork_ns = now_ns();
	spawn_one(&child);
	return child.ns_pid;
}

static pid_t beget_by_fork(int share, int doom)
{
	struct life child = child_of_mine(share), creator = me;
	pid_t parent = parent_of(&me);
	uint64_t flags;

	child.is_doomed = doom;
	long long before = now_ns();
	pid_t pid = must(fork_somehow(&flags, doom), 99);
	if (pid)
		return flags & CLONE_PARENT ? 0 : pid;
	former = 0;
	if (flags & CLONE_NEWUSER)
		child.is_confined = 1;
	be_born(&child, &creator, before, flags & CLONE_PARENT ? parent : creator.pid);
	me = child;
	live();
}

/* Creates one whom we kill once it is ready for it. */
static void beget_a_victim(void)
{
	static const int numbers[] = {SIGKILL, SIGTERM, SIGINT, SIGABRT, SIGALRM};
	int ends[2], number = numbers[draw(&me, 5)];
	char byte;

	must(pipe(ends), 98);
	pid_t pid = beget_by_fork(1, ends[1]);
	close(ends[1]);
	if (pid > 0 && read(ends[0], &byte, 1) == 1) {
		tell("K %lu %d %lld\n", me.ns, pid, now_ns());
		kill(pid, number);
		kill(pid, SIGKILL); /* the init of a namespace of its own heeds nothing else */
		reap(pid);
	}
	close(ends[0]);
}

static void beget_a_daemon(int share)
{
	struct life child = child_of_mine(share), creator = me;
	long long before = now_ns();
	pid_t pid = must(fork(), 97);

	if (pid == 0) {
		former = 0;
		be_born(&child, &creator, before, creator.pid);
		me = child;
		setsid();
		if (share > 1) {
			me.budget = 0;
			beget_by_fork(share - 1, 0);
		}
		tell("X %d %lld %lld %d\n", me.pid, me.born, now_ns(), parent_of(&me));
		_exit(0);
	}
	reap(pid);
}

/* Creates a process and, ``share`` says how many in all, what is below it. */
void beget_one(int share)
{
	pid_t child = 0;

	me.budget -= share;
	switch (draw(&me, 10)) {
	case 0:
		child = beget_by_vfork(share);
		break;
	case 1:
		child = beget_by_spawn(share);
		break;
	case 2:
		child = beget_by_thread(share);
		break;
	case 3:
		beget_a_daemon(share);
		break;
	case 4:
		me.budget += share - 1;
		beget_a_victim();
		break;
	default:
		child = beget_by_fork(share, 0);
	}
	if (child > 0 && draw(&me, 3) == 0)
		reap(child);
}
