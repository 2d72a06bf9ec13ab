/* SPDX-License-Identifier: MIT */
/* Every way to end. */
#include "forest.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say_so(void)
{
	pid_t parent = parent_of(&me);

	tell("X %d %lld %lld %d\n", me.pid, me.born, now_ns(), parent);
}

static int leader_is_gone(void)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", me.pid);
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), 109);
	text[must(read(fd, text, sizeof(text) - 1), 109)] = 0;
	close(fd);
	return strstr(text, ") Z ") != NULL;
}

static void *outlive_leader(void *unused)
{
	(void)unused;
	while (!leader_is_gone())
		usleep(200);
	if (me.execs > 0 && draw(&me, 2)) {
		me.execs = 0;
		become(&me);
	}
	say_so();
	syscall(SYS_exit, draw(&me, 90));
	return NULL;
}

static void *end_the_group(void *unused)
{
	(void)unused;
	say_so();
	_exit(draw(&me, 90));
}

static void start(void *(*function)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, function, NULL) != 0)
		_exit(108);
}

static void end_by_signal(void)
{
	static const int numbers[] = {SIGKILL, SIGTERM, SIGSEGV, SIGABRT, SIGHUP, SIGUSR1, 34};
	struct rlimit core = {draw(&me, 2) ? 1 << 24 : 0, 1 << 24};
	int number = numbers[draw(&me, 7)];

	if (me.ns_pid == 1) /* it would be ignored */
		return;
	setrlimit(RLIMIT_CORE, &core);
	signal(number, SIG_DFL);
	say_so();
	kill(getpid(), number);
	for (;;)
		pause();
}

void wait_to_be_killed(int fd)
{
	if (write(fd, "r", 1) != 1)
		_exit(107);
	for (;;)
		pause();
}

void leave(void)
{
	/* The init of a PID namespace takes the others with it, who then cannot say how. */
	if (me.ns_pid == 1 || draw(&me, 3))
		while (reap(-1))
			;
	if (pace_ms)
		usleep(1000 * draw(&me, pace_ms));
	switch (draw(&me, 8)) {
	case 0:
		start(outlive_leader);
		syscall(SYS_exit, draw(&me, 90));
		break;
	case 1:
		start(end_the_group);
		for (;;)
			pause();
	case 2:
		end_by_signal();
		break;
	case 3:
		say_so();
		syscall(SYS_exit, draw(&me, 90));
	}
	say_so();
	_exit(draw(&me, 90));
}
