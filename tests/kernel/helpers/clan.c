/* SPDX-License-Identifier: MIT */
/* clan TRUTH BUDGET SEED CALM ID: a random family of BUDGET processes, made in every way
 * there is. Each line of the file descriptor TRUTH is written by the process it is about:
 *   F PID CREATOR    it was born, created by CREATOR
 *   E PID ID         it runs a program whose last argument is ID
 *   X PID ID CODE    it is about to exit with CODE; ID is that of its last program
 * All hold TRUTH open, so its end says that they are gone. In a CALM family nothing
 * happens at the same time: each one waits for all that it begot.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_CHILDREN 5

static int truth, calm;
static uint64_t seed;
static char id[32], program[4096];

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33) % below;
}

static void tell(const char *format, ...)
{
	char line[128];
	va_list args;
	__builtin_va_start(args, format);
	int length = vsnprintf(line, sizeof(line), format, args);
	__builtin_va_end(args);
	if (write(truth, line, length) != length) /* less than PIPE_BUF: in one piece */
		_exit(120);
}

static void leave(void)
{
	int code = draw(120);
	tell("X %d %s %d\n", getpid(), id, code);
	_exit(code);
}

static void become(int budget)
{
	char numbers[4][24], next[32];
	snprintf(next, sizeof(next), "%08x%08x", draw(1u << 31), (unsigned)getpid());
	snprintf(numbers[0], 24, "%d", truth);
	snprintf(numbers[1], 24, "%d", budget);
	snprintf(numbers[2], 24, "%llu", (unsigned long long)seed + 1);
	snprintf(numbers[3], 24, "%d", calm);
	/* In a vforked child the creator's memory is ours: nothing of it is changed. */
	char *argv[] = {"member", numbers[0], numbers[1], numbers[2], numbers[3], next, NULL};
	char *envp[] = {NULL};
	execve(program, argv, envp);
	_exit(121);
}

static void grow(int budget);

/* Lets the next PID be one that was had before. */
static void rewind_pids(pid_t former)
{
	char text[16];
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	int length = snprintf(text, sizeof(text), "%d", former - 1);
	if (fd >= 0) {
		if (write(fd, text, length) != length)
			_exit(122);
		close(fd);
	}
}

static pid_t beget(int way, int share)
{
	pid_t creator = getpid(), child;
	uint64_t kept = seed;

	if (way == 0) {
		child = vfork();
		if (child == 0) {
			tell("F %d %d\n", getpid(), creator);
			become(share);
		}
		seed = kept * 3 + 7; /* become() has drawn from our seed */
		return child;
	}
	child = fork();
	if (child < 0)
		_exit(123);
	if (child)
		return child;
	tell("F %d %d\n", getpid(), creator);
	seed += way;
	if (way == 1) /* never execs */
		grow(share);
	if (way == 2) /* execs later, in another session */
		setsid();
	if (way == 3) { /* a daemon: the one between ends at once */
		pid_t between = getpid();
		if (fork() == 0) {
			tell("F %d %d\n", getpid(), between);
			while (calm && getppid() == between)
				usleep(100);
			setsid();
			if (draw(2))
				become(share - 1);
			grow(share - 1);
		}
		leave();
	}
	become(share);
	return 0;
}

static void grow(int budget)
{
	pid_t former = 0;

	budget--; /* ourselves */
	for (int left = MOST_CHILDREN; left && budget > 0; left--) {
		int share = left == 1 ? budget : 1 + (int)draw(budget);
		int ends[2];
		if (calm && pipe(ends))
			_exit(124);
		int way = share > 1 ? draw(4) : draw(3);
		if (former && draw(4) == 0)
			rewind_pids(former);
		pid_t child = beget(way, share);
		budget -= share;
		if (calm) { /* the end of the pipe is the end of all that hold it */
			char byte;
			close(ends[1]);
			if (read(ends[0], &byte, 1) != 0)
				_exit(125);
			close(ends[0]);
		}
		if (calm || draw(3)) {
			waitpid(child, NULL, 0);
			former = child;
		}
		/* Becomes another program while its children live, and goes on. */
		if (!calm && budget > 0 && draw(6) == 0)
			become(budget + 1);
	}
	if (!calm && draw(3)) /* others leave orphans */
		while (waitpid(-1, NULL, 0) > 0)
			;
	leave();
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 119;
	truth = atoi(argv[1]);
	seed = strtoull(argv[3], NULL, 10);
	calm = atoi(argv[4]);
	snprintf(id, sizeof(id), "%s", argv[5]);
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (length < 0)
		return 118;
	tell("E %d %s\n", getpid(), id);
	grow(atoi(argv[2]));
}
