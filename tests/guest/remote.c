/* Another process's memory and descriptors: process_vm_readv, process_vm_writev, /proc/PID/mem, pidfd_getfd,
 * while the other one runs, sleeps, is stopped, or waits for a vfork child. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char secret[32] = "what the child holds";
static volatile int *shared;

static void show(const char *what, long n) { printf("%s: %ld %s\n", what, n, n < 0 ? strerror(errno) : ""); }

/* How the child spends its time; each keeps `secret`. */
static void spin(void) { for (;;) ; }
static void calls(void) { for (;;) getppid(); }
static void sleeps(void) { for (;;) pause(); }
static void naps(void) { for (;;) sleep(1000); }
static void reads(void) { int p[2]; char c; pipe(p); for (;;) read(p[0], &c, 1); }
static void stops(void) { for (;;) raise(SIGSTOP); }
static void *other(void *p) { spin(); return p; }
static void threads(void) { pthread_t t; pthread_create(&t, 0, other, 0); for (;;) pause(); }
static void *rest(void *p) { for (;;) pause(); return p; }
static void vforks(void) { if (vfork() == 0) { shared[0] = 2; for (;;) pause(); } for (;;) ; }

static struct { const char *name; void (*run)(void); } ways[] = {
	{ "spinning", spin }, { "calling", calls }, { "pausing", sleeps }, { "napping", naps }, { "reading", reads },
	{ "stopped", stops }, { "with threads", threads }, { "vforking", vforks },
};

static void memory_of(const char *name, pid_t pid)
{
	char buf[32] = "", path[64];
	struct iovec l = { buf, 21 }, r = { secret, 21 };
	long n = process_vm_readv(pid, &l, 1, &r, 1, 0);
	printf("%s: read %ld '%s'\n", name, n, buf);
	strcpy(buf, "written from outside");
	n = process_vm_writev(pid, &l, 1, &r, 1, 0);
	memset(buf, 0, sizeof buf);
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int fd = open(path, O_RDWR);
	long m = pread(fd, buf, 21, (off_t)(long)secret);
	printf("%s: wrote %ld, mem %ld '%s'\n", name, n, m, buf);
	close(fd);
}

static void every_way(void)
{
	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
		shared[0] = 0;
		pid_t pid = fork();
		if (!pid) {
			shared[0] = 1;
			ways[i].run();
		}
		while (!shared[0])
			sched_yield();
		if (ways[i].run == stops)
			waitpid(pid, 0, WUNTRACED);
		else
			usleep(20000);
		memory_of(ways[i].name, pid);
		kill(pid, SIGKILL);
		int status;
		waitpid(pid, &status, 0);
		printf("%s: ended by %d\n", ways[i].name, WTERMSIG(status));
		if (ways[i].run == vforks)
			kill(0, 0);
	}
}

static void edges(void)
{
	int sync[2];
	pipe(sync);
	char *page = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(page, 'a', 3 * 4096);
	munmap(page + 4096, 4096);
	mprotect(page + 2 * 4096, 4096, PROT_READ);
	char *big = mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 8 << 20; i += 4096)
		big[i] = i >> 12;
	pid_t pid = fork();
	if (!pid)
		for (;;)
			pause();
	static char buf[3 * 4096];
	struct iovec l = { buf, sizeof buf }, r = { page, sizeof buf };
	show("into a hole", process_vm_readv(pid, &l, 1, &r, 1, 0));
	r.iov_base = page + 4096;
	show("from a hole", process_vm_readv(pid, &l, 1, &r, 1, 0));
	r = (struct iovec){ page + 2 * 4096, 4096 };
	show("write to read-only", process_vm_writev(pid, &l, 1, &r, 1, 0));
	show("flags", process_vm_readv(pid, &l, 1, &r, 1, 1));
	show("too many", process_vm_readv(pid, &l, 1, &r, IOV_MAX + 1, 0));
	show("nothing", process_vm_readv(pid, &l, 0, &r, 1, 0));
	show("nothing there", process_vm_readv(pid, &l, 1, &r, 0, 0));
	show("nobody", process_vm_readv(INT_MAX, &l, 1, &r, 1, 0));
	show("nobody, nothing", process_vm_readv(INT_MAX, &l, 0, &r, 1, 0));
	show("bad vector", process_vm_readv(pid, (void *)8, 1, &r, 1, 0));
	show("bad remote vector", process_vm_readv(pid, &l, 1, (void *)8, 1, 0));
	struct iovec lv[3] = { { buf, 10 }, { buf + 10, 0 }, { buf + 10, 30 } };
	struct iovec rv[3] = { { page, 5 }, { page + 7, 20 }, { (void *)8, 4 } };
	show("pieces", process_vm_readv(pid, lv, 3, rv, 3, 0));
	static char copy[8 << 20];
	l = (struct iovec){ copy, sizeof copy };
	r = (struct iovec){ big, sizeof copy };
	show("large", process_vm_readv(pid, &l, 1, &r, 1, 0));
	printf("same: %d\n", memcmp(copy, big, sizeof copy) == 0);

	char path[64];
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int fd = open(path, O_RDWR);
	show("mem, read-only page", pwrite(fd, "B", 1, (off_t)(long)(page + 2 * 4096)));
	show("mem, hole", pread(fd, buf, 10, (off_t)(long)(page + 4096)));
	show("mem, into a hole", pread(fd, buf, 100, (off_t)(long)(page + 4096 - 50)));
	show("mem, write to code", pwrite(fd, "\xcc", 1, (off_t)(long)edges));
	show("mem, code", pread(fd, buf, 1, (off_t)(long)edges));
	printf("byte %02x\n", (unsigned char)buf[0]);
	show("mem, zero length", pread(fd, buf, 0, 0));
	lseek(fd, (off_t)(long)page, SEEK_SET);
	show("mem, at its position", read(fd, buf, 16));
	printf("moved %ld\n", (long)(lseek(fd, 0, SEEK_CUR) - (long)page));
	show("mem, end", lseek(fd, 0, SEEK_END));
	kill(pid, SIGKILL);
	waitpid(pid, 0, 0);
	show("mem of the dead", pread(fd, buf, 10, (off_t)(long)page));
	show("vm of the dead", process_vm_readv(pid, &l, 1, &r, 1, 0));
	close(fd);
	fd = open("/proc/self/mem", O_RDWR);
	memcpy(page, "own memory", 11);
	pread(fd, buf, 11, (off_t)(long)page);
	show(buf, pwrite(fd, "OWN", 3, (off_t)(long)page));
	printf("%s\n", page);
}

