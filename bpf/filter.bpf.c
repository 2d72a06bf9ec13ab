// SPDX-License-Identifier: MIT OR GPL-2.0-only
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
 * 2. The reader reads /proc, applies what came meanwhile, and clears the fallback.
 * 3. When all that happened before that has been applied, it writes a seed for each
 *    process that it knows to live and for those above it, and only then sets filtering.
 * 4. A child that was born meanwhile has no seed, so the answer is looked for with its
 *    creators, in procs and in seeds, at the first event for which it is needed. If it is
 *    followed, its ancestors are announced then.
 * 5. What cannot be decided here makes it fall back: from that very sample on everything is
 *    sent again. The reader then looks at /proc and at procs, and begins at 2.
 *
 * procs keeps a process that has ended while any that it created is kept, so the way up
 * is whole also behind a double fork. An entry is removed by whoever drops the last
 * reference and finds the entry still there; so it happens once. Nobody counts the children
 * that a process had before its entry was made, so one that was there before us stays. While
 * it has fallen back, nothing is removed: the reader must find whoever it did not know. It then
 * removes the dead that have no children itself, from below.
 */

#define MAX_UNSEEDED 8 /* births in a row between the seeds and the filter */
#define MAX_ANCESTORS 24
#define MAX_RELEASED 32 /* of a longer line of the dead, the upper part stays in procs */

enum verdict {
	DROPS = 0,
	SENDS = 1,
	JOINS = 2, /* is followed, and its ancestors are to be announced */
	JOINS_LATE = 3, /* as well, and makes it fall back */
	FALLS_BACK = 16, /* plus a pt_fallback_reason */
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
BPF_PERCPU_ARRAY(file_at_hand, struct pt_file, COPIES);
#endif
BPF_ARRAY(control, struct pt_control, 1);
BPF_PERCPU_ARRAY(left_out, u64, 1); /* events */
BPF_ARRAY(fallback, struct pt_fallback, 1);

/* The generation of the seeds while the filter is in force, else 0. */
INLINE u32 generation_in_force(void)
{
	u32 zero = 0;
	struct pt_control *set = control.lookup(&zero);
	struct pt_fallback *f = fallback.lookup(&zero);
	if (!set || !f || !set->filtering || f->reason)
		return 0;
	return set->generation;
}

/* To be called before the sample is stamped. The clock is read before reason is: so also where
 * two CPUs fall back at once, since_ns is earlier than any sample that only that lets pass. */
INLINE void fall_back_if(u32 verdict)
{
	u32 zero = 0;
	if (verdict < FALLS_BACK)
		return;
	u64 now_ns = bpf_ktime_get_boot_ns();
	struct pt_fallback *f = fallback.lookup(&zero);
	if (!f || f->reason)
		return;
	f->since_ns = now_ns;
	f->reason = verdict - FALLS_BACK;
}

INLINE int has_fallen_back(void)
{
	u32 zero = 0;
	struct pt_fallback *f = fallback.lookup(&zero);
	return f && f->reason;
}

INLINE u32 drop(void)
{
	u32 zero = 0;
	u64 *count = left_out.lookup(&zero);
	if (count)
		__sync_fetch_and_add(count, 1); /* by several programs */
	return DROPS;
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
		if (seed && seed->followed != UNKNOWN)
			return seed->followed;
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
		if (seed->announced == PT_BY_READER)
			p->told = generation;
		if (!p->creator.tgid)
			p->creator = seed->creator;
	}
	if (answer == YES) /* it can have got its name meanwhile */
		p->followed = 1;
	p->generation = generation;
	return answer;
}

INLINE void note(struct pt_proc *p, char *comm, struct user user)
{
	__builtin_memcpy(p->comm, comm, PT_COMM_LEN);
	p->uid = user.uid;
	p->gid = user.gid;
}

INLINE int is_wanted(char *comm)
{
	struct name name = {};
	bpf_probe_read_kernel_str(name.comm, PT_COMM_LEN, comm);
	return names.lookup(&name) != 0;
}

/* Each name that is noted was looked for; the same one again need not be. */
INLINE int is_new_and_wanted(struct pt_proc *p, char *comm)
{
	u64 *noted = p ? (u64 *)p->comm : 0, *found = (u64 *)comm;
	int is_noted = noted && noted[0] == found[0] && noted[1] == found[1];
	return !is_noted && is_wanted(comm);
}

#ifdef FILTER_BY_FILE
INLINE int runs_wanted(char *components, u32 len)
{
	u32 slot = copy_number();
	u64 n = len;
	struct pt_file *file = file_at_hand.lookup(&slot);
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
	struct pt_proc fresh = {
		.refs = 2, .has_children = 1, .uncounted = 1, .uid = PT_NOBODY, .gid = PT_NOBODY
	};
	fresh.comm[PT_COMM_LEN - 1] = PT_NO_NAME;
	struct pt_seed *seed = seed_of(key);
	if (seed)
		fresh.creator = seed->creator;
	procs.update(key, &fresh);
	return procs.lookup(key);
}

