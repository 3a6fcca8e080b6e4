/* Calls about memory that most programs do not make: policies of memory's places, sealing, advice to another process,
 * what is cached, protection keys. */
#include "check.h"

static char *map(size_t n, int prot, int fl) { return mmap(NULL, n, prot, fl | MAP_ANONYMOUS, -1, 0); }

int main(void)
{
	begin();
	char vec[64];
	int fd = open("f", O_RDWR | O_CREAT, 0644), wo = open("f", O_WRONLY), p[2];
	ftruncate(fd, 3 * PG);
	pipe(p);
	char *a = map(16 * PG, 3, MAP_PRIVATE), *mi = map(4 * PG, 3, MAP_PRIVATE);
	char *f = mmap(NULL, 3 * PG, 3, MAP_SHARED, fd, 0);
	memset(f, 1, 3 * PG);
	mi[PG] = 1;
	/* pkeys */
	S(syscall(SYS_pkey_alloc, 0, 0));
	S(syscall(SYS_pkey_alloc, 1, 0));
	S(syscall(SYS_pkey_alloc, 0, 4));
	S(syscall(SYS_pkey_free, 1));
	S(syscall(SYS_pkey_free, 0));
	S(syscall(SYS_pkey_free, -1));
	S(syscall(SYS_pkey_mprotect, a, PG, 3, -1));
	S(syscall(SYS_pkey_mprotect, a, PG, 3, 0));
	S(syscall(SYS_pkey_mprotect, a, PG, 3, 1));
	S(syscall(SYS_pkey_mprotect, a, PG, 3, 99));
	/* process_madvise, mrelease, mseal, cachestat, secret */
	int pf = syscall(SYS_pidfd_open, getpid(), 0);
	struct iovec iv = { a, PG }, bi = { BAD, PG }, zi = { a, 0 };
	for (int i = 0; i < 26; i++) { errno = 0; long r = syscall(SYS_process_madvise, pf, &iv, 1, i, 0);
	 printf("pm %d %ld %s\n", i, r, strerror(errno)); }
	S(syscall(SYS_process_madvise, pf, &iv, 1, 20, 1));
	S(syscall(SYS_process_madvise, -1, &iv, 1, 20, 0));
	S(syscall(SYS_process_madvise, fd, &iv, 1, 20, 0));
	S(syscall(SYS_process_madvise, pf, BAD, 1, 20, 0));
	S(syscall(SYS_process_madvise, pf, &bi, 1, 20, 0));
	S(syscall(SYS_process_madvise, pf, &iv, 2000, 20, 0));
	S(syscall(SYS_process_madvise, pf, &iv, 0, 20, 0));
	T(syscall(SYS_process_madvise, pf, &zi, 1, 20, 0));
	pid_t k = fork();
	if (!k) { pause(); } int kp = syscall(SYS_pidfd_open, k, 0);
	T(syscall(SYS_process_madvise, kp, &iv, 1, 20, 0));
	T(syscall(SYS_process_madvise, kp, &iv, 1, 4, 0));
	S(syscall(448, kp, 0));
	S(syscall(448, kp, 1));
	S(syscall(448, -1, 0));
	S(syscall(448, fd, 0));
	AS(65534, S(syscall(SYS_process_madvise, kp, &iv, 1, 20, 0)));
	kill(k, 9);
	usleep(100000);
	S(syscall(448, kp, 0));
	wait(0);
	S(syscall(448, kp, 0));
	char *se = map(4 * PG, 3, MAP_PRIVATE);
	se[0] = 5;
	S(syscall(462, se, PG, 1));
	S(syscall(462, se + 1, PG, 0));
	S(syscall(462, se, -1, 0));
	S(syscall(462, se, 0, 0));
	S(syscall(462, NULL, PG, 0));
	S(syscall(462, se, PG * 2, 0));
	S(mprotect(se, PG, 1));
	S(munmap(se, PG));
	S(munmap(se, 4 * PG));
	T(MAP_FAILED == mremap(se, PG, 2 * PG, MREMAP_MAYMOVE));
	T(MAP_FAILED == mmap(se, PG, 3, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	S(madvise(se, PG, MADV_DONTNEED));
	S(madvise(se, PG, MADV_WILLNEED));
	S(mprotect(se + 2 * PG, PG, 1));
	S(syscall(462, se, 4 * PG, 0));
	S(munmap(se + 3 * PG, PG));
	printf("%d\n", se[0]);
	S(mprotect(se, 4 * PG, 3));
	S(madvise(se + 2 * PG, PG, MADV_DONTNEED));
	AS(0, S(munmap(se, PG)));
	{ struct { uint64_t off, len; } r = { 0, 0 }, r2 = { 0, PG };
	uint64_t cs[5]; S(syscall(451, fd, &r, cs, 0)); printf("cached %ld\n", (long)cs[0]);
	S(syscall(451, fd, &r2, cs, 0)); printf("cached %ld\n", (long)cs[0]);
	S(syscall(451, fd, &r, cs, 1)); S(syscall(451, -1, &r, cs, 0));
	S(syscall(451, fd, BAD, cs, 0)); S(syscall(451, fd, &r, BAD, 0));
	S(syscall(451, p[0], &r, cs, 0)); S(syscall(451, wo, &r, cs, 0));
	S(syscall(451, open(".", O_RDONLY), &r, cs, 0)); S(syscall(451, open("f", O_PATH), &r, cs, 0));
	 }
	/* numa */
	int mode = -1;
	unsigned long nm[16] = { 0 }, n1 = 1, n2 = 2;
	S(syscall(SYS_get_mempolicy, &mode, nm, 1024, NULL, 0));
	printf("mode %d %lx\n", mode, nm[0]);
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, a, 2));
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, a, 3));
	printf("node %d\n", mode);
	S(syscall(SYS_get_mempolicy, NULL, nm, 1024, NULL, 4));
	printf("allowed %lx\n", nm[0]);
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 1));
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, a, 0));
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 8));
	S(syscall(SYS_get_mempolicy, BAD, NULL, 0, NULL, 0));
	S(syscall(SYS_get_mempolicy, &mode, nm, 1, NULL, 0));
	S(syscall(SYS_get_mempolicy, &mode, BAD, 1024, NULL, 0));
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 2));
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 6));
	S(syscall(SYS_get_mempolicy, &mode, NULL, 0, BAD, 2));
	S(syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0));
	S(syscall(SYS_get_mempolicy, NULL, nm, 1024, NULL, 5));
	for (int m = -1; m < 9; m++) { errno = 0; long r = syscall(SYS_set_mempolicy, m, &n1, 64);
	int e1 = errno; memset(nm, 0, 8); syscall(SYS_get_mempolicy, &mode, nm, 1024, NULL, 0);
	printf("set %d one %ld %s got %d %lx\n", m, r, strerror(e1), mode, nm[0]);
	errno = 0; r = syscall(SYS_set_mempolicy, m, NULL, 0); printf("set %d none %ld %s\n", m, r, strerror(errno));
	errno = 0; r = syscall(SYS_set_mempolicy, m, &n2, 64); printf("set %d two %ld %s\n", m, r, strerror(errno));
	errno = 0; r = syscall(SYS_set_mempolicy, m | 0x8000, &n1, 64);
	printf("set %d static %ld %s\n", m, r, strerror(errno)); r = syscall(SYS_set_mempolicy, m | 0xc000, &n1, 64);
	printf("set %d both %ld %s\n", m, r, strerror(errno)); errno = 0;
	r = syscall(SYS_set_mempolicy, m | 0x2000, &n1, 64); printf("set %d balancing %ld %s\n", m, r, strerror(errno));
	errno = 0; r = syscall(SYS_mbind, a, PG, m, &n1, 64, 0); printf("mbind %d %ld %s\n", m, r, strerror(errno));
	errno = 0; r = syscall(SYS_mbind, a, PG, m, NULL, 0, 0); printf("mbind %d %ld %s\n", m, r, strerror(errno));
	r = syscall(SYS_get_mempolicy, &mode, nm, 1024, a, 2); printf("got %d %lx\n", mode, nm[0]);
	 }
	S(syscall(SYS_set_mempolicy, 0, NULL, 0));
	S(syscall(SYS_set_mempolicy, 2, BAD, 64));
	S(syscall(SYS_set_mempolicy, 2, &n1, 1 << 20));
	S(syscall(SYS_set_mempolicy, 2, &n1, 0));
	S(syscall(SYS_set_mempolicy, 2, &n1, 1));
	S(syscall(SYS_set_mempolicy, 2, &n1, 2));
	S(syscall(SYS_set_mempolicy, 0, NULL, 0));
	S(syscall(SYS_mbind, a + 1, PG, 0, NULL, 0, 0));
	S(syscall(SYS_mbind, a, PG, 0, NULL, 0, 8));
	S(syscall(SYS_mbind, NULL, PG, 0, NULL, 0, 0));
	S(syscall(SYS_mbind, a, PG, 2, BAD, 64, 0));
	S(syscall(SYS_mbind, a, PG, 2, &n1, 64, 1));
	S(syscall(SYS_mbind, a, PG, 2, &n1, 64, 3));
	S(syscall(SYS_mbind, a, PG, 2, &n1, 64, 4));
	S(syscall(SYS_mbind, a, 0, 2, &n1, 64, 0));
	S(syscall(SYS_mbind, a, -1, 2, &n1, 64, 0));
	S(syscall(SYS_mbind, a, PG, 0, NULL, 0, 0));
	AS(65534, S(syscall(SYS_mbind, a, PG, 2, &n1, 64, 4)); S(syscall(SYS_mbind, a, PG, 2, &n1, 64, 2)); S(syscall(SYS_migrate_pages,
	1, 64, &n1, &n1)); S(syscall(SYS_move_pages, 1, 0, NULL, NULL, NULL, 0)); S(syscall(SYS_move_pages, 0, 0,
		 NULL, NULL, NULL, 4)));
	void *pgs[4] = { a, mi, NULL, map(PG, 3, MAP_PRIVATE) };
	int nodes[4] = { 0, 0, 0, 0 }, stt[4] = { 9, 9, 9, 9 };
	a[0] = 1;
	T(syscall(SYS_move_pages, 0, 4, pgs, NULL, stt, 0));
	printf("%d %d %d %d\n", stt[0], stt[1], stt[2], stt[3]);
	T(syscall(SYS_move_pages, 0, 4, pgs, nodes, stt, 2));
	printf("%d %d %d %d\n", stt[0], stt[1], stt[2], stt[3]);
	nodes[1] = 1;
	S(syscall(SYS_move_pages, 0, 2, pgs, nodes, stt, 2));
	nodes[1] = 5000;
	S(syscall(SYS_move_pages, 0, 2, pgs, nodes, stt, 2));
	nodes[1] = -1;
	S(syscall(SYS_move_pages, 0, 2, pgs, nodes, stt, 2));
	S(syscall(SYS_move_pages, 0, 1, pgs, nodes, stt, 1));
	S(syscall(SYS_move_pages, 0, 1, pgs, nodes, stt, 8));
	S(syscall(SYS_move_pages, 999999, 1, pgs, nodes, stt, 2));
	S(syscall(SYS_move_pages, 0, 1, BAD, nodes, stt, 2));
	S(syscall(SYS_move_pages, 0, 1, pgs, BAD, stt, 2));
	S(syscall(SYS_move_pages, 0, 1, pgs, nodes, BAD, 2));
	S(syscall(SYS_move_pages, 0, 0, BAD, BAD, BAD, 2));
	n1 = 1;
	n2 = 2;
	S(syscall(SYS_migrate_pages, 0, 64, &n1, &n2));
	S(syscall(SYS_migrate_pages, 0, 64, BAD, &n1));
	S(syscall(SYS_migrate_pages, 0, 64, &n1, BAD));
	S(syscall(SYS_migrate_pages, 999999, 64, &n1, &n1));
	S(syscall(SYS_migrate_pages, 0, 1 << 20, &n1, &n1));
	S(syscall(SYS_migrate_pages, 0, 0, NULL, NULL));
	S(syscall(450, a, PG, 0, 0));
	S(syscall(450, a, PG, 0, 1));
	S(syscall(450, a, PG, 99, 0));
	S(syscall(450, a + 1, PG, 0, 0));
	return 0;
}
