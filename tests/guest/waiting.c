/* wait4 and waitid: what they refuse, whom they mean; pidfds; clone3's arguments; groups of zombies. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOTHREAD 0x20000000
#define PIDFD 3

static void e(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerror(errno) : "ok");
}

static pid_t child(int status)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (status < 0)
			pause();
		_exit(status);
	}
	return pid;
}

/* Until it is a zombie. */
static void ended(pid_t pid)
{
	siginfo_t i;
	waitid(P_PID, pid, &i, WEXITED | WNOWAIT);
}

static void arguments(void)
{
	siginfo_t i;
	int st;
	e("waitid nothing", waitid(P_ALL, 0, &i, 0));
	e("waitid only WNOHANG", waitid(P_ALL, 0, &i, WNOHANG));
	e("waitid unknown option", waitid(P_ALL, 0, &i, WEXITED | 0x100));
	e("waitid unknown kind", waitid(17, 0, &i, WEXITED));
	e("waitid pid 0", waitid(P_PID, 0, &i, WEXITED));
	e("waitid negative group", waitid(P_PGID, -5, &i, WEXITED));
	e("waitid negative pidfd", waitid(PIDFD, -5, &i, WEXITED));
	e("waitid no pidfd", waitid(PIDFD, 0, &i, WEXITED));
	e("waitid childless", waitid(P_ALL, 0, &i, WEXITED));
	e("wait4 least pid", wait4((pid_t)0x80000000, &st, 0, NULL));
	e("wait4 unknown option", wait4(-1, &st, 0x100, NULL));
	e("wait4 WNOWAIT", wait4(-1, &st, WNOWAIT, NULL));
	pid_t pid = child(3);
	ended(pid);
	e("zombie, stops only", waitid(P_ALL, 0, &i, WSTOPPED | WNOHANG));
	e("zombie, stops only, waiting", waitid(P_PID, pid, &i, WSTOPPED));
	memset(&i, 7, sizeof i);
	e("keep", waitid(P_PID, pid, &i, WEXITED | WNOWAIT));
	printf("signo %d errno %d code %d status %d rest %d\n", i.si_signo, i.si_errno, i.si_code, i.si_status,
	       ((char *)&i)[100]);
	e("clone only", waitid(P_ALL, 0, &i, WEXITED | __WCLONE));
	e("all", waitid(P_ALL, 0, &i, WEXITED | __WALL));
	pid = child(-1);
	memset(&i, 7, sizeof i);
	e("nothing yet", waitid(P_PID, pid, &i, WEXITED | WNOHANG));
	printf("signo %d errno %d code %d pid %d status %d rest %d\n", i.si_signo, i.si_errno, i.si_code, i.si_pid,
	       i.si_status, ((char *)&i)[100]);
	kill(pid, SIGKILL);
	waitpid(pid, &st, 0);
	printf("killed %d\n", WTERMSIG(st));
}

static pid_t made;
static void *makes(void *arg)
{
	int st;
	made = child(4);
	(void)arg;
	e("maker", waitpid(made, &st, NOTHREAD | __WALL));
	made = child(5);
	return NULL;
}

static void threads(void)
{
	pthread_t t;
	int st;
	pid_t mine = child(6);
	ended(mine);
	pthread_create(&t, NULL, makes, NULL);
	pthread_join(t, NULL);
	e("from the thread that ended", waitpid(made, &st, NOTHREAD));
	e("own", waitpid(mine, &st, NOTHREAD));
}

static void *sleeps(void *arg)
{
	*(volatile pid_t *)arg = syscall(SYS_gettid);
	pause();
	return NULL;
}

