/* SPDX-License-Identifier: MIT */
/* Processes that are easily taken for one another, or that live in a namespace. */
#include "actor.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIES 40
#define TAKEN 75

static const char last_pid_file[] = "/proc/sys/kernel/ns_last_pid";

/* Forks a child with this PID. Whoever forks between our write and our fork takes it; if
 * it cannot be had, the program ends with TAKEN. In the child it returns 0. */
static pid_t fork_as(pid_t wanted)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", wanted - 1);
	int fd = must(open(last_pid_file, O_WRONLY | O_CLOEXEC), last_pid_file);

	must(flock(fd, LOCK_EX), "flock"); /* others of our kind wait */
	for (int left = TRIES; left; left--) {
		if (kill(wanted, 0) == 0) { /* somebody has it: forking would be in vain */
			usleep(2000);
			continue;
		}
		must(pwrite(fd, text, length, 0), last_pid_file);
		pid_t child = must_fork();
		if (child == 0 && getpid() != wanted)
			_exit(0);
		if (child == 0 || child == wanted) {
			if (child)
				close(fd);
			return child;
		}
		waitpid(child, NULL, 0);
	}
	_exit(TAKEN);
}

static void call_oneself(const char *name)
{
	must(prctl(PR_SET_NAME, name), "prctl");
}

/* reuse: "former" forks "orphan" and ends; then "breeder" creates "latter" with the PID
 * that "former" had. "orphan" and "latter" stay. */
static void run_reuse(int argc, char **argv)
{
	(void)argc, (void)argv;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	report("caller");
	pid_t former = must_fork();
	if (former == 0) {
		call_oneself("former");
		report("former");
		if (must_fork() == 0) {
			call_oneself("orphan");
			report("orphan");
			hold();
			_exit(0);
		}
		_exit(31);
	}
	reap("former-reaped", former);
	pid_t breeder = must_fork();
	if (breeder == 0) {
		call_oneself("breeder");
		report("breeder");
		pid_t latter = fork_as(former);
		if (latter == 0) {
			call_oneself("latter");
			report("latter");
			hold();
			_exit(32);
		}
		reap("latter-reaped", latter);
		_exit(0);
	}
	int status;
	must(waitpid(breeder, &status, 0), "waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == TAKEN)
		_exit(TAKEN); /* "orphan" ends with our input */
	while (reap_any("reaped"))
		;
}

/* lives COUNT: one PID, had by so many processes as fast after one another as it goes */
static void run_lives(int argc, char **argv)
{
	(void)argc;
	report("caller");
	pid_t pid = must_fork();
	if (pid == 0)
		_exit(0);
	reap("life", pid);
	for (int life = 1; life < atoi(argv[0]); life++) {
		pid_t child = fork_as(pid);
		if (child == 0)
			_exit(life & 0xff);
		reap("life", child);
	}
	report("done");
}

/* names COUNT DIRECTORY: one PID, had by DIRECTORY/life-K for each K below COUNT, one after
 * another, and then by DIRECTORY/life-COUNT, which is waited for */
static void run_names(int argc, char **argv)
{
	char path[4096], *program_argv[] = {path, "0", NULL};
	int count = atoi(argv[0]);
	pid_t pid = 0;

	(void)argc;
	for (int life = 0; life <= count; life++) {
		snprintf(path, sizeof(path), "%s/life-%d", argv[1], life);
		pid_t child = life ? fork_as(pid) : must_fork();
		if (child == 0)
			must(execv(path, program_argv), "execv");
		pid = child;
		if (life == count)
			say("{\"role\": \"last\", \"pid\": %d}", pid);
		waitpid(child, NULL, 0);
	}
}

/* pid-namespace: a process that is PID 1 to itself, and its child */
static void run_pid_namespace(int argc, char **argv)
{
	struct clone_args args = {.flags = CLONE_NEWPID, .exit_signal = SIGCHLD};

	(void)argc, (void)argv;
	report("caller");
	pid_t init = must(syscall(SYS_clone3, &args, sizeof(args)), "clone3");
	if (init == 0) {
		report("init");
		say("{\"role\": \"inside\", \"getpid\": %d}", getpid());
		pid_t child = must_fork();
		if (child == 0) {
			report("child");
			say("{\"role\": \"inside-child\", \"getpid\": %d}", getpid());
			hold();
			_exit(2);
		}
		waitpid(child, NULL, 0);
		_exit(1);
	}
	say("{\"role\": \"outside\", \"pid\": %d}", init);
	reap("reaped", init);
}

/* cgroup DIRECTORY: "before"; then moves there and forks "moved"; "placed" is born there
 * by a clone3 from outside */
static void run_cgroup(int argc, char **argv)
{
	char procs[4096], text[16];
	int directory = must(open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC), argv[0]);
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = directory};

	(void)argc;
	pid_t placed = must(syscall(SYS_clone3, &args, sizeof(args)), "clone3");
	if (placed == 0) {
		report("placed");
		hold();
		_exit(0);
	}
	pid_t mover = must_fork();
	if (mover == 0) {
		report("mover");
		snprintf(procs, sizeof(procs), "%s/cgroup.procs", argv[0]);
		int fd = must(open(procs, O_WRONLY | O_CLOEXEC), procs);
		must(write(fd, text, snprintf(text, sizeof(text), "%d", getpid())), procs);
		if (must_fork() == 0) {
			report("moved");
			hold();
			_exit(0);
		}
		while (reap_any("reaped"))
			;
		_exit(0);
	}
	while (reap_any("reaped"))
		;
}

