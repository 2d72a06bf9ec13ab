/* SPDX-License-Identifier: MIT */
/* Every way in which a process gets another parent. Where one waits for a line, no other
 * reads standard input meanwhile. */
#include "actor.h"

#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES 4000

static void become_subreaper(void)
{
	must(prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl");
}

static void await_line(void)
{
	char byte;

	must(read(0, &byte, 1), "read");
}

static void await_other_parent(pid_t parent)
{
	while (getppid() == parent)
		usleep(500);
}

static void reap_all(void)
{
	while (reap_any("reaped"))
		;
}

/* Forks a child that ends with its own child, "orphan", left behind; which may wait for yet
 * another parent, and report "again". */
static void leave_an_orphan(int is_left_again)
{
	if (must_fork())
		return;
	pid_t self = getpid();
	report("middle");
	if (must_fork())
		_exit(0);
	await_other_parent(self);
	report("orphan");
	if (is_left_again) {
		await_other_parent(getppid());
		report("again");
	}
	hold();
	_exit(0);
}

/* nested-subreapers: "outer" has "inner" has "middle", which ends; at a line, "inner" does */
static void run_nested_subreapers(int argc, char **argv)
{
	(void)argc, (void)argv;
	become_subreaper();
	report("outer");
	if (must_fork() == 0) {
		become_subreaper();
		report("inner");
		leave_an_orphan(1);
		await_line();
		_exit(0);
	}
	reap_all();
}

/* former-subreaper: as before, but "inner" is none any more when it has forked */
static void run_former_subreaper(int argc, char **argv)
{
	(void)argc, (void)argv;
	become_subreaper();
	report("outer");
	if (must_fork() == 0) {
		become_subreaper();
		must(prctl(PR_SET_CHILD_SUBREAPER, 0), "prctl");
		report("inner");
		leave_an_orphan(0);
		hold();
		_exit(0);
	}
	reap_all();
}

static pid_t clone_with(uint64_t flags)
{
	struct clone_args args = {.flags = flags, .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD};

	return must(syscall(SYS_clone3, &args, sizeof(args)), "clone3");
}

/* namespace: "init" of a PID namespace below the subreaper "outer" has "middle", which ends */
static void run_namespace(int argc, char **argv)
{
	(void)argc, (void)argv;
	become_subreaper();
	report("outer");
	if (clone_with(CLONE_NEWPID) == 0) {
		report("init");
		leave_an_orphan(0);
		hold();
		_exit(0);
	}
	reap_all();
}

/* deep LEVELS: "middle" is so far below the subreaper "outer" when it ends */
static void run_deep(int argc, char **argv)
{
	(void)argc;
	become_subreaper();
	report("outer");
	for (int left = atoi(argv[0]) - 2; left > 0; left--)
		if (must_fork()) {
			reap_all();
			_exit(0);
		}
	leave_an_orphan(0);
	reap_all();
}

static void *leave_a_child(void *unused)
{
	(void)unused;
	pid_t self = getpid();
	if (must_fork() == 0) {
		close_range(3, ~0U, 0);
		report("child");
		await_other_parent(self);
		report("orphan");
		hold();
		_exit(0);
	}
	return NULL;
}

static void leave_children_of_threads(int count)
{
	pthread_t threads[count];

	for (int i = 0; i < count; i++)
		must(-pthread_create(&threads[i], NULL, leave_a_child, NULL), "pthread_create");
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

/* thread-ends-first THREADS: each forks "child" and ends; at a line, their process "middle" does */
static void run_thread_ends_first(int argc, char **argv)
{
	(void)argc;
	become_subreaper();
	report("outer");
	if (must_fork() == 0) {
		leave_children_of_threads(atoi(argv[0]));
		report("middle");
		await_line();
		_exit(0);
	}
	reap_all();
}

/* It closes so many files of its own when it ends that others, which began later, are faster. */
static void *fork_and_end_slowly(void *unused)
{
	struct rlimit most = {FILES + 100, FILES + 100};

	must(setrlimit(RLIMIT_NOFILE, &most), "setrlimit");
	must(unshare(CLONE_FILES), "unshare");
	for (int left = FILES; left; left--)
		must(eventfd(0, EFD_CLOEXEC), "eventfd");
	leave_a_child(unused);
	pause();
	return NULL;
}

/* threads-end-together PROCESSES: at a line, each "middle" is killed, with a thread that has
 * "child" and ends slowly */
static void run_threads_end_together(int argc, char **argv)
{
	(void)argc;
	become_subreaper();
	report("outer");
	int count = atoi(argv[0]);
	pid_t middles[count];
	for (int i = 0; i < count; i++)
		if ((middles[i] = must_fork()) == 0) {
			start_thread(fork_and_end_slowly, NULL);
			pause();
		}
	await_line();
	for (int i = 0; i < count; i++)
		kill(middles[i], SIGKILL);
	reap_all();
}

/* clone-parent-orphan: "caller" has "sibling" by CLONE_PARENT; at a line, "middle", the parent
 * of both, ends */
static void run_clone_parent_orphan(int argc, char **argv)
{
	(void)argc, (void)argv;
	become_subreaper();
	report("outer");
	if (must_fork() == 0) {
		pid_t self = getpid();
		report("middle");
		if (must_fork() == 0) {
			report("caller");
			int is_sibling = clone_with(CLONE_PARENT) == 0;
			if (is_sibling)
				report("sibling");
			await_other_parent(self);
			report(is_sibling ? "orphan" : "again");
			hold();
			_exit(0);
		}
		await_line();
		_exit(0);
	}
	reap_all();
}

static void grow(unsigned seed, int depth, int ending)
{
born:
	if (rand_r(&seed) % 3 == 0)
		become_subreaper();
	for (int left = depth ? 1 + rand_r(&seed) % 3 : 0; left; left--) {
		unsigned next = rand_r(&seed);
		if (must_fork() == 0) {
			seed = next;
			depth--;
			goto born;
		}
	}
	if (depth && rand_r(&seed) % 4) {
		usleep(rand_r(&seed) % 4000);
		_exit(0);
	}
	report("survivor");
	close(ending);
	hold();
	_exit(0);
}

/* storm SEED: a forest in which most end at about the same time, subreapers too; "quiet" once
 * all of those have */
static void run_storm(int argc, char **argv)
{
	int ends[2];
	char byte;

	(void)argc;
	become_subreaper();
	must(pipe(ends), "pipe");
	for (int tree = 0; tree < 3; tree++)
		if (must_fork() == 0)
			grow(atoi(argv[0]) * 3 + tree, 5, ends[1]);
	close(ends[1]);
	while (read(ends[0], &byte, 1) > 0)
		;
	report("quiet");
	hold();
	while (wait(NULL) > 0)
		;
}

const struct test_case adoption_cases[] = {
	{"nested-subreapers", run_nested_subreapers},
	{"former-subreaper", run_former_subreaper},
	{"namespace", run_namespace},
	{"deep", run_deep},
	{"thread-ends-first", run_thread_ends_first},
	{"threads-end-together", run_threads_end_together},
	{"clone-parent-orphan", run_clone_parent_orphan},
	{"storm", run_storm},
	{0},
};
