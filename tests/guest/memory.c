/* mmap and its family, brk, copy-on-write, shared memory, EFAULT. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	char *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 'a', 8 * PAGE);
	printf("mprotect hole: %d\n", munmap(p + 2 * PAGE, PAGE));
	printf("over a hole: %d %s\n", mprotect(p, 8 * PAGE, PROT_READ), strerror(errno));
	printf("again: %d\n", mmap(p + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 2 * PAGE);
	printf("noreplace: %d %s\n", mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED, strerror(errno));
	char *q = mremap(p + 3 * PAGE, 5 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	printf("mremap keeps data: %c %c, new is zero: %d\n", q[0], q[5 * PAGE - 1], q[5 * PAGE]);
	printf("shrink: %d\n", mremap(q, 64 * PAGE, PAGE, 0) == q);
	printf("bad: %d %s\n", mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED, strerror(errno));
	printf("unaligned: %d %s\n", munmap((char *)1, PAGE), strerror(errno));

	char *b = sbrk(0);
	sbrk(100000);
	memset(b, 1, 100000);
	sbrk(-100000);
	printf("brk came back: %d\n", sbrk(0) == b);

	char *s = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *c = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*c = 1;
	if (fork() == 0) {
		strcpy(s, "from the child");
		*c = 2;
		_exit(0);
	}
	wait(NULL);
	printf("shared: %s, private: %d\n", s, *c);

	char name[] = "/tmp/drupe-memory-XXXXXX";
	int fd = mkstemp(name);
	ftruncate(fd, 3 * PAGE);
	char *f = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	strcpy(f + PAGE, "through the mapping");
	char buf[64] = "";
	pread(fd, buf, 19, PAGE);
	printf("%s\n", buf);
	pwrite(fd, "THROUGH", 7, PAGE);
	printf("%s\n", f + PAGE);
	char *v = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE);
	v[0] = 'x';
	printf("private copy: %.3s, file: %.3s\n", v, f + PAGE);
	printf("msync %d\n", msync(f, 3 * PAGE, MS_SYNC));
	unlink(name);
	close(fd);
	strcpy(f, "after unlink");
	printf("%s\n", f);

	int ro = open("/etc/passwd", O_RDONLY);
	printf("shared write of a read-only file: %d %s\n",
	       mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED, strerror(errno));
	char *m = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, ro, 0);
	read(ro, buf, 10);
	printf("same as read: %d\n", memcmp(m, buf, 10));
	printf("EFAULT: %zd %s\n", read(ro, (char *)16, 10), strerror(errno));
	printf("EFAULT: %zd %s\n", write(1, (char *)16, 10), strerror(errno));
	printf("zero bytes: %zd\n", read(ro, (char *)16, 0));
	unsigned char vec[1];
	printf("mincore %d %d\n", mincore(c, PAGE, vec), vec[0] & 1);
	madvise(c, PAGE, MADV_DONTNEED);
	printf("after DONTNEED: %d\n", *c);
	return 0;
}
