/* SPDX-License-Identifier: MIT */
/* What the cases of the actor share. Each report is one JSON object on one line. */
#ifndef ACTOR_H
#define ACTOR_H

#define _GNU_SOURCE
#include <sys/types.h>

/* Says a line, formatted as by printf, in one write. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says who the calling process is, from /proc/self/stat. */
void report(const char *role);

/* Says who a child is that has not been waited for, from its own stat. */
void report_child(const char *role, pid_t pid);

/* Stays until standard input ends. */
void hold(void);

/* Waits for a child; says its identity, from /proc before it is reaped, and its status. */
void reap(const char *role, pid_t pid);

/* Waits for any child, with the same report. Returns its PID, or 0 if there is none. */
pid_t reap_any(const char *role);

/* Ends the program with the reason if a call returned a negative number. */
long must(long result, const char *call);

/* fork() that must succeed. */
pid_t must_fork(void);

/* Runs a function in a new thread. */
void start_thread(void *(*function)(void *), void *argument);

typedef void (*case_function)(int argc, char **argv);

struct test_case {
	const char *name;
	case_function run; /* gets the arguments after the name */
};

extern const struct test_case creation_cases[], exit_cases[], exec_cases[], identity_cases[],
	adoption_cases[];

#endif