static void pidfds(void)
{
	struct { uint64_t mask, cgroup; uint32_t pid, tgid, ppid, ids[8]; int32_t status; } info;
	volatile pid_t tid = 0;
	pthread_t t;
	siginfo_t i;
	pid_t pid = child(7);
	ended(pid);
	int f = syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { f, POLLIN, 0 };
	e("open a zombie", f);
	e("signal 0 to it", syscall(SYS_pidfd_send_signal, f, 0, NULL, 0));
	e("kill it", syscall(SYS_pidfd_send_signal, f, SIGKILL, NULL, 0));
	e("kill(2)", kill(pid, SIGKILL));
	printf("poll %d", poll(&p, 1, 0));
	printf(" %#x\n", p.revents);
	memset(&info, 0, sizeof info);
	info.mask = 3;
	int r = ioctl(f, _IOC(3, 0xff, 11, 64), &info);
	printf("info %d mask %d pid %d tgid %d ppid %d uid %u\n", r, (int)info.mask & 3, info.pid == pid, info.tgid == pid,
	       info.ppid == getpid(), info.ids[0] == getuid());
	e("info too small", ioctl(f, _IOC(3, 0xff, 11, 32), &info));
	e("status", waitid(PIDFD, f, &i, WEXITED));
	printf("exit %d\n", i.si_status);
	printf("poll %d", poll(&p, 1, 0));
	printf(" %#x\n", p.revents);
	e("signal 0 after reaping", syscall(SYS_pidfd_send_signal, f, 0, NULL, 0));
	info.mask = 1;
	e("info after reaping", ioctl(f, _IOC(3, 0xff, 11, 64), &info));
	e("waitid after reaping", waitid(PIDFD, f, &i, WEXITED));
	close(f);

	pid = child(-1);
	f = syscall(SYS_pidfd_open, pid, O_NONBLOCK);
	e("nonblocking", waitid(PIDFD, f, &i, WEXITED));
	e("nonblocking, WNOHANG", waitid(PIDFD, f, &i, WEXITED | WNOHANG));
	e("two scopes", syscall(SYS_pidfd_send_signal, f, SIGTERM, NULL, 3));
	e("unknown scope", syscall(SYS_pidfd_send_signal, f, SIGTERM, NULL, 8));
	e("no such group", syscall(SYS_pidfd_send_signal, f, SIGTERM, NULL, 4));
	e("thread scope", syscall(SYS_pidfd_send_signal, f, SIGTERM, NULL, 1));
	fcntl(f, F_SETFL, 0);
	e("wait", waitid(PIDFD, f, &i, WEXITED));
	printf("signal %d\n", i.si_status);
	close(f);

	pthread_create(&t, NULL, sleeps, (void *)&tid);
	while (!tid)
		sched_yield();
	e("thread without its flag", syscall(SYS_pidfd_open, tid, 0) < 0 ? -1 : 0);
	f = syscall(SYS_pidfd_open, tid, O_EXCL);
	e("thread", f);
	printf("flags %#x\n", fcntl(f, F_GETFL) & O_EXCL);
	e("signal 0 to it", syscall(SYS_pidfd_send_signal, f, 0, NULL, 0));
	p = (struct pollfd){ f, POLLIN, 0 };
	printf("poll %d", poll(&p, 1, 0));
	pthread_cancel(t);
	pthread_join(t, NULL);
	printf(" %d", poll(&p, 1, 5000));
	printf(" %#x\n", p.revents);
	close(f);
}

static long clone3(struct clone_args *a, size_t size)
{
	long pid = syscall(SYS_clone3, a, size);
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, __WALL);
	return pid;
}

static void cloning(void)
{
	pid_t wanted[2] = { 0, 1 };
	struct clone_args a = { .exit_signal = SIGCHLD };
	char big[200] = { 0 };
	memcpy(big, &a, sizeof a);
	e("clone3", clone3(&a, sizeof a));
	e("with zeros behind", clone3((struct clone_args *)big, 200));
	big[150] = 1;
	e("with more behind", clone3((struct clone_args *)big, 200));
	e("too long", clone3(&a, 5000));
	a.flags = 1ULL << 34;
	e("unknown flag", clone3(&a, sizeof a));
	a.flags = 0x00400000;
	e("CLONE_DETACHED", clone3(&a, sizeof a));
	a.flags = 1;
	e("a signal among the flags", clone3(&a, sizeof a));
	a.flags = CLONE_SIGHAND | CLONE_VM | CLONE_CLEAR_SIGHAND;
	e("both ways with handlers", clone3(&a, sizeof a));
	a.flags = 1ULL << 33;
	a.cgroup = 0;
	e("no cgroup", clone3(&a, sizeof a));
	a.cgroup = 1ULL << 40;
	e("far cgroup", clone3(&a, sizeof a));
	a = (struct clone_args){ .exit_signal = SIGCHLD, .set_tid_size = 1 };
	e("set_tid without a list", clone3(&a, sizeof a));
	a.set_tid = (uintptr_t)wanted;
	a.set_tid_size = 0;
	e("set_tid without a size", clone3(&a, sizeof a));
	a.set_tid_size = 1;
	e("set_tid 0", clone3(&a, sizeof a));
	wanted[0] = -1;
	e("set_tid -1", clone3(&a, sizeof a));
	a.set_tid_size = 40;
	e("set_tid for too many", clone3(&a, sizeof a));
	a = (struct clone_args){ .exit_signal = SIGCHLD, .stack = 4096, .stack_size = 1ULL << 62 };
	e("endless stack", clone3(&a, sizeof a));
	int fd = -1;
	a = (struct clone_args){ .exit_signal = SIGCHLD, .flags = CLONE_PIDFD | CLONE_PARENT_SETTID };
	a.pidfd = a.parent_tid = (uintptr_t)&fd;
	e("one place for two", clone3(&a, sizeof a));
	e("clone(2) with both", syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &fd, 0, 0));
	e("thread without handlers", syscall(SYS_clone, CLONE_THREAD | CLONE_VM, 0, 0, 0, 0));
}

