// SPDX-License-Identifier: MIT
/*
 * Leaves out what does not run under the processes that are followed.
 *
 * The reader has the last word: what is sent here may be more than is wanted, and is
 * never less. A process is followed if its creator was when it was born, if it was seeded
 * so, or once its name is in the map of names, or the file that it runs in that of files;
 * for the rest of its life. Its ancestors are announced: the reader is told of them and of
 * each change in them, because their names are shown.
 *
 * The hand-over, without a window in which a child can slip through:
 *
 * 1. After attaching, everything is sent; births, names and ends are noted in procs.
 * 2. The reader reads /proc, applies what came meanwhile, and clears the doubt.
 * 3. When all that happened before that has been applied, it writes a seed for each
 *    process that it knows to live, and only then sets filtering.
 * 4. A child that was born meanwhile has no seed, so the answer is looked for with its
 *    creators, in procs and in seeds, at the first event for which it is needed. If it is
 *    followed, its ancestors are announced then.
 * 5. What cannot be decided here raises a doubt: from that very record on everything is
 *    sent again. The reader then looks at /proc and at procs, and begins at 2.
 *
 * procs keeps a process that has ended while any that it created is kept, so the way up
 * is whole also behind a double fork. An entry is removed by whoever drops the last
 * reference and finds the entry still there; so it happens once. While there is a doubt,
 * nothing is removed: the reader must find whoever it did not know. It then removes the
 * dead that have no children itself, from below.
 */

#define MAX_UNSEEDED 8 /* births in a row between the seeds and the filter */
#define MAX_ANCESTORS 24
#define MAX_RELEASED 32 /* of a longer line of the dead, the upper part stays in procs */

enum verdict {
	DROPS = 0,
	SENDS = 1,
	JOINS = 2, /* is followed, and its ancestors are to be announced */
	JOINS_LATE = 3, /* as well, and raises a doubt */
	DOUBTS = 16, /* plus a pt_why */
};

enum answer {
	NO = 0,
	YES = 1,
	UNKNOWN = 2,
};

struct name {
	char comm[PT_COMM_LEN];
};

BPF_HASH(procs, struct pt_key, struct pt_proc, MAX_PROCS);
BPF_HASH(seeds, struct pt_key, struct pt_seed, MAX_PROCS);
BPF_HASH(names, struct name, u8, MAX_NAMES);
#ifdef FILTER_BY_FILE
BPF_HASH(files, struct pt_file, u8, MAX_NAMES);
BPF_PERCPU_ARRAY(file_at_hand, struct pt_file, 1);
#endif
BPF_ARRAY(control, struct pt_control, 1);
BPF_ARRAY(doubt, struct pt_doubt, 1);

/* The generation of the seeds while the filter is in force, else 0. */
INLINE u32 generation_in_force(void)
{
	u32 zero = 0;
	struct pt_control *set = control.lookup(&zero);
	struct pt_doubt *d = doubt.lookup(&zero);
	if (!set || !d || !set->filtering || d->why)
		return 0;
	return set->generation;
}

/* To be called once the record is counted and stamped, and before it is sent: so whoever
 * has received it can see the doubt. */
INLINE void doubt_if(u32 verdict, struct pt_header *h)
{
	u32 zero = 0;
	if (verdict < DOUBTS)
		return;
	struct pt_doubt *d = doubt.lookup(&zero);
	if (!d || d->why)
		return;
	d->since_ns = h->time_ns;
	d->why = verdict - DOUBTS;
}

INLINE int is_doubting(void)
{
	u32 zero = 0;
	struct pt_doubt *d = doubt.lookup(&zero);
	return d && d->why;
}

INLINE u32 drop(void)
{
	u32 zero = 0;
	struct pt_counters *c = counters.lookup(&zero);
	if (c)
		c->dropped += 1;
	return DROPS;
}

INLINE struct pt_key key_of(u64 task)
{
	struct pt_key key = {.start_ns = start_of(task), .tgid = read_u32(task, OFF_TASK_TGID)};
	return key;
}

/* The reader may know only the tick in which a process started. */
INLINE struct pt_seed *seed_of(struct pt_key *key)
{
	struct pt_seed *seed = seeds.lookup(key);
	if (seed)
		return seed;
	struct pt_key tick = {
		.start_ns = key->start_ns / PT_TICK_NS * PT_TICK_NS, .tgid = key->tgid
	};
	return seeds.lookup(&tick);
}

