/* SPDX-License-Identifier: MIT */
/* Every way in which a process ends. */
#include "actor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* codes: a child for each exit code */
static void run_codes(int argc, char **argv)
{
	(void)argc, (void)argv;
	for (int code = 0; code < 256; code++) {
		pid_t child = must_fork();
		if (child == 0)
			_exit(code);
		reap("child", child);
	}
}

/* signal NUMBER CORE: a child that a signal ends; CORE is the limit of the core file */
static void run_signal(int argc, char **argv)
{
	struct rlimit limit = {strtoul(argv[1], NULL, 10), strtoul(argv[1], NULL, 10)};

	(void)argc;
	must(setrlimit(RLIMIT_CORE, &limit), "setrlimit");
	pid_t child = must_fork();
	if (child == 0) {
		signal(atoi(argv[0]), SIG_DFL);
		kill(getpid(), atoi(argv[0]));
		_exit(111);
	}
	reap("child", child);
}

static int leader_is_gone(void)
{
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", getpid());
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	text[must(read(fd, text, sizeof(text) - 1), "read")] = 0;
	close(fd);
	return strstr(text, ") Z ") != NULL;
}

static void *outlive_leader(void *program)
{
	while (!leader_is_gone())
		usleep(1000);
	report("survivor");
	hold();
	if (program) {
		char *argv[] = {program, "21", NULL};
		execv(program, argv);
	}
	syscall(SYS_exit, 5);
	return NULL;
}

/* leader-first [PROGRAM]: the leader's thread ends with 3, another one later with 5, or
 * by the exec of PROGRAM */
static void run_leader_first(int argc, char **argv)
{
	pid_t child = must_fork();
	if (child == 0) {
		start_thread(outlive_leader, argc ? argv[0] : NULL);
		syscall(SYS_exit, 3);
	}
	reap("process", child);
}

static void *exit_as_group(void *code)
{
	_exit((intptr_t)code);
}

/* group-exit CODE: exit_group called by a thread that is not the leader */
static void run_group_exit(int argc, char **argv)
{
	(void)argc;
	pid_t child = must_fork();
	if (child == 0) {
		start_thread(exit_as_group, (void *)(intptr_t)atoi(argv[0]));
		for (;;)
			pause();
	}
	reap("process", child);
}

static void *stay(void *unused)
{
	(void)unused;
	hold();
	return NULL;
}

/* killed-threads COUNT: SIGKILL to a process of so many more threads */
static void run_killed_threads(int argc, char **argv)
{
	(void)argc;
	pid_t child = must_fork();
	if (child == 0) {
		for (int left = atoi(argv[0]); left; left--)
			start_thread(stay, NULL);
		kill(getpid(), SIGKILL);
	}
	reap("process", child);
}

/* plain-exit CODE: the system call that ends a thread, made by the only one */
static void run_plain_exit(int argc, char **argv)
{
	(void)argc;
	pid_t child = must_fork();
	if (child == 0)
		syscall(SYS_exit, atoi(argv[0]));
	reap("process", child);
}

/* unawaited: the parent ignores SIGCHLD, so the child never becomes a zombie */
static void run_unawaited(int argc, char **argv)
{
	(void)argc, (void)argv;
	signal(SIGCHLD, SIG_IGN);
	if (must_fork() == 0) {
		report("child");
		_exit(6);
	}
	while (wait(NULL) > 0)
		;
}

const struct test_case exit_cases[] = {
	{"codes", run_codes},
	{"signal", run_signal},
	{"leader-first", run_leader_first},
	{"group-exit", run_group_exit},
	{"killed-threads", run_killed_threads},
	{"plain-exit", run_plain_exit},
	{"unawaited", run_unawaited},
	{0},
};
