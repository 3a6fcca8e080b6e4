// What /proc tells of a process: what it used, what it has open, its timers and locks.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static char text[1 << 20];

static char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = 0, got;
	while (fd >= 0 && (got = read(fd, text + n, sizeof text - 1 - n)) > 0)
		n += got;
	text[n < 0 ? 0 : n] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

// The number behind a name at the start of a line.
static long line(const char *path, const char *name)
{
	for (char *at = slurp(path); at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
		if (!strncmp(at, name, strlen(name)))
			return strtol(at + strlen(name), NULL, 10);
	return -1;
}

static void links(const char *when)
{
	struct stat s;
	stat("/proc/self/task", &s);
	printf("%s: /proc/self/task has %d names\n", when, (int)s.st_nlink);
}

static int leave;
static void *idle(void *arg)
{
	while (!__atomic_load_n(&leave, __ATOMIC_SEQ_CST))
		usleep(1000);
	return arg;
}

static void threads(void)
{
	pthread_t t[2];
	links("alone");
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, idle, NULL);
	links("with two threads");
	leave = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	// The host may take a moment to bury them.
	struct stat s;
	for (int i = 0; i < 1000 && (stat("/proc/self/task", &s) || s.st_nlink != 3); i++)
		usleep(1000);
	links("alone again");
	stat("/proc/sys/kernel", &s);
	printf("sys %d\n", (int)s.st_nlink);
	int before = (stat("/proc/self/fd", &s), (int)s.st_size), fd = open("/", O_RDONLY);
	stat("/proc/self/fd", &s);
	printf("fd %d %o\n", (int)s.st_size - before, s.st_mode);
	close(fd);
}

static void counts(void)
{
	static const char *names[] = { "rchar: ", "wchar: ", "syscr: ", "syscw: " };
	long before[4], after[4];
	char buf[1000];
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), dir = open("/", O_RDONLY);
	char own[] = "/proc/self/io";
	slurp(own);
	for (int i = 0; i < 4; i++)
		before[i] = strtol(strstr(text, names[i]) + 7, NULL, 10);
	long size = strlen(text);
	for (int i = 0; i < 3; i++) {
		read(zero, buf, sizeof buf);
		write(null, buf, 300);
	}
	read(null, buf, 1), write(zero, buf, 1);
	slurp(own);
	for (int i = 0; i < 4; i++)
		after[i] = strtol(strstr(text, names[i]) + 7, NULL, 10);
	// The file was read by two calls, itself.
	printf("read %ld of 3000, wrote %ld; %ld + %ld calls\n", after[0] - before[0] - size, after[1] - before[1], after[2] - before[2],
	       after[3] - before[3]);
	close(zero), close(null), close(dir);
}

static void memory(void)
{
	size_t size = 64 * 4096;
	char *m = mmap(NULL, size + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	// Apart from its neighbours.
	mprotect(m, 4096, PROT_NONE);
	mprotect(m + 4096 + size, 4096, PROT_NONE);
	m += 4096;
	memset(m, 1, size / 2);
	char head[40];
	snprintf(head, sizeof head, "%lx-", (long)m);
	slurp("/proc/self/smaps");
	char *at = strstr(text, head);
	static const char *names[] = { "\nSize:", "\nRss:", "\nPss:", "\nPrivate_Dirty:", "\nAnonymous:", "\nShared_Clean:", "\nSwap:" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		printf("%s %ld kB\n", names[i] + 1, strtol(strstr(at, names[i]) + strlen(names[i]), NULL, 10));
	long rss = line("/proc/self/smaps_rollup", "Rss:"), anon = line("/proc/self/smaps_rollup", "Anonymous:");
	printf("rollup: %d %d\n", rss > 128, anon >= 128 && anon <= rss);
	munmap(m - 4096, size + 8192);
}

static void status(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof one, &one);
	printf("allowed %ld\n", line("/proc/self/status", "Cpus_allowed_list:\t"));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	long before = line("/proc/self/status", "SigQ:\t");
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ 0 });
	printf("queued %ld\n", line("/proc/self/status", "SigQ:\t") - before);
	static const char *names[] = { "VmExe:", "VmLib:", "VmPTE:", "VmHWM:", "Kthread:", "THP_enabled:", "CoreDumping:", "Mems_allowed:" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		printf("%s %d\n", names[i], line("/proc/self/status", names[i]) >= 0);
}