static void __attribute__((noreturn)) stay_as(const char *role)
{
	report(role);
	hold();
	_exit(0);
}

static void bear_one(int number, char *program)
{
	char *argv[] = {program, "executed", NULL};

	switch (number % 5) {
	case 0:
		stay_as("kept");
	case 1:
		report("brief");
		usleep(1000 * (rand() % 30));
		break;
	case 2:
		report("middle");
		if (must_fork() == 0)
			stay_as("kept");
		break;
	case 3:
		report("execer");
		usleep(1000 * (rand() % 30));
		must(execv(program, argv), "execv");
	}
}

/* brood CREATORS LIMIT PROGRAM FD: each creator forks a child every 2 ms or so, at most LIMIT,
 * until FD ends. Of five children one stays until standard input ends, one lives for some
 * ms, one ends at once and leaves a child that stays, one becomes PROGRAM after some ms, and
 * one ends at once.
 */
static void run_brood(int argc, char **argv)
{
	int creators = atoi(argv[0]), limit = atoi(argv[1]);
	struct pollfd stop = {.fd = atoi(argv[3]), .events = POLLIN};

	(void)argc;
	for (int i = 0; i < creators; i++) {
		if (must_fork())
			continue;
		report("creator");
		signal(SIGCHLD, SIG_IGN);
		srand(getpid());
		for (int number = 0; number < limit && poll(&stop, 1, 2) == 0; number++)
			if (must_fork() == 0) {
				close(stop.fd);
				bear_one(number, argv[2]);
				_exit(0);
			}
		stay_as("done");
	}
	close(stop.fd);
	while (wait(NULL) > 0)
		;
}

/* later FD [PROGRAM]: when FD ends, "middle" forks "child" and ends, or becomes PROGRAM */
static void run_later(int argc, char **argv)
{
	pid_t middle = must_fork();
	if (middle == 0) {
		char byte, *program_argv[] = {argc > 1 ? argv[1] : NULL, "executed", NULL};

		report("middle");
		must(read(atoi(argv[0]), &byte, 1), "read");
		if (must_fork() == 0)
			stay_as("child");
		if (argc > 1)
			must(execv(argv[1], program_argv), "execv");
		_exit(0);
	}
	while (reap_any("reaped"))
		;
}

/* zombie: a child that has ended and waits to be waited for */
static void run_zombie(int argc, char **argv)
{
	siginfo_t info;

	(void)argc, (void)argv;
	pid_t child = must_fork();
	if (child == 0) {
		report("child");
		_exit(0);
	}
	must(waitid(P_PID, child, &info, WEXITED | WNOWAIT), "waitid");
	stay_as("parent");
}

/* stuck-exit: the init of a PID namespace that has ended but for one thing: another process
 * of its namespace, which we created, is a zombie as long as we do not wait for it */
static void run_stuck_exit(int argc, char **argv)
{
	struct clone_args args = {.flags = CLONE_NEWPID, .exit_signal = SIGCHLD};
	char path[64];
	siginfo_t info;

	(void)argc, (void)argv;
	pid_t init = must(syscall(SYS_clone3, &args, sizeof(args)), "clone3");
	if (init == 0) {
		hold();
		_exit(0);
	}
	report_child("init", init);
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", init);
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	must(setns(fd, CLONE_NEWPID), "setns");
	pid_t other = must_fork();
	if (other == 0) {
		hold();
		_exit(0);
	}
	kill(init, SIGKILL);
	must(waitid(P_PID, other, &info, WEXITED | WNOWAIT), "waitid");
	report("parent");
	hold();
	waitpid(other, NULL, 0);
	waitpid(init, NULL, 0);
}

const struct test_case identity_cases[] = {
	{"reuse", run_reuse},
	{"lives", run_lives},
	{"names", run_names},
	{"pid-namespace", run_pid_namespace},
	{"cgroup", run_cgroup},
	{"brood", run_brood},
	{"later", run_later},
	{"zombie", run_zombie},
	{"stuck-exit", run_stuck_exit},
	{0},
};