INLINE u32 filter_fork(struct pt_key creator, struct pt_key key, char *comm, struct user user)
{
	u32 generation = generation_in_force();
	struct pt_proc fresh = {.creator = creator, .refs = 1};
	u32 answer = UNKNOWN, verdict = SENDS, creator_told = generation;

	note(&fresh, comm, user);
	struct pt_proc *p = procs.lookup(&creator);
	if (p) {
		__sync_fetch_and_add(&p->refs, 1);
		p->has_children = 1;
		if (generation)
			answer = is_followed(&creator, p, generation);
		else
			answer = p->followed ? YES : UNKNOWN;
		creator_told = p->told;
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
		fresh.told = creator_told;
		if (generation && creator_told != generation)
			verdict = JOINS;
	} else if (is_new_and_wanted(p, comm)) { /* a thread gives its own name to what it forks */
		fresh.followed = 1;
		if (generation)
			verdict = JOINS_LATE;
	}
	if (procs.update(&key, &fresh) != 0)
		return FALLS_BACK + PT_TABLE_FULL;
	if (generation && answer == NO && !fresh.followed)
		return drop();
	return verdict;
}

/* joins: it is, by itself, what is looked for. late: others may have to join with it, or its
 * details are not known to the reader. */
INLINE u32 verdict_on(struct pt_proc *p, u32 generation, u32 answer, int joins, int late)
{
	if (!p->followed && joins) {
		p->followed = 1;
		if (late)
			return generation ? JOINS_LATE : FALLS_BACK + PT_JOINED_LATE;
		return generation ? JOINS : SENDS;
	}
	if (!generation)
		return SENDS;
	if (p->followed)
		return p->told == generation ? SENDS : JOINS;
	if (answer == NO && p->announced != generation)
		return drop();
	return SENDS;
}

/* right_file: it runs a file that is looked for. */
INLINE u32 filter_exec(struct pt_key key, char *comm, struct user user, int right_file)
{
	u32 generation = generation_in_force(), answer = UNKNOWN;
	struct pt_proc *p = entry_of(&key);
	if (!p)
		return FALLS_BACK + PT_TABLE_FULL;
	if (generation)
		answer = is_followed(&key, p, generation);
	note(p, comm, user);
	u32 verdict = verdict_on(
		p, generation, answer, right_file || is_wanted(comm), p->has_children
	);
	if (verdict == DROPS)
		p->exec_left_out = generation;
	else if (!has_fallen_back()) /* else the reader has not asked yet whether one was */
		p->exec_left_out = 0;
	return verdict;
}

/* before: is set to the name that it had. */
INLINE u32 filter_rename(struct pt_key key, char *comm, char *before)
{
	u32 generation = generation_in_force(), answer = UNKNOWN;
	struct pt_proc *p = entry_of(&key);
	if (!p)
		return FALLS_BACK + PT_TABLE_FULL;
	if (generation)
		answer = is_followed(&key, p, generation);
	__builtin_memcpy(before, p->comm, PT_COMM_LEN);
	/* No sample of its own told what it runs. */
	int late = generation || p->has_children;
	u32 verdict = verdict_on(p, generation, answer, is_wanted(comm), late);
	__builtin_memcpy(p->comm, comm, PT_COMM_LEN); /* a thread may see it, and ask no more */
	return verdict;
}

