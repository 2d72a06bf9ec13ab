// SPDX-License-Identifier: MIT
/*
 * The buffer that all records go through, and how they are counted. The loader puts
 * this, filter.bpf.c where it is wanted, and proctree.bpf.c one after another, because
 * BCC knows its maps in one file only.
 */
#include "reading.h"

BPF_PERF_OUTPUT(events);
BPF_PERCPU_ARRAY(counters, struct pt_counters, 1);

/* Counts before it stamps: whoever reads the counters after taking a time T
 * knows of every record stamped before T, also of one still on its way. */
INLINE struct pt_counters *begin(struct pt_header *h, u32 kind)
{
	u32 zero = 0;
	struct pt_counters *c = counters.lookup(&zero);
	if (!c)
		return 0;
	c->begun[kind] += 1;
	h->seq = c->begun[kind];
	h->version = PT_WIRE_VERSION;
	h->kind = kind;
	h->flags = 0;
	h->cpu = bpf_get_smp_processor_id();
	h->time_ns = bpf_ktime_get_boot_ns();
	return c;
}

