/* SPDX-License-Identifier: MIT */
/* forest TRUTH SEED BUDGET PACE_MS DIRECTORY: a random forest of BUDGET processes, made, renamed,
 * executed and ended in every way there is. DIRECTORY holds programs that are this one. The file
 * TRUTH, to which all append, gets a line from whoever knows. Times are CLOCK_BOOTTIME
 * in ns; PIDs those of the initial PID namespace; texts hexadecimal behind an x.
 *
 *   B PID BORN CREATOR-PID CREATOR-BORN T0 PARENT0 PARENT1 NS NS-PID OUTER-NS OUTER-PID UID NAME
 *       it was born between T0 and BORN; its parent was one of the two; NAME is "-" if it execed
 *   E PID BORN T0 PARENT0 T1 PARENT1 UID NAME EXECUTABLE ARGUMENT...   it became another program
 *   N PID BORN T0 T1 NAME       it took another name
 *   U PID BORN T0 T1 UID        it became another user
 *   X PID BORN T0 PARENT        it is about to end
 *   K NS NS-PID T0              somebody is about to kill it
 *   W NS NS-PID STATUS T1 PID   it has ended, and waits for PID, which is about to wait for it
 *   R PID BORN NS UID NAME EXECUTABLE ARGUMENT...   the root of the forest
 */
#include "forest.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define USERS 5
#define FIRST_USER 60100

struct life me;
int truth, pace_ms;
char directory[1024];

long must(long result, int status)
{
	if (result < 0)
		_exit(status);
	return result;
}

long long now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

uint32_t draw(struct life *life, uint32_t below)
{
	life->seed = life->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(life->seed >> 33) % below;
}

/* Keeps everything on the stack: in a vforked child, our memory is our creator's. */
void tell(const char *format, ...)
{
	char line[40000];
	va_list args;

	va_start(args, format);
	int length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(truth, line, length) != length)
		_exit(120);
}

void to_hex(char *out, const char *text, long length)
{
	*out++ = 'x';
	for (long i = 0; i < length; i++)
		out += sprintf(out, "%02x", (unsigned char)text[i]);
	*out = 0;
}

pid_t parent_of(const struct life *life)
{
	char text[512];

	if (!life->is_nested)
		return getppid();
	int fd = must(open("/proc/self/stat", O_RDONLY | O_CLOEXEC), 121);
	text[must(read(fd, text, sizeof(text) - 1), 121)] = 0;
	close(fd);
	return atoi(strrchr(text, ')') + 4);
}

static const char *const names[] = {"oak", "elm", "ash", "", "\xff\xfe odd", "a;b|c", "fifteen-letters"};

static void take_name(void)
{
	const char *name = names[draw(&me, sizeof(names) / sizeof(*names))];
	char hex[64];
	long long before = now_ns();

	prctl(PR_SET_NAME, name);
	to_hex(hex, name, strlen(name));
	tell("N %d %lld %lld %lld %s\n", me.pid, me.born, before, now_ns(), hex);
}

static void *call_thread_something(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "only-a-thread");
	return NULL;
}

static void name_a_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, call_thread_something, NULL) == 0)
		pthread_join(thread, NULL);
}

static void change_user(void)
{
	uid_t uid = FIRST_USER + draw(&me, USERS);
	long long before = now_ns();

	if (me.is_confined || setresuid(uid, uid, uid) != 0)
		return;
	me.uid = uid;
	tell("U %d %lld %lld %lld %u\n", me.pid, me.born, before, now_ns(), uid);
}

static void do_something(void)
{
	switch (draw(&me, 8)) {
	case 0:
	case 1:
		take_name();
		break;
	case 2:
		name_a_thread();
		break;
	case 3:
		if (draw(&me, 3) == 0)
			change_user();
		break;
	case 4:
		setsid();
		break;
	case 5:
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		break;
	case 6:
		fail_to_exec();
		break;
	default:
		usleep(draw(&me, 2000));
	}
}

void live(void)
{
	if (me.is_doomed && (!me.execs || draw(&me, 2)))
		wait_to_be_killed(me.is_doomed);
	for (;;) {
		uint32_t drawn = draw(&me, 10);
		if (drawn < 2 && me.execs > 0) {
			me.execs--;
			become(&me);
		}
		if (drawn < 5)
			do_something();
		else if (me.is_doomed)
			wait_to_be_killed(me.is_doomed);
		else if (me.budget > 0)
			beget_one(1 + draw(&me, me.budget));
		else
			leave();
	}
}

/* Says what this program is: its name, its file and its arguments. */
static void describe(char *line, int argc, char **argv)
{
	char text[16], path[4000];

	prctl(PR_GET_NAME, text);
	to_hex(line, text, strnlen(text, sizeof(text)));
	line += strlen(line);
	*line++ = ' ';
	to_hex(line, path, must(readlink("/proc/self/exe", path, sizeof(path)), 117));
	for (int i = 0; i < argc; i++) {
		line += strlen(line);
		*line++ = ' ';
		to_hex(line, argv[i], strlen(argv[i]));
	}
}

static void come_from_exec(int argc, char **argv, const char *state)
{
	long long before;
	int parent;
	char line[36000];

	if (sscanf(state, "%d %d %lld %lu %d %d %d %u %lu %d %d %d %d %lld %lld %d %lld %d %1000s",
		   &truth, &me.pid, &me.born, &me.ns, &me.ns_pid, &me.is_nested, &me.is_confined,
		   &me.uid, &me.seed, &me.budget, &me.execs, &me.is_doomed, &me.creator_pid,
		   &me.creator_born, &me.fork_ns, &me.fork_parent, &before, &parent,
		   directory) != 19)
		_exit(118);
	pace_ms = atoi(getenv("FOREST_PACE_MS"));
	if (!me.born) {
		struct life creator = me, self = me;
		creator.pid = me.creator_pid;
		creator.born = me.creator_born;
		be_born(&self, &creator, me.fork_ns, -1);
		me = self;
		parent = me.fork_parent;
	}
	describe(line, argc, argv);
	pid_t parent_now = parent_of(&me);
	tell("E %d %lld %lld %d %lld %d %u %s\n", me.pid, me.born, before, parent, now_ns(),
	     parent_now, me.uid, line);
	live();
}

int main(int argc, char **argv)
{
	const char *state = getenv("FOREST");
	struct stat info;
	char line[36000];

	if (state)
		come_from_exec(argc, argv, state);
	if (argc != 6)
		return 119;
	truth = must(open(argv[1], O_WRONLY | O_APPEND), 114);
	must(stat("/proc/self/ns/pid", &info), 116);
	me = (struct life){.pid = getpid(), .ns_pid = getpid(), .ns = info.st_ino, .uid = getuid()};
	me.seed = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15ULL + 1;
	me.budget = atoi(argv[3]);
	pace_ms = atoi(argv[4]);
	setenv("FOREST_PACE_MS", argv[4], 1);
	snprintf(directory, sizeof(directory), "%s", argv[5]);
	must(chdir(directory), 115);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	me.born = now_ns();
	describe(line, argc, argv);
	tell("R %d %lld %lu %u %s\n", me.pid, me.born, me.ns, me.uid, line);
	while (me.budget > 0)
		beget_one(1 + draw(&me, me.budget < 60 ? me.budget : 60));
	while (reap(-1))
		;
	return 0;
}