/* Drops a reference, and that on its creator when nothing else needs it. */
INLINE void release(struct pt_key key)
{
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

/* What is noted of a process that ends. joins: is set if it has a name that is looked for
 * and was not noted: an exec that failed too late to return gave it, and only this tells. */
INLINE struct pt_proc *ending(struct pt_key *key, char *comm, int *joins)
{
	struct pt_proc *p = procs.lookup(key);
	*joins = is_new_and_wanted(p, comm);
	return p || !*joins ? p : entry_of(key);
}

INLINE u32 filter_exit(struct pt_key key, struct pt_proc *p, char *comm, u64 task, int joins)
{
	u32 generation = generation_in_force(), answer = UNKNOWN;
	/* There before us, and nothing was noted: this is the last that is told of its user. */
	if (!p)
		return joins ? FALLS_BACK + PT_TABLE_FULL : SENDS;
	if (generation)
		answer = is_followed(&key, p, generation);
	if (joins || p->followed || p->has_children) /* else nobody will ask */
		note(p, comm, user_of(task));
	return verdict_on(p, generation, answer, joins, p->has_children);
}

/* To be called once its ancestors are announced: they may be forgotten with it. Where two
 * last threads both tell of the end, it is forgotten once, and what p was is not written to:
 * it may be another's by then. */
INLINE void note_exit(struct pt_key key, struct pt_proc *p)
{
	if (!p)
		return;
	/* Of one that has ended, a single reference is that of a child. */
	if (p->refs == 1 && !p->exited_ns && !has_fallen_back()) {
		struct pt_key creator = p->creator;
		u32 uncounted = p->uncounted;
		if (procs.delete(&key) == 0 && !uncounted)
			release(creator);
		return;
	}
	p = procs.lookup(&key);
	if (!p || p->exited_ns)
		return;
	p->exited_ns = bpf_ktime_get_boot_ns();
	if (!has_fallen_back())
		release(key);
}

/* Tells the reader what is noted of a process, and the name, which is p's or was before. */
INLINE int send_met(void *ctx, struct pt_key *key, struct pt_proc *p, char *comm, u32 kind)
{
	struct pt_met rec = {};
	struct pt_counters *c = begin(&rec.h, kind);
	if (!c)
		return 0;
	rec.start_ns = key->start_ns;
	rec.tgid = key->tgid;
	rec.creator_start_ns = p->creator.start_ns;
	rec.creator_tgid = p->creator.tgid;
	rec.exited_ns = p->exited_ns;
	rec.uid = p->uid;
	rec.gid = p->gid;
	__builtin_memcpy(rec.comm, comm, PT_COMM_LEN);
	if (events.perf_submit(ctx, &rec, sizeof(rec)) != 0)
		count_failed(c, kind);
	return 1;
}

/* The process and its creator need not be announced again: what it starts, and what its
 * creator starts next, stops there. */
INLINE void note_told(struct pt_key *who, u32 generation)
{
	struct pt_key key = *who;
	struct pt_proc *p = procs.lookup(&key);
	if (!p)
		return;
	p->told = generation;
	key = p->creator;
	p = procs.lookup(&key);
	if (p)
		p->told = generation;
}

/* Tells the reader of a process that joins and of those above it, nearest first, up to
 * one of which all that is above is told already: another CPU may be at it only now, and
 * what it tells would come too late. before: the name that it had, if the sample that
 * follows tells of a new one. Returns the verdict on that sample. */
INLINE u32 announce(void *ctx, struct pt_key own, char *before, u32 kind, u32 verdict)
{
	u32 generation = generation_in_force();
	struct pt_key key = own;

	if (!generation)
		return verdict; /* another CPU has fallen back since */

/* In part: of a loop's turns the verifier takes none for another, and forgets what it could have
 * compared each with; of copies of the code it does not. */
#pragma clang loop unroll_count(6)
	for (int step = 0; step < MAX_ANCESTORS; step++) {
		struct pt_proc *p = procs.lookup(&key);
		struct pt_seed *seed = seed_of(&key);
		if (seed && seed->announced == PT_BY_READER)
			goto told;
		if (seed && !p && seed->exact_ns) {
			key.start_ns = seed->exact_ns;
			p = procs.lookup(&key);
		}
		if (seed)
			seed->announced = PT_BY_US;
		if (!p) {
			if (!seed)
				goto told; /* it ended before we came */
			key = seed->creator; /* unchanged since it was seeded */
		} else {
			if (p->told == generation)
				goto told;
			p->announced = generation;
			if (!send_met(ctx, &key, p, before && !step ? before : p->comm, kind))
				return FALLS_BACK + PT_TOO_DEEP;
			key = p->creator;
		}
		if (!key.tgid)
			goto told;
	}
	return FALLS_BACK + PT_TOO_DEEP;
told:
	note_told(&own, generation);
	return verdict;
}

/* What is to be told before the sample of an event, and what may make it fall back. */
INLINE void prepare(void *ctx, struct pt_key own, char *before, u32 kind, u32 verdict)
{
	if (verdict == JOINS || verdict == JOINS_LATE) {
		u32 after = verdict == JOINS ? SENDS : FALLS_BACK + PT_JOINED_LATE;
		verdict = announce(ctx, own, before, kind, after);
	}
	fall_back_if(verdict);
}

/* An orphan's parent is not among its ancestors if another adopted it; its name is shown. */
INLINE void announce_parent(void *ctx, struct pt_key key, u32 kind)
{
	u32 generation = generation_in_force();
	if (!generation)
		return;
	struct pt_proc *p = procs.lookup(&key);
	if (!p) {
		struct pt_seed *seed = seed_of(&key);
		if (seed && !seed->announced)
			seed->announced = PT_BY_US;
	} else if (p->announced != generation && !p->followed) {
		p->announced = generation;
		send_met(ctx, &key, p, p->comm, kind);
	}
}
