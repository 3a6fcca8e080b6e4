/* Moving several mappings at once, what mappings are told to be, and what others may read of them. */
#include "check.h"

#define BASE 0x100000000UL
#define at(page) ((char *)BASE + (page) * PG)
#define LOOK 40
enum { FIXED = 2, MAYMOVE = 1, DONTUNMAP = 4 };

/* The mappings of the region with their flags, joined where they are alike. */
static void show(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[600], key[700] = "", name[300] = "", prot[8] = "";
	unsigned long start = 0, end = 0, from = 0, to = 0, off = 0;
	int ours = 0;
	while (fgets(line, sizeof line, f)) {
		char p[8], n[300] = "";
		unsigned long s, e, o;
		if (sscanf(line, "%lx-%lx %7s %lx %*s %*u %299[^\n]", &s, &e, p, &o, n) >= 4) {
			ours = s >= BASE && s < BASE + LOOK * PG;
			start = s, end = e, off = o, strcpy(prot, p), strcpy(name, n);
		} else if (ours && !strncmp(line, "VmFlags:", 8)) {
			char now[900], flags[200] = "";
			for (char *t = strtok(line + 8, " \n"); t; t = strtok(NULL, " \n"))
				if (strcmp(t, "ac") && strcmp(t, "sd"))
					strcat(strcat(flags, t), " ");
			char *slash = strrchr(name, '/');
			snprintf(now, sizeof now, "%s %s %s", prot, slash ? slash + 1 : name, flags);
			if (to == start && !strcmp(now, key) && !name[0]) {
				to = end;
			} else {
				if (to)
					printf("  %lx+%lx %s\n", (from - BASE) / PG, (to - from) / PG, key);
				from = start, to = end, strcpy(key, now);
			}
			if (name[0])
				printf("  at %lx of the file\n", off);
		}
	}
	if (to)
		printf("  %lx+%lx %s\n", (from - BASE) / PG, (to - from) / PG, key);
	fclose(f);
}

static long move(int page, int n, int to_n, int flags, int to)
{
	errno = 0;
	long r = syscall(SYS_mremap, at(page), n * PG, to_n * PG, flags, at(to));
	printf("mremap %x+%x to %x+%x, %x: %lx %s\n", page, n, to, to_n, flags, r < 0 ? -1UL : (r - BASE) / PG, r < 0 ? strerror(errno) : "");
	return r;
}

static void map(int page, int n, int prot, int flags, int fd, long off)
{
	if (mmap(at(page), n * PG, prot, flags | MAP_FIXED, fd, off) == MAP_FAILED)
		perror("mmap");
}

static void readable(int n)
{
	for (int i = 0; i < n; i++) {
		char c = 0;
		struct iovec here = {&c, 1}, there = {at(i), 1};
		printf("%ld", syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0));
	}
	puts("");
}