static void groups(void)
{
	int go[2], there[2], st;
	char c;
	if (pipe(go) || pipe(there))
		return;
	pid_t leader = fork();
	if (leader == 0) {
		setpgid(0, 0);
		_exit(0);
	}
	ended(leader);
	pid_t other = fork();
	if (other == 0) {
		e("join the group of a zombie", setpgid(0, leader));
		e("signal it", kill(-leader, 0));
		printf("group %d\n", getpgrp() == leader);
		if (write(there[1], "x", 1) != 1 || read(go[0], &c, 1) < 0)
			_exit(1);
		_exit(0);
	}
	if (read(there[0], &c, 1) != 1)
		return;
	waitpid(leader, &st, 0);
	e("group outlives it", setpgid(other, leader));
	printf("of it %d\n", getpgid(other) == leader);
	if (write(go[1], "x", 1) != 1)
		return;
	e("by group", waitpid(-leader, &st, 0));
	e("no group", setpgid(0, leader) < 0 ? -1 : 0);
	e("no group to signal", kill(-leader, 0));
}

static void usage(void)
{
	struct rusage before, after, of;
	int st;
	getrusage(RUSAGE_CHILDREN, &before);
	pid_t pid = fork();
	if (pid == 0) {
		static char *m;
		size_t n = 64 << 20, i;
		struct timespec t;
		m = malloc(n);
		for (i = 0; i < n; i += 4096)
			m[i] = 1;
		do
			clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
		while (t.tv_sec == 0 && t.tv_nsec < 60000000);
		_exit(0);
	}
	ended(pid);
	getrusage(RUSAGE_CHILDREN, &after);
	printf("not before it is waited for: %d\n", after.ru_utime.tv_usec == before.ru_utime.tv_usec &&
	       after.ru_maxrss == before.ru_maxrss);
	wait4(pid, &st, 0, &of);
	getrusage(RUSAGE_CHILDREN, &after);
	printf("memory %d time %d\n", of.ru_maxrss >= 64 << 10 && after.ru_maxrss >= of.ru_maxrss,
	       of.ru_utime.tv_sec * 1000000 + of.ru_utime.tv_usec + of.ru_stime.tv_sec * 1000000 + of.ru_stime.tv_usec > 50000);
	printf("faults %d\n", of.ru_minflt > 16);
}

static void zombies(void)
{
	static const char *names[] = { "stat", "status", "comm", "cmdline", "statm", "limits", "maps" };
	char path[64], buf[512];
	pid_t pid = child(1);
	size_t i;
	ended(pid);
	for (i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
		FILE *f = fopen(path, "r");
		printf("%s: %s", names[i], f ? "there" : strerror(errno));
		while (f && fgets(buf, sizeof buf, f)) {
			if (!strncmp(buf, "State", 5) || !strncmp(buf, "Name", 4) || !strcmp(names[i], "comm"))
				printf(" [%.*s]", (int)strcspn(buf, "\n"), buf);
			if (!strcmp(names[i], "stat"))
				printf(" %c", strrchr(buf, ')')[2]);
		}
		printf("\n");
		if (f)
			fclose(f);
	}
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	e("exe", readlink(path, buf, sizeof buf));
	snprintf(path, sizeof path, "/proc/%d/cwd", pid);
	e("cwd", readlink(path, buf, sizeof buf));
	waitpid(pid, NULL, 0);
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	e("gone", open(path, O_RDONLY));
}

static void *execs(void *arg)
{
	execl("/bin/true", "true", (char *)NULL);
	return arg;
}
static int execs_in_clone(void *arg)
{
	execs(arg);
	return 1;
}
static void *vforks(void *arg)
{
	pid_t pid = vfork();
	if (pid == 0) {
		struct timespec t = { 2, 0 };
		nanosleep(&t, NULL);
		_exit(0);
	}
	return arg;
}

static void execing(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	struct timespec from, to;
	int st;
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t t;
		pthread_create(&t, NULL, execs, NULL);
		pause();
	}
	waitpid(pid, &st, 0);
	printf("exec by a thread: %d\n", st);
	clock_gettime(CLOCK_MONOTONIC, &from);
	pid = fork();
	if (pid == 0) {
		pthread_t t;
		pthread_create(&t, NULL, vforks, NULL);
		usleep(100000);
		execs(NULL);
	}
	waitpid(pid, &st, 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("exec beside a thread in vfork: %d soon %d\n", st, to.tv_sec - from.tv_sec < 2);
	pid = fork();
	if (pid == 0) {
		int flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_VFORK | CLONE_FS | CLONE_FILES;
		clone(execs_in_clone, stack + sizeof stack, flags, NULL);
		_exit(9);
	}
	waitpid(pid, &st, 0);
	printf("exec by a thread that was vforked: %d\n", st);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	arguments();
	threads();
	pidfds();
	cloning();
	groups();
	usage();
	zombies();
	execing();
	return 0;
}
