/* SPDX-License-Identifier: MIT */
/* quit ... N: exits at once with N modulo 256, the number at the end of its last argument. */
#include "bare.h"

void begin(long *stack)
{
	char **argv = (char **)(stack + 1);
	long code = 0;

	if (stack[0] > 0)
		for (const char *c = argv[stack[0] - 1]; *c; c++)
			code = *c >= '0' && *c <= '9' ? code * 10 + (*c - '0') : 0;
	leave(code & 0xff);
}
