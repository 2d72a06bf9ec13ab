/* SPDX-License-Identifier: MIT */
/* idle_processes flat|chain N: N processes that do nothing, side by side or each created by the one
 * before; once all are there, writes the PID of the last one. All end with the first.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Ends with its creator, which may have ended already. */
static void follow(pid_t creator)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != creator)
		_exit(1);
}

static void rest(void)
{
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 111;
	int is_chain = strcmp(argv[1], "chain") == 0;
	int count = atoi(argv[2]);
	pid_t last = getpid();

	for (int n = 0; n < count; n++) {
		pid_t creator = getpid();
		pid_t pid = fork();

		if (pid < 0) {
			perror("idle_processes");
			return 112;
		}
		if (pid == 0) {
			follow(creator);
			if (!is_chain)
				rest();
			last = getpid();
		} else {
			if (is_chain)
				rest();
			last = pid;
		}
	}
	printf("%d\n", last);
	fflush(stdout);
	rest();
}
