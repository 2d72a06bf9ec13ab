/* SPDX-License-Identifier: MIT */
/* actor CASE [ARGS...]: does what a test wants to see traced, and says what it did. */
#include "actor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void say(const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	int length = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	line[length++] = '\n';
	if (write(1, line, length) != length)
		_exit(111);
}

struct stat_line {
	int pid, ppid;
	unsigned long long start; /* ticks since boot */
};

static struct stat_line read_stat(const char *path)
{
	char text[1024];
	struct stat_line stat = {0};
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	int length = must(read(fd, text, sizeof(text) - 1), "read");

	close(fd);
	text[length] = 0;
	stat.pid = atoi(text);
	char *rest = strrchr(text, ')') + 1;
	for (int field = 3; field <= 22; field++) {
		char *word = strtok_r(field == 3 ? rest : NULL, " ", &rest);
		if (field == 4)
			stat.ppid = atoi(word);
		if (field == 22)
			stat.start = strtoull(word, NULL, 10);
	}
	return stat;
}

static void report_stat(const char *role, const char *path)
{
	struct stat_line stat = read_stat(path);

	say("{\"role\": \"%s\", \"pid\": %d, \"ppid\": %d, \"start\": %llu}", role, stat.pid,
	    stat.ppid, stat.start);
}

void report(const char *role)
{
	report_stat(role, "/proc/self/stat");
}

void report_child(const char *role, pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	report_stat(role, path);
}

void hold(void)
{
	char byte;

	while (read(0, &byte, 1) > 0)
		;
}

static pid_t reap_child(const char *role, idtype_t which, pid_t pid)
{
	char path[32];
	siginfo_t info;
	int status;

	if (waitid(which, pid, &info, WEXITED | WNOWAIT) < 0 && errno == ECHILD)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", info.si_pid);
	struct stat_line child = read_stat(path);
	must(waitpid(info.si_pid, &status, 0), "waitpid");
	say("{\"role\": \"%s\", \"pid\": %d, \"ppid\": %d, \"start\": %llu, \"status\": %d}", role,
	    child.pid, child.ppid, child.start, status);
	return child.pid;
}

void reap(const char *role, pid_t pid)
{
	must(reap_child(role, P_PID, pid) == pid ? 0 : -1, "reap");
}

pid_t reap_any(const char *role)
{
	return reap_child(role, P_ALL, 0);
}

long must(long result, const char *call)
{
	if (result < 0) {
		dprintf(2, "actor: %s: %s\n", call, strerror(errno));
		_exit(111);
	}
	return result;
}

pid_t must_fork(void)
{
	return must(fork(), "fork");
}

void start_thread(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	if ((errno = pthread_create(&thread, NULL, function, argument)) != 0)
		must(-1, "pthread_create");
	pthread_detach(thread);
}

int main(int argc, char **argv)
{
	const struct test_case *topics[] = {
		creation_cases, exit_cases, exec_cases, identity_cases, adoption_cases
	};

	for (size_t topic = 0; argc > 1 && topic < sizeof(topics) / sizeof(*topics); topic++)
		for (const struct test_case *c = topics[topic]; c->name; c++)
			if (strcmp(c->name, argv[1]) == 0) {
				c->run(argc - 2, argv + 2);
				return 0;
			}
	dprintf(2, "actor: no such case\n");
	return 111;
}