static void slack(void)
{
	printf("slack %ld\n", line("/proc/self/timerslack_ns", ""));
	int fd = open("/proc/self/timerslack_ns", O_WRONLY);
	printf("%zd", write(fd, "70000", 5));
	printf(" %d", prctl(PR_GET_TIMERSLACK));
	printf(" %zd", write(fd, "0", 1));
	printf(" %d\n", prctl(PR_GET_TIMERSLACK));
	close(fd);
}

static void timers(void)
{
	static const int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID };
	for (int i = 0; i < 3; i++) {
		timer_t id;
		struct sigevent e = { .sigev_notify = i == 1 ? SIGEV_NONE : SIGEV_SIGNAL, .sigev_signo = i == 1 ? 0 : SIGUSR1 };
		e.sigev_value.sival_int = 0x1234 + i;
		timer_create(clocks[i], &e, &id);
	}
	slurp("/proc/self/timers");
	for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n"))
		// A pid is behind the dot.
		printf("%.*s\n", (int)strcspn(at, "."), at);
}

static void of(const char *what, int fd, const char *from)
{
	char path[60];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	slurp(path);
	char *at = strstr(text, from);
	printf("%s:", what);
	for (at = at ? strtok(at, "\n") : NULL; at; at = strtok(NULL, "\n")) {
		if (strncmp(at, "eventfd-id", 10))
			printf(" [%.*s]", (int)(strstr(at, " ino:") ? strstr(at, " ino:") - at : (long)strlen(at)), at);
	}
	printf("\n");
}

static void descriptors(void)
{
	int e = eventfd(7, EFD_SEMAPHORE), ep = epoll_create1(0), t = timerfd_create(CLOCK_MONOTONIC, 0), n = inotify_init();
	of("eventfd", e, "eventfd-count");
	// Its number is the same everywhere.
	dup2(e, 100);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788 };
	epoll_ctl(ep, EPOLL_CTL_ADD, 100, &event);
	of("epoll", ep, "tfd");
	struct itimerspec spec = { { 2, 500 }, { 1000000, 0 } };
	timerfd_settime(t, 0, &spec, NULL);
	slurp("/proc/self/fdinfo/0");
	char path[60];
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", t);
	slurp(path);
	printf("timerfd: clock %ld ticks %ld %s", strtol(strstr(text, "clockid: ") + 9, NULL, 10), strtol(strstr(text, "ticks: ") + 7, NULL, 10),
	       strstr(text, "it_interval"));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	of("signalfd", signalfd(-1, &set, 0), "sigmask");
	inotify_add_watch(n, "/", IN_CREATE);
	of("inotify", n, "inotify");
	char name[] = "/tmp/told-XXXXXX";
	int f = mkstemp(name);
	unlink(name);
	struct flock lock = { .l_type = F_WRLCK, .l_start = 3, .l_len = 5 };
	fcntl(f, F_SETLK, &lock);
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", f);
	char *at = strstr(slurp(path), "lock:");
	printf("%.28s … %s", at, strrchr(at, ':') ? strchr(strrchr(at, ':'), ' ') : "\n");
	flock(f, LOCK_SH);
	int lines = 0;
	for (at = slurp(path); (at = strstr(at, "lock:")); at++)
		lines++;
	printf("locks %d\n", lines);
	char own[40];
	snprintf(own, sizeof own, " %d ", getpid());
	lines = 0;
	for (at = slurp("/proc/locks"); (at = strstr(at, own)); at++)
		lines++;
	printf("in /proc/locks %d\n", lines);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	threads();
	counts();
	memory();
	status();
	slack();
	timers();
	descriptors();
	return 0;
}
