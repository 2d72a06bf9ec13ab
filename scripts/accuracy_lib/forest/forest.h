/* SPDX-License-Identifier: MIT */
/* What the files of the forest share; forest.c says what is written. */
#ifndef FOREST_H
#define FOREST_H

#define _GNU_SOURCE
#include <stdint.h>
#include <sys/types.h>

/* One process, for as long as it lives; programs are passed it in their environment. */
struct life {
	pid_t pid; /* in the initial PID namespace */
	long long born; /* CLOCK_BOOTTIME, ns; 0 if the program that comes must say it */
	unsigned long ns; /* its PID namespace */
	pid_t ns_pid; /* its PID there */
	int is_nested; /* whether that is another one than the initial */
	int is_confined; /* whether it has no privilege outside of a user namespace */
	uid_t uid;
	uint64_t seed;
	int budget; /* how many processes it may still create, with all below it */
	int execs; /* how many programs it may still become */
	int is_doomed; /* the descriptor to write to before it waits to be killed, or 0 */
	pid_t creator_pid; /* these four are only told where ``born`` is 0 */
	long long creator_born;
	long long fork_ns;
	pid_t fork_parent;
};

extern struct life me;
extern int truth, pace_ms;
extern char directory[];

long long now_ns(void);
uint32_t draw(struct life *life, uint32_t below);
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
void to_hex(char *out, const char *text, long length);
pid_t parent_of(const struct life *life);

/* births.c */
struct life beget(int share, int is_vforked); /* makes a child, by one of many ways */
int reap(pid_t which); /* tells how a child ended; 0 if there is none */
void be_born(struct life *self, const struct life *creator, long long fork_ns, pid_t parent);
void beget_one(int share);

/* execs.c */
void become(struct life *self) __attribute__((noreturn));
void fail_to_exec(void);
void spawn_one(struct life *child);

/* ends.c */
void leave(void) __attribute__((noreturn));
void wait_to_be_killed(int fd) __attribute__((noreturn));

/* forest.c */
void live(void) __attribute__((noreturn));
long must(long result, int status);

#endif
