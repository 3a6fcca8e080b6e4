// Takes memory, as it is told by one word after the other:
// take MB: touches so much more, slowly; map MB, reserve MB: asks for so much at once; file MB: writes so much to a file
// in memory; share MB, common MB: touches so much of a mapped file without a name, of memory that children would share;
// tables MB: makes the host make so much of page tables; adj N: sets oom_score_adj; fork N: N children that only wait,
// and their statuses; wait: for 20 s; log: prints what the kernel says of memory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[1 << 17];

static void take(long mb)
{
	for (long i = 0; i < mb; i++) {
		char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) {
			printf("take: %s\n", strerror(errno));
			return;
		}
		memset(p, 1, 1 << 20);
		usleep(1000);
	}
	printf("took %ld\n", mb);
}

static void touch(const char *what, char *p, long mb)
{
	if (p == MAP_FAILED) {
		printf("%s: %s\n", what, strerror(errno));
		return;
	}
	for (long i = 0; i < mb; i++) {
		memset(p + (i << 20), 1, 1 << 20);
		usleep(1000);
	}
	printf("%s %ld\n", what, mb);
}

static void share(long mb)
{
	int fd = memfd_create("hog", 0);
	if (ftruncate(fd, 100L << 30))
		perror("ftruncate");
	touch("shared", mmap(0, 100L << 30, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), mb);
}

static void common(long mb)
{
	touch("common", mmap(0, mb << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), mb);
}

static void tables(long mb)
{
	long len = mb << 29;
	volatile char *p = mmap(0, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		printf("tables: %s\n", strerror(errno));
		return;
	}
	madvise((void *)p, len, MADV_NOHUGEPAGE);
	for (long i = 0; i < len; i += 2 << 20) {
		(void)p[i];
		if (i % (1 << 29) == 0)
			usleep(1000);
	}
	printf("tables %ld\n", mb);
}

static void ask(const char *what, long mb, int flags)
{
	void *p = mmap(0, mb << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	printf("%s: %s\n", what, p == MAP_FAILED ? strerror(errno) : "yes");
}

static void file(long mb)
{
	int fd = open("/dev/shm/hog", O_RDWR | O_CREAT | O_APPEND, 0600);
	long done = 0;
	for (; done < mb; done++)
		if (write(fd, text, 65536) != 65536 || write(fd, text, 65536) != 65536 || lseek(fd, 0, SEEK_END) < 0)
			break;
	for (long i = 0; i < 7 * done; i++)
		if (write(fd, text, 131072) != 131072)
			break;
	printf("file: %s\n", errno ? strerror(errno) : "written");
}

static void children(int n)
{
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			usleep(400000);
			_exit(7);
		}
	for (int i = 0; i < n; i++) {
		int status;
		wait(&status);
		printf("child %x\n", status);
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IONBF, 0);
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		long n = i + 1 < argc ? atol(argv[i + 1]) : 0;
		errno = 0;
		if (!strcmp(word, "wait")) {
			sleep(20);
			continue;
		}
		if (!strcmp(word, "log")) {
			int len = klogctl(3, text, sizeof text - 1);
			for (char *line = strtok(text, "\n"); len > 0 && line; line = strtok(0, "\n"))
				if (strstr(line, "memory"))
					puts(strstr(line, "] ") + 2);
			continue;
		}
		i++;
		if (!strcmp(word, "take"))
			take(n);
		else if (!strcmp(word, "map"))
			ask("map", n, 0);
		else if (!strcmp(word, "reserve"))
			ask("reserve", n, MAP_NORESERVE);
		else if (!strcmp(word, "file"))
			file(n);
		else if (!strcmp(word, "tables"))
			tables(n);
		else if (!strcmp(word, "share"))
			share(n);
		else if (!strcmp(word, "common"))
			common(n);
		else if (!strcmp(word, "fork"))
			children(n);
		else if (!strcmp(word, "adj")) {
			int fd = open("/proc/self/oom_score_adj", O_WRONLY);
			printf("adj: %s\n", write(fd, argv[i], strlen(argv[i])) > 0 ? "set" : strerror(errno));
		}
	}
	return 0;
}
