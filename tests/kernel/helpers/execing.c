/* SPDX-License-Identifier: MIT */
/* Ways to exec that a shell does not offer. */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *exec_here(void *argv)
{
	say("{\"role\": \"thread\", \"tid\": %d}", (int)gettid());
	execv(((char **)argv)[0], argv);
	must(-1, "execv");
	return NULL;
}

/* thread-exec PROGRAM ARGS...: exec called by a thread that is not the leader */
static void run_thread_exec(int argc, char **argv)
{
	(void)argc;
	pid_t child = must_fork();
	if (child == 0) {
		report("before");
		start_thread(exec_here, argv);
		for (;;)
			pause();
	}
	reap("process", child);
}

/* memfd PROGRAM NAME ARGS...: execs a copy of PROGRAM that only a descriptor names */
static void run_memfd(int argc, char **argv)
{
	struct stat info;
	int from = must(open(argv[0], O_RDONLY | O_CLOEXEC), argv[0]);
	int fd = must(memfd_create(argv[1], MFD_CLOEXEC), "memfd_create");

	(void)argc;
	must(fstat(from, &info), "fstat");
	must(sendfile(fd, from, NULL, info.st_size) == info.st_size ? 0 : -1, "sendfile");
	report("before");
	say("{\"role\": \"memfd\", \"fd\": %d}", fd);
	must(syscall(SYS_execveat, fd, "", argv + 2, NULL, AT_EMPTY_PATH), "execveat");
}

/* no-args PROGRAM: exec with an empty argv */
static void run_no_args(int argc, char **argv)
{
	char *none[] = {NULL};

	(void)argc;
	report("before");
	must(execve(argv[0], none, none), "execve");
}

/* failing-execs PATH...: tries each and says why it failed */
static void run_failing_execs(int argc, char **argv)
{
	pid_t child = must_fork();
	if (child == 0) {
		for (int i = 0; i < argc; i++) {
			execv(argv[i], argv + i);
			say("{\"role\": \"refused\", \"errno\": %d}", errno);
		}
		_exit(12);
	}
	reap("process", child);
}

/* rename NAME: a process that calls itself so */
static void run_rename(int argc, char **argv)
{
	(void)argc;
	must(prctl(PR_SET_NAME, argv[0]), "prctl");
	report("renamed");
	hold();
}

static void *rename_here(void *name)
{
	must(prctl(PR_SET_NAME, name), "prctl");
	say("{\"role\": \"thread\", \"tid\": %d}", (int)gettid());
	hold();
	return NULL;
}

/* thread-rename NAME: a process of which only a second thread calls itself so */
static void run_thread_rename(int argc, char **argv)
{
	(void)argc;
	report("process");
	start_thread(rename_here, argv[0]);
	hold();
}

static void *rename_leader(void *name)
{
	int fd = must(open("/proc/self/comm", O_WRONLY | O_CLOEXEC), "/proc/self/comm");

	must(write(fd, name, strlen(name)), "/proc/self/comm");
	report("renamed");
	hold();
	exit(0);
}

/* leader-rename NAME: a second thread gives this name to the leader, through /proc */
static void run_leader_rename(int argc, char **argv)
{
	(void)argc;
	start_thread(rename_leader, argv[0]);
	for (;;)
		pause();
}

const struct test_case exec_cases[] = {
	{"thread-exec", run_thread_exec},
	{"memfd", run_memfd},
	{"no-args", run_no_args},
	{"failing-execs", run_failing_execs},
	{"rename", run_rename},
	{"thread-rename", run_thread_rename},
	{"leader-rename", run_leader_rename},
	{0},
};
