/* SPDX-License-Identifier: MIT */
/* Every way to become another program, and to fail in it. */
#include "forest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_ARGS 12
#define MOST_BYTES 3000

/* What is executed: programs and scripts that DIRECTORY holds under these names. */
static const char *const programs[] = {
	"oak", "elm", "ash", "a b", "\xff\xfe", "semi;pipe|", "a-name-of-more-than-fifteen-bytes",
	"new\nline", "script", "script-of-script", "elm", "ash",
};
#define PROGRAMS (sizeof(programs) / sizeof(*programs))

struct plan {
	char path[2048], state[2048], pace[64], text[MOST_BYTES + 64];
	char *argv[MOST_ARGS + 2], *envp[3];
	const char *name;
	int fd;
};

static void write_state(struct plan *plan, const struct life *life)
{
	snprintf(plan->state, sizeof(plan->state),
		 "FOREST=%d %d %lld %lu %d %d %d %u %lu %d %d %d %d %lld %lld %d %lld %d %s", truth,
		 life->pid, life->born, life->ns, life->ns_pid, life->is_nested,
		 life->is_confined, life->uid, life->seed + 1, life->budget, life->execs,
		 life->is_doomed, life->creator_pid, life->creator_born, life->fork_ns,
		 life->fork_parent, now_ns(), parent_of(life), directory);
	snprintf(plan->pace, sizeof(plan->pace), "FOREST_PACE_MS=%d", pace_ms);
	plan->envp[0] = plan->state;
	plan->envp[1] = plan->pace;
	plan->envp[2] = NULL;
}

/* Draws what is executed and random bytes as its arguments. */
static void make_plan(struct plan *plan, struct life *life)
{
	int count = draw(life, MOST_ARGS), used = 0;

	plan->name = programs[draw(life, PROGRAMS)];
	plan->fd = -1;
	snprintf(plan->path, sizeof(plan->path), "%s/%s", directory, plan->name);
	for (int i = 0; i < count; i++) {
		int length = draw(life, 8) ? draw(life, 12) : draw(life, MOST_BYTES / MOST_ARGS);
		plan->argv[i] = plan->text + used;
		for (int n = 0; n < length; n++)
			plan->text[used++] = 1 + draw(life, draw(life, 4) ? 127 : 255);
		plan->text[used++] = 0;
	}
	plan->argv[count] = NULL;
}

/* Makes it a copy that only a descriptor names. */
static void load_into_memory(struct plan *plan)
{
	struct stat info;
	int from = must(open("/proc/thread-self/exe", O_RDONLY | O_CLOEXEC), 112);

	plan->fd = must(syscall(SYS_memfd_create, "in memory", MFD_CLOEXEC), 112);
	must(fstat(from, &info), 112);
	if (sendfile(plan->fd, from, NULL, info.st_size) != info.st_size)
		_exit(112);
	close(from);
}

static void *carry_out(void *planned)
{
	struct plan *plan = planned;

	if (plan->fd >= 0)
		syscall(SYS_execveat, plan->fd, "", plan->argv, plan->envp, AT_EMPTY_PATH);
	else
		execve(plan->path, plan->argv, plan->envp);
	_exit(111);
}

/* ``life`` is in memory of its own, also in a vforked child, and is changed. */
void become(struct life *life)
{
	struct plan plan;
	pthread_t thread;

	make_plan(&plan, life);
	/* In a vforked child neither threads nor mappings are its own. */
	int is_own = life == &me;
	if (is_own && draw(life, 8) == 0)
		load_into_memory(&plan);
	int by_thread = is_own && draw(life, 5) == 0;
	write_state(&plan, life);
	if (by_thread && pthread_create(&thread, NULL, carry_out, &plan) == 0)
		for (;;)
			pause();
	carry_out(&plan);
	_exit(111);
}

void spawn_one(struct life *child)
{
	struct plan plan;
	pid_t pid;

	make_plan(&plan, child);
	write_state(&plan, child);
	must(-posix_spawn(&pid, plan.path, NULL, NULL, plan.argv, plan.envp), 110);
	child->ns_pid = pid;
}

void fail_to_exec(void)
{
	static const char *const paths[] = {"/nowhere/at-all", "/etc/passwd", "/proc", "not-a-program"};
	char *argv[] = {"never", "seen", NULL}, *envp[] = {NULL};
	char path[2048];

	for (int left = 1 + draw(&me, 3); left; left--) {
		const char *name = paths[draw(&me, 4)];
		snprintf(path, sizeof(path), "%s%s%s", *name == '/' ? "" : directory,
			 *name == '/' ? "" : "/", name);
		execve(path, argv, envp);
	}
}