/* Whether a process is followed, as those above it say. */
INLINE u32 ask_above(struct pt_key *who, u32 generation)
{
	struct pt_key key = *who;

#pragma nounroll
	for (int step = 0; step < MAX_UNSEEDED; step++) {
		struct pt_proc *p = procs.lookup(&key);
		if (p && p->followed)
			return YES;
		if (p && p->generation == generation)
			return NO;
		struct pt_seed *seed = seed_of(&key);
		if (seed)
			return seed->followed ? YES : NO;
		if (!p || !p->creator.tgid)
			return UNKNOWN;
		key = p->creator;
	}
	return UNKNOWN;
}

/* Decides, once for each generation of seeds. */
INLINE u32 is_followed(struct pt_key *key, struct pt_proc *p, u32 generation)
{
	if (p->generation == generation)
		return p->followed ? YES : NO;
	u32 answer = p->followed ? YES : ask_above(key, generation);
	if (answer == UNKNOWN)
		return UNKNOWN;
	struct pt_seed *seed = seed_of(key);
	if (seed) {
		seed->exact_ns = key->start_ns;
		if (seed->announced)
			p->announced = generation;
		if (!p->creator.tgid)
			p->creator = seed->creator;
	}
	p->followed = answer;
	p->generation = generation;
	return answer;
}

INLINE void note_user(struct pt_proc *p, u64 task)
{
	u64 cred = read_u64(task, OFF_TASK_REAL_CRED);
	p->uid = read_u32(cred, OFF_CRED_UID);
	p->gid = read_u32(cred, OFF_CRED_GID);
}

INLINE int is_wanted(char *comm)
{
	struct name name = {};
	bpf_probe_read_kernel_str(name.comm, PT_COMM_LEN, comm);
	return names.lookup(&name) != 0;
}

#ifdef FILTER_BY_FILE
INLINE int runs_wanted(char *components, u32 len)
{
	u32 zero = 0;
	u64 n = len;
	struct pt_file *file = file_at_hand.lookup(&zero);
	if (!file || !n)
		return 0;
	asm volatile("" : "+r"(n));
	if (n > sizeof(*file))
		return 0;
	__builtin_memset(file, 0, sizeof(*file));
	bpf_probe_read_kernel(file, n, components);
	return files.lookup(file) != 0;
}
#endif

/* What is noted of a living process; begun now for one that was there before us. */
INLINE struct pt_proc *entry_of(struct pt_key *key)
{
	struct pt_proc *p = procs.lookup(key);
	if (p)
		return p;
	struct pt_proc fresh = {.refs = 1, .has_children = 1, .uncounted = 1};
	struct pt_seed *seed = seed_of(key);
	if (seed)
		fresh.creator = seed->creator;
	procs.update(key, &fresh);
	return procs.lookup(key);
}

INLINE u32 filter_fork(u64 task, u64 child)
{
	u32 generation = generation_in_force();
	struct pt_key creator = key_of(task), key = key_of(child);
	struct pt_proc fresh = {.creator = creator, .refs = 1};
	u32 answer = UNKNOWN, verdict = SENDS;

	read_comm(fresh.comm, child);
	note_user(&fresh, child);
	struct pt_proc *p = procs.lookup(&creator);
	if (p) {
		__sync_fetch_and_add(&p->refs, 1);
		p->has_children = 1;
		if (generation)
			answer = is_followed(&creator, p, generation);
		else
			answer = p->followed ? YES : UNKNOWN;
	} else {
		fresh.uncounted = 1;
		if (generation)
			answer = ask_above(&creator, generation);
	}
	if (answer != UNKNOWN)
		fresh.generation = generation;
	if (answer == YES) {
		fresh.followed = 1;
		fresh.announced = generation;
		if (generation && p && p->announced != generation)
			verdict = JOINS;
	} else if (is_wanted(fresh.comm)) { /* a thread gives its own name to what it forks */
		fresh.followed = 1;
		if (generation)
			verdict = JOINS_LATE;
	}
	if (procs.update(&key, &fresh) != 0)
		return DOUBTS + PT_TABLE_FULL;
	if (generation && answer == NO && !fresh.followed)
		return drop();
	return verdict;
}

/* is_late: what is known of a process that joins now has to be looked up. */
INLINE u32 verdict_on(struct pt_proc *p, u32 generation, u32 answer, int is_wanted, int is_late)
{
	if (!p->followed && is_wanted) {
		p->followed = 1;
		if (is_late)
			return generation ? JOINS_LATE : DOUBTS + PT_JOINED_LATE;
		return generation ? JOINS : SENDS;
	}
	if (!generation || p->announced == generation)
		return SENDS;
	if (answer == NO)
		return drop();
	return p->followed ? JOINS : SENDS;
}