int main(void)
{
	enum { ANON = MAP_PRIVATE | MAP_ANONYMOUS };
	begin();
	int fd = open("file", O_RDWR | O_CREAT, 0600), ro = open("file", O_RDONLY);
	ftruncate(fd, 12 * PG);
	/* Several mappings, with holes. */
	map(0, 2, 3, ANON, -1, 0), map(2, 1, 1, ANON, -1, 0), map(4, 2, 3, MAP_SHARED, fd, PG);
	*at(0) = 1, *at(4) = 2;
	map(22, 2, 1, ANON, -1, 0);
	move(0, 6, 6, MAYMOVE | FIXED, 20), show();
	printf("%d %d\n", *at(20), *at(24));
	move(19, 5, 5, MAYMOVE | FIXED, 0), move(26, 1, 1, MAYMOVE | FIXED, 0), move(20, 7, 6, MAYMOVE | FIXED, 0), show();
	move(2, 6, 6, MAYMOVE, 0), move(3, 6, 6, MAYMOVE, 0), move(20, 2, 2, MAYMOVE | FIXED | DONTUNMAP, 30), show();
	munmap(at(0), LOOK * PG);
	map(0, 1, 3, ANON, -1, 0), map(1, 1, 1, ANON, -1, 0);
	syscall(462, at(1), PG, 0);
	move(0, 2, 2, MAYMOVE | FIXED, 10), show();
	/* What mappings are told to be. */
	int advice[] = {MADV_RANDOM, MADV_SEQUENTIAL, MADV_NORMAL, MADV_DONTDUMP, MADV_DODUMP, MADV_DONTFORK, MADV_WIPEONFORK, MADV_NOHUGEPAGE, MADV_HUGEPAGE, MADV_MERGEABLE};
	for (unsigned i = 0; i < sizeof advice / sizeof *advice; i++)
		map(12 + 2 * i, 1, 3, i & 1 ? MAP_PRIVATE : ANON, i & 1 ? fd : -1, 0), S(madvise(at(12 + 2 * i), PG, advice[i]));
	map(33, 1, 3, MAP_SHARED, fd, 0), S(madvise(at(33), PG, MADV_MERGEABLE)), map(34, 1, 1, MAP_SHARED, ro, 0);
	map(36, 1, 3, ANON | MAP_STACK, -1, 0), map(38, 1, 3, ANON | MAP_NORESERVE, -1, 0), S(syscall(SYS_mlock2, at(36), PG, 1));
	show();
	munmap(at(10), (LOOK - 10) * PG);
	/* What may not be read by the program's own rules is not read by others. */
	map(10, 1, 0, ANON, -1, 0);
	for (int i = 0; i < 8; i++)
		map(i + 11, 1, i, ANON, -1, 0);
	readable(20);
	/* Errors. */
	unsigned char vec[8];
	S(mincore(at(18), 3 * PG, vec)), S(mincore(at(18), 3 * PG, BAD)), S(mincore(at(20), PG, BAD));
	S(mprotect(at(18), 4 * PG, 1 | PROT_GROWSUP)), S(mprotect(at(20), PG, 1 | PROT_GROWSUP));
	S(madvise(at(20), 4 * PG, 22)), S(madvise(at(17), 4 * PG, 22)), S(madvise(at(18), PG, 23));
	S(mmap(at(18), PG, 3, ANON | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED ? -1 : 0);
	S(mmap(at(18), PG, 3, MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE | 0x8000000, fd, 0) == MAP_FAILED ? -1 : 0);
	map(24, 2, 3, MAP_SHARED, fd, 0), map(26, 2, 3, MAP_SHARED, fd, 4 * PG);
	S(syscall(SYS_remap_file_pages, at(24), 4 * PG, 0, 6, 0)), show();
	S(syscall(SYS_remap_file_pages, at(24), 5 * PG, 0, 6, 0));
	S(mmap(0, 2 << 20, 3, ANON | MAP_HUGETLB | 12 << 26, -1, 0) == MAP_FAILED ? -1 : 0);
	/* Duplicates need room; what may only be run is locked all the same, and what may not be touched is not. */
	move(24, 0, 2, 0, 0), move(24, 0, 2, MAYMOVE | FIXED, 30), move(11, 0, 2, MAYMOVE | FIXED, 30);
	S(mlock(at(15), PG)), S(mlock(at(17), PG)), S(mlock(at(10), PG)), show();
	munlockall();
	/* What stays behind a move is unlocked, and becomes one with what lies beside it. */
	munmap(at(32), 6 * PG);
	map(32, 5, 3, ANON, -1, 0), S(mlock(at(33), 3 * PG)), move(33, 1, 1, MAYMOVE | FIXED | DONTUNMAP, 28), show();
	/* Futexes that name a node, and the slice of a task. */
	uint32_t *word = (void *)at(12);
	mprotect(word, PG, 3), word[0] = 0, word[1] = 0;
	S(syscall(454, word, 1, 1, 2 | 4)), word[1] = -1, S(syscall(454, word, 1, 1, 2 | 4)), printf("%d\n", word[1]);
	word[1] = 70, S(syscall(454, word, 1, 1, 2 | 4)), S(syscall(454, word + 1, 1, 1, 2 | 4)), S(syscall(454, word + 1, 1, 1, 2 | 8)), S(syscall(454, word, 1, 1, 2 | 16));
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } attr = {48};
	uint64_t slices[] = {1000000, 50, 500000000, 0};
	S(syscall(SYS_sched_getattr, 0, &attr, 48, 0));
	uint64_t usual = attr.runtime;
	for (int i = 0; i < 4; i++) {
		attr.runtime = slices[i];
		S(syscall(SYS_sched_setattr, 0, &attr, 0)), S(syscall(SYS_sched_getattr, 0, &attr, 48, 0));
		printf("%ld\n", attr.runtime == usual ? -1 : (long)attr.runtime);
	}
	return 0;
}
