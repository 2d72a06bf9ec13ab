/* SPDX-License-Identifier: MIT */
/* spawner DIRECTORY TOKEN FIRST COUNT CPU PAUSE_US TRUTH: runs DIRECTORY/name-K TOKEN NUMBER
 * for the numbers FIRST, FIRST + 1, ... (K is NUMBER modulo 16), some at once, as fast as it
 * can. TRUTH gets a line "NUMBER PID STATUS" for each. CPU -1 is any. SIGTERM ends it early.
 * It rests for PAUSE_US after each; -N: it begins one every N us, and makes up for a little delay.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 8
#define NAMES 16

static struct {
	pid_t pid;
	int number;
} running[AT_ONCE];

static volatile sig_atomic_t stopped;

static void on_term(int signal)
{
	(void)signal;
	stopped = 1;
}

#define MADE_UP_FOR_NS 100000000LL

/* Waits until it is time for the next one. */
static void await_turn(long interval_us)
{
	static long long next_ns;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	long long now_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	if (next_ns < now_ns - MADE_UP_FOR_NS)
		next_ns = now_ns;
	next_ns += interval_us * 1000;
	struct timespec next = {.tv_sec = next_ns / 1000000000LL, .tv_nsec = next_ns % 1000000000LL};
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
}

/* Waits for one child and returns its slot, now free. */
static int reap_one(FILE *truth)
{
	int status, slot = 0;
	pid_t pid = waitpid(-1, &status, 0);

	if (pid < 0)
		return -1;
	while (running[slot].pid != pid)
		slot++;
	fprintf(truth, "%d %d %d\n", running[slot].number, pid, status);
	running[slot].pid = 0;
	return slot;
}

int main(int argc, char **argv)
{
	char path[4096], number[16];
	char *child_argv[] = {path, argv[2], number, NULL};
	char *no_environment[] = {NULL};

	if (argc != 8)
		return 111;
	int first = atoi(argv[3]), count = atoi(argv[4]), cpu = atoi(argv[5]);
	int pause_us = atoi(argv[6]);
	FILE *truth = fopen(argv[7], "w");
	if (!truth)
		return 111;
	struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	sigaction(SIGTERM, &action, NULL);
	if (cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set) != 0)
			return 111;
	}
	for (int n = 0; n < count && !stopped; n++) {
		int slot = n < AT_ONCE ? n : reap_one(truth);
		snprintf(path, sizeof(path), "%s/name-%d", argv[1], (first + n) % NAMES);
		snprintf(number, sizeof(number), "%d", first + n);
		running[slot].number = first + n;
		if (posix_spawn(&running[slot].pid, path, NULL, NULL, child_argv, no_environment))
			return 112;
		if (pause_us > 0)
			usleep(pause_us);
		else if (pause_us < 0)
			await_turn(-pause_us);
	}
	while (reap_one(truth) >= 0)
		;
	return fclose(truth) ? 111 : 0;
}