/* runs_wanted: the file that it runs is one of those looked for. */
INLINE u32 filter_exec(u64 task, int runs_wanted)
{
	u32 generation = generation_in_force(), answer = UNKNOWN;
	struct pt_key key = key_of(task);
	struct pt_proc *p = entry_of(&key);
	if (!p)
		return DOUBTS + PT_TABLE_FULL;
	if (generation)
		answer = is_followed(&key, p, generation);
	read_comm(p->comm, task);
	note_user(p, task);
	return verdict_on(p, generation, answer, runs_wanted || is_wanted(p->comm),
			  p->has_children);
}

INLINE u32 filter_rename(u64 task, char *comm)
{
	u32 generation = generation_in_force(), answer = UNKNOWN;
	struct pt_key key = key_of(task);
	struct pt_proc *p = entry_of(&key);
	if (!p)
		return DOUBTS + PT_TABLE_FULL;
	if (generation)
		answer = is_followed(&key, p, generation);
	__builtin_memcpy(p->comm, comm, PT_COMM_LEN);
	return verdict_on(p, generation, answer, is_wanted(comm), generation || p->has_children);
}

/* Drops a process's own reference, and that on its creator when nothing else needs it. */
INLINE void release(struct pt_key *of)
{
	struct pt_key key = *of;

#pragma nounroll
	for (int step = 0; step < MAX_RELEASED; step++) {
		struct pt_proc *p = procs.lookup(&key);
		if (!p)
			return;
		struct pt_key creator = p->creator;
		u32 uncounted = p->uncounted;
		__sync_fetch_and_add(&p->refs, -1);
		if (p->refs != 0 || procs.delete(&key) != 0 || uncounted)
			return;
		key = creator;
	}
}

INLINE u32 filter_exit(u64 task)
{
	u32 generation = generation_in_force();
	struct pt_key key = key_of(task);
	if (!generation)
		return SENDS;
	struct pt_proc *p = procs.lookup(&key);
	if (p)
		return verdict_on(p, generation, is_followed(&key, p, generation), 0, 0);
	struct pt_seed *seed = seed_of(&key);
	return seed && !seed->followed && !seed->announced ? drop() : SENDS;
}

/* To be called once its ancestors are announced: they may be forgotten with it. */
INLINE void note_exit(u64 task)
{
	struct pt_key key = key_of(task);
	struct pt_proc *p = procs.lookup(&key);
	if (!p)
		return;
	/* Where two last threads both tell of the end, it is released once. */
	u64 ended_before = p->exited_ns;
	p->exited_ns = bpf_ktime_get_boot_ns();
	if (!ended_before && !is_doubting())
		release(&key);
}

/* Tells the reader of a process that joins and of those above it, nearest first, up to
 * one that it hears of already. Returns the verdict on the record that follows. */
INLINE u32 announce(void *ctx, u64 task, u32 kind, u32 verdict)
{
	u32 generation = generation_in_force();
	struct pt_key key = key_of(task);

	if (!generation)
		return verdict; /* another CPU doubts since */

#pragma nounroll
	for (int step = 0; step < MAX_ANCESTORS; step++) {
		struct pt_proc *p = procs.lookup(&key);
		struct pt_seed *seed = seed_of(&key);
		if (seed) {
			if (seed->announced)
				return verdict;
			seed->announced = 1;
			if (!p && seed->exact_ns) {
				key.start_ns = seed->exact_ns;
				p = procs.lookup(&key);
			}
		}
		if (!p) {
			if (!seed)
				return verdict;
			key = seed->creator; /* unchanged since it was seeded */
		} else {
			if (p->announced == generation)
				return verdict;
			p->announced = generation;
			struct pt_met rec = {};
			struct pt_counters *c = begin(&rec.h, kind);
			if (!c)
				return DOUBTS + PT_TOO_DEEP;
			rec.start_ns = key.start_ns;
			rec.tgid = key.tgid;
			rec.creator_start_ns = p->creator.start_ns;
			rec.creator_tgid = p->creator.tgid;
			rec.exited_ns = p->exited_ns;
			rec.uid = p->uid;
			rec.gid = p->gid;
			__builtin_memcpy(rec.comm, p->comm, PT_COMM_LEN);
			if (events.perf_submit(ctx, &rec, sizeof(rec)) != 0)
				count_failed(c, kind);
			key = p->creator;
		}
		if (!key.tgid)
			return verdict;
	}
	return DOUBTS + PT_TOO_DEEP;
}
