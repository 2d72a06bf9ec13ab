/* SPDX-License-Identifier: MIT */
/* Every way in which a process comes into being. */
#include "actor.h"

#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void child_holds(void)
{
	report("child");
	hold();
	_exit(0);
}

static void run_fork(int argc, char **argv)
{
	(void)argc, (void)argv;
	report("caller");
	pid_t child = must_fork();
	if (child == 0)
		child_holds();
	reap("reaped", child);
}

/* renamed-fork NAME */
static void run_renamed_fork(int argc, char **argv)
{
	(void)argc;
	prctl(PR_SET_NAME, argv[0]);
	run_fork(0, NULL);
}

static void run_vfork(int argc, char **argv)
{
	(void)argc, (void)argv;
	report("caller");
	pid_t child = must(vfork(), "vfork");
	if (child == 0)
		_exit(7);
	reap("child", child);
}

/* vfork-exec PROGRAM ARGS... */
static void run_vfork_exec(int argc, char **argv)
{
	(void)argc;
	report("caller");
	pid_t child = must(vfork(), "vfork");
	if (child == 0) {
		execv(argv[0], argv);
		_exit(111);
	}
	reap("child", child);
}

/* spawn PROGRAM ARGS... */
static void run_spawn(int argc, char **argv)
{
	pid_t child;

	(void)argc;
	report("caller");
	must(-posix_spawn(&child, argv[0], NULL, NULL, argv, NULL), "posix_spawn");
	reap("child", child);
}

static void run_clone3(int argc, char **argv)
{
	struct clone_args args = {.exit_signal = SIGCHLD};

	(void)argc, (void)argv;
	report("caller");
	pid_t child = must(syscall(SYS_clone3, &args, sizeof(args)), "clone3");
	if (child == 0)
		child_holds();
	reap("reaped", child);
}

static void run_clone_parent(int argc, char **argv)
{
	(void)argc, (void)argv;
	report("grandparent");
	if (must_fork() == 0) {
		report("caller");
		struct clone_args args = {.flags = CLONE_PARENT};
		if (must(syscall(SYS_clone3, &args, sizeof(args)), "clone3") == 0)
			child_holds();
		hold();
		_exit(0);
	}
	while (reap_any("reaped"))
		;
}

static void *fork_here(void *name)
{
	if (name)
		prctl(PR_SET_NAME, name);
	say("{\"role\": \"thread\", \"tid\": %d}", (int)gettid());
	pid_t child = must_fork();
	if (child == 0)
		child_holds();
	reap("reaped", child);
	exit(0);
}

/* thread-fork [THREAD NAME] */
static void run_thread_fork(int argc, char **argv)
{
	report("caller");
	start_thread(fork_here, argc ? argv[0] : NULL);
	for (;;)
		pause();
}

static void *say_tid(void *unused)
{
	(void)unused;
	say("{\"role\": \"thread\", \"tid\": %d}", (int)gettid());
	return NULL;
}

static void *fork_many(void *count)
{
	for (intptr_t left = (intptr_t)count; left; left--) {
		pid_t child = must_fork();
		if (child == 0)
			_exit(0);
		reap("child", child);
	}
	return NULL;
}

static void join_threads(int count, void *(*function)(void *), void *argument)
{
	pthread_t threads[count];

	for (int i = 0; i < count; i++)
		must(-pthread_create(&threads[i], NULL, function, argument), "pthread_create");
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

/* threads COUNT */
static void run_threads(int argc, char **argv)
{
	(void)argc;
	report("caller");
	join_threads(atoi(argv[0]), say_tid, NULL);
}

/* thread-forks THREADS CHILDREN: so many children from each thread */
static void run_thread_forks(int argc, char **argv)
{
	(void)argc;
	report("caller");
	join_threads(atoi(argv[0]), fork_many, (void *)(intptr_t)atoi(argv[1]));
}

static void bear(int width, int depth)
{
	for (int i = 0; depth && i < width; i++)
		if (must_fork() == 0) {
			bear(width, depth - 1);
			_exit(depth);
		}
	while (reap_any("child"))
		;
}

/* family WIDTH DEPTH: children, their children, and so on; each exits with its height */
static void run_family(int argc, char **argv)
{
	(void)argc;
	report("caller");
	bear(atoi(argv[0]), atoi(argv[1]));
}

/* generations COUNT: each forks the next and is gone; the last one stays */
static void run_generations(int argc, char **argv)
{
	(void)argc;
	for (int left = atoi(argv[0]); left; left--) {
		report("ancestor");
		if (must_fork())
			_exit(0);
	}
	child_holds();
}

/* daemon: fork, setsid, fork; the one in the middle is gone when it says "daemon" */
static void run_daemon(int argc, char **argv)
{
	(void)argc, (void)argv;
	report("caller");
	pid_t middle = must_fork();
	if (middle == 0) {
		report("middle");
		setsid();
		pid_t self = getpid();
		if (must_fork())
			_exit(0);
		while (getppid() == self)
			usleep(1000);
		report("daemon");
		hold();
		_exit(4);
	}
	reap("reaped", middle);
}

/* adopted: the child of a child that ends first; the caller is its subreaper */
static void run_adopted(int argc, char **argv)
{
	(void)argc, (void)argv;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	report("subreaper");
	pid_t middle = must_fork();
	if (middle == 0) {
		report("middle");
		pid_t self = getpid();
		if (must_fork() == 0) {
			while (getppid() == self)
				usleep(1000);
			report("orphan");
			hold();
			_exit(5);
		}
		_exit(0);
	}
	while (reap_any("reaped"))
		;
}

/* crowd COUNT: so many children that stay until standard input ends */
static void run_crowd(int argc, char **argv)
{
	(void)argc;
	report("caller");
	for (int left = atoi(argv[0]); left; left--)
		if (must_fork() == 0)
			child_holds();
	while (reap_any("reaped"))
		;
}

const struct test_case creation_cases[] = {
	{"fork", run_fork},
	{"renamed-fork", run_renamed_fork},
	{"vfork", run_vfork},
	{"vfork-exec", run_vfork_exec},
	{"spawn", run_spawn},
	{"clone3", run_clone3},
	{"clone-parent", run_clone_parent},
	{"thread-fork", run_thread_fork},
	{"threads", run_threads},
	{"thread-forks", run_thread_forks},
	{"family", run_family},
	{"generations", run_generations},
	{"daemon", run_daemon},
	{"adopted", run_adopted},
	{"crowd", run_crowd},
	{0},
};
