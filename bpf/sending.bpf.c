// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The buffer that all samples go through, and how they are counted. The loader puts
 * this, filter.bpf.c where it is wanted, and proctree.bpf.c one after another, because
 * BCC knows its maps in one file only.
 */
#include "reading.h"

BPF_PERF_OUTPUT(events);
BPF_PERCPU_ARRAY(counters, struct pt_counters, 1);

/*
 * For kernels that skip programs. Since Linux 7.0 (a46023d5616e) a program on a tracepoint
 * can be preempted, and until it goes on, the kernel skips it for all other tasks of that
 * CPU (bpf_prog.active; counted as recursion_misses). There each program is attached COPIES
 * times, and for each event the first copy that is not skipped tells of it, and leaves a
 * note for those after it. The others return at once, so each is skipped far less often
 * than the first. A copy is never run twice at once on a CPU, so what each has for itself
 * (counters, scratch sample) has one writer. To disable preemption in a program
 * (bpf_preempt_disable) does not help: it is preempted where it enables it again.
 *
 * An event for which the first copy was skipped is missed unless another copy tells of it: so
 * the others count what they tell.
 *
 * A note is lost if another event needs its slot before the next copy has seen it: then
 * a sample comes twice; the reader drops a second fork or exit. So tasks whose numbers follow one
 * another, as those of a burst do, have slots of their own. The last copy takes a note
 * away; if it was skipped, what the first is skipped for later can be taken for told, if it
 * is of the same kind and the task has the same number.
 */
#if COPIES > 1

#define NOTES_BITS 15
#define NOTED_KINDS 4 /* those that programs are attached for; the first of pt_kind */

BPF_ARRAY(notes, u64, 1 << NOTES_BITS);
BPF_ARRAY(told_by_others, u64, 1);

/* The loader writes each copy's number into its code, in place of this constant. */
INLINE u32 copy_number(void)
{
	u64 number;
	asm volatile("%0 = 0x70747265655f6370 ll" : "=r"(number));
	return number;
}

INLINE u64 *note_of(u64 what)
{
	u32 slot = what & ((1 << NOTES_BITS) - 1);
	return notes.lookup(&slot);
}

/* A task is told of once at a time, so its number and a kind name an event. (Its address would do
 * no better, and is not a number where the verifier knows it as a pointer.) */
INLINE u64 event_name(u64 task, u64 kind)
{
	return read_u32(task, OFF_TASK_PID) * (u64)NOTED_KINDS + kind;
}

/* Copies that interleave, and those on other CPUs, count in the same place. */
INLINE void count_told(void)
{
	u32 zero = 0;
	u64 *told = told_by_others.lookup(&zero);
	if (told)
		lock_xadd(told, 1);
}

/* Whether another copy has told of an event. */
INLINE int is_told_by_another(u64 what)
{
	if (!copy_number())
		return 0;
	u64 *note = note_of(what);
	if (!note || *note != what) {
		count_told();
		return 0;
	}
	if (copy_number() == COPIES - 1)
		*note = 0;
	return 1;
}

INLINE void leave_note(u64 what)
{
	u64 *note = note_of(what);
	if (note && copy_number() != COPIES - 1)
		*note = what;
}

#else

#define copy_number() 0
#define event_name(task, kind) 0
#define is_told_by_another(what) 0
#define leave_note(what) (void)(what)

#endif

/* Counts before it stamps: whoever reads the counters after taking a time T
 * knows of every sample stamped before T, also of one still on its way. */
INLINE struct pt_counters *begin(struct pt_header *h, u32 kind)
{
	u32 zero = 0;
	struct pt_counters *c = counters.lookup(&zero);
	if (!c)
		return 0;
	kind += PT_KINDS * copy_number();
	c->begun[kind] += 1;
	h->seq = c->begun[kind];
	h->version = PT_WIRE_VERSION;
	h->kind = kind;
	h->flags = 0;
	h->cpu = bpf_get_smp_processor_id();
	h->time_ns = bpf_ktime_get_boot_ns();
	return c;
}

INLINE void count_failed(struct pt_counters *c, u32 kind)
{
	c->failed[kind + PT_KINDS * copy_number()] += 1;
}