/* Code reads as the file says, wherever calls were made from it. */
static void code(void)
{
	for (int i = 0; i < 1000; i++)
		syscall(SYS_getppid);
	unsigned char *at = (unsigned char *)syscall, seen[256];
	int fd = open("/proc/self/mem", O_RDONLY), calls = 0, jumps = 0;
	printf("read %zd\n", pread(fd, seen, 64, (off_t)(long)at));
	for (int i = 0; i < 40; i++) {
		calls += seen[i] == 0x0f && seen[i + 1] == 0x05;
		jumps += seen[i] == 0xe9;
	}
	printf("calls %d, jumps %d\n", calls, jumps);
}

static void descriptors(void)
{
	int p[2], back[2];
	pipe(p);
	pipe(back);
	pid_t pid = fork();
	if (!pid) {
		int fd = open("/dev/zero", O_RDONLY);
		dup2(fd, 77);
		write(back[1], "x", 1);
		for (;;)
			pause();
	}
	char c;
	read(back[0], &c, 1);
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	int fd = syscall(SYS_pidfd_getfd, pidfd, 77, 0);
	printf("got one: %d, cloexec %d, reads %zd\n", fd >= 0, fcntl(fd, F_GETFD), read(fd, &c, 1));
	show("no such", syscall(SYS_pidfd_getfd, pidfd, 78, 0));
	show("flags", syscall(SYS_pidfd_getfd, pidfd, 77, 1));
	show("no pidfd", syscall(SYS_pidfd_getfd, 0, 77, 0));
	kill(pid, SIGKILL);
	waitpid(pid, 0, 0);
	show("of the dead", syscall(SYS_pidfd_getfd, pidfd, 77, 0));
}

/* exec leaves nothing to be read through a descriptor from before. */
static void across_exec(char *self)
{
	int go[2], ready[2];
	pipe(go);
	pipe(ready);
	pid_t pid = fork();
	if (!pid) {
		char c;
		write(ready[1], "x", 1);
		read(go[0], &c, 1);
		dup2(ready[1], 50);
		execl(self, self, "wait", NULL);
		_exit(1);
	}
	char c, path[64];
	read(ready[0], &c, 1);
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int fd = open(path, O_RDONLY);
	show("before", pread(fd, &c, 1, (off_t)(long)secret));
	write(go[1], "x", 1);
	read(ready[0], &c, 1);
	show("after", pread(fd, &c, 1, (off_t)(long)secret));
	kill(pid, SIGKILL);
	waitpid(pid, 0, 0);
}

static volatile pid_t worker_tid;
static void *worker(void *p)
{
	pthread_setname_np(pthread_self(), "worker");
	worker_tid = syscall(SYS_gettid);
	return rest(p);
}

/* A thread's own files, by its number. */
static void thread_files(void)
{
	pthread_t t;
	char path[64], line[256];
	pthread_create(&t, 0, worker, 0);
	while (!worker_tid)
		sched_yield();
	snprintf(path, sizeof path, "/proc/%d/status", worker_tid);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f)) {
		if (!strncmp(line, "Name", 4))
			printf("%s", line);
		if (!strncmp(line, "Tgid", 4))
			printf("its process is this: %d\n", atoi(line + 6) == getpid());
		if (!strncmp(line, "Pid", 3))
			printf("it is itself: %d\n", atoi(line + 5) == worker_tid);
	}
	if (f)
		fclose(f);
}

/* Two that read each other at once, and a caller that is killed while it waits. */
static void crossed(void)
{
	shared[0] = shared[1] = 0;
	pid_t a = fork();
	if (!a) {
		while (!shared[1])
			sched_yield();
		char buf[32];
		struct iovec l = { buf, 21 }, r = { secret, 21 };
		int bad = 0;
		for (int i = 0; i < 300; i++)
			bad += process_vm_readv(getppid(), &l, 1, &r, 1, 0) != 21;
		_exit(bad);
	}
	shared[1] = 1;
	char buf[32];
	struct iovec l = { buf, 21 }, r = { secret, 21 };
	int good = 0, status;
	for (int i = 0; i < 300; i++)
		good += process_vm_readv(a, &l, 1, &r, 1, 0) == 21;
	waitpid(a, &status, 0);
	printf("crossed: %d, %s\n", WEXITSTATUS(status), good > 0 ? "some" : "none");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IONBF, 0);
	if (argc > 1) {
		write(50, "x", 1);
		for (;;)
			pause();
	}
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	setpgid(0, 0);
	every_way();
	edges();
	code();
	descriptors();
	across_exec(argv[0]);
	crossed();
	thread_files();
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	return 0;
}
