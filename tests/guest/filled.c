// What system calls fill in: which bytes of a buffer they leave alone, and what they put into padding and reserved
// fields. Each call is made on buffers of two patterns: a byte that has both afterwards was not written.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <net/if.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { SIZE = 4096 };
static unsigned char a[SIZE], b[SIZE];

// Ranges of `size` bytes that were left alone.
static void left_alone(int size)
{
	for (int i = 0; i < size; i++) {
		int from = i;
		while (i < size && a[i] == 0xaa && b[i] == 0x55)
			i++;
		if (i > from)
			printf(" alone %d..%d", from, i);
	}
}

// What lies in reserved bytes from..to.
static void reserved(int from, int to)
{
	int zero = 1, kept = 1;
	for (int i = from; i < to; i++) {
		zero &= a[i] == 0 && b[i] == 0;
		kept &= a[i] == 0xaa && b[i] == 0x55;
	}
	printf(" %d..%d %s", from, to, zero ? "zero" : kept ? "kept" : "SOMETHING");
}

static void begin(const char *what)
{
	printf("%s:", what);
	memset(a, 0xaa, SIZE);
	memset(b, 0x55, SIZE);
}

#define CALL(what, expression)                                                                                         \
	do {                                                                                                           \
		begin(what);                                                                                           \
		for (int turn = 0; turn < 2; turn++) {                                                                 \
			unsigned char *p = turn ? b : a;                                                               \
			errno = 0;                                                                                     \
			long r = (long)(expression);                                                                   \
			if (r < 0)                                                                                     \
				printf(" failed %s", strerrorname_np(errno));                                          \
			(void)p;                                                                                       \
		}                                                                                                      \
	} while (0)

static void end(void)
{
	printf("\n");
	fflush(stdout);
}

static pid_t child(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(3);
	return pid;
}

static void file_status(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	CALL("stat", syscall(SYS_fstat, fd, p));
	left_alone(160), reserved(36, 40), reserved(120, 144), end();
	CALL("newfstatat of a fifo", ({ int fds[2]; int r = pipe(fds) | syscall(SYS_newfstatat, fds[0], "", p, AT_EMPTY_PATH); close(fds[0]), close(fds[1]); r; }));
	left_alone(160), reserved(36, 40), reserved(120, 144), end();
	CALL("statx", syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, p));
	left_alone(272), reserved(30, 32), reserved(208, 256), end();
	CALL("statfs", syscall(SYS_fstatfs, fd, p));
	left_alone(136), reserved(88, 120), end();
	struct flock lock;
	CALL("F_GETLK", ({ memset(&lock, 0xaa + (p == b) * 0xab, sizeof lock); lock.l_type = F_WRLCK; lock.l_whence = 0; lock.l_start = lock.l_len = 0; int r = fcntl(fd, F_GETLK, &lock); memcpy(p, &lock, sizeof lock); r; }));
	left_alone(0), reserved(4, 8), reserved(28, 32), end();
	close(fd);
}

static void directory(void)
{
	char dir[] = "/tmp/drupe-filled-XXXXXX", path[64];
	if (!mkdtemp(dir))
		exit(1);
	const char *names[] = {"a", "bc", "def", "ghij", "klmno", "pqrstu", "vwxyz01", "23456789"};
	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		close(open(path, O_CREAT | O_WRONLY, 0600));
	}
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	long n = 0;
	CALL("getdents64", ({ lseek(fd, 0, SEEK_SET); n = syscall(SYS_getdents64, fd, p, 2048); n; }));
	int dirty = 0;
	for (long at = 0; at < n;) {
		struct dirent64 *d = (struct dirent64 *)(a + at);
		// The host leaves what is behind a name alone; zeros would do as well.
		for (unsigned char *q = (unsigned char *)d->d_name + strlen(d->d_name) + 1; q < a + at + d->d_reclen; q++)
			dirty |= *q != 0 && *q != 0xaa;
		at += d->d_reclen;
	}
	printf(" %ld bytes, padding %s", n, dirty ? "SOMETHING" : "clean"), end();
	close(fd);
	int in = inotify_init1(IN_NONBLOCK);
	inotify_add_watch(in, dir, IN_DELETE);
	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		if (i == 4)
			begin("inotify"), n = read(in, a, SIZE), read(in, b, SIZE);
		unlink(path);
	}
	dirty = 0;
	for (long at = 0; at < n;) {
		struct inotify_event *e = (struct inotify_event *)(a + at);
		for (unsigned i = strlen(e->name); i < e->len; i++)
			dirty |= e->name[i] != 0;
		printf(" %u", e->len);
		at += sizeof *e + e->len;
	}
	printf(" names %s", dirty ? "SOMETHING" : "clean"), end();
	close(in);
	rmdir(dir);
}

static void system_wide(void)
{
	CALL("sysinfo", syscall(SYS_sysinfo, p));
	left_alone(128), reserved(82, 88), reserved(108, 112), end();
	CALL("uname", syscall(SYS_uname, p));
	struct utsname *u = (struct utsname *)a;
	int s = strlen(u->sysname), m = strlen(u->machine);
	left_alone(400), reserved(s, 65), reserved(260 + m, 325), end();
	CALL("getrusage", syscall(SYS_getrusage, RUSAGE_SELF, p));
	left_alone(160), end();
	CALL("times", syscall(SYS_times, p));
	left_alone(40), end();
	CALL("adjtimex", ({ struct timex *t = (struct timex *)p; t->modes = 0; syscall(SYS_adjtimex, p); }));
	// The padding before is kept or zeroed.
	reserved(168, 208), end();
	CALL("prlimit", syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, p));
	left_alone(24), end();
	CALL("sched_getattr", syscall(SYS_sched_getattr, 0, p, 48, 0));
	left_alone(56), end();
	prctl(PR_SET_NAME, "short");
	CALL("PR_GET_NAME", prctl(PR_GET_NAME, p));
	left_alone(24), reserved(5, 16), end();
	CALL("sigaltstack", ({ stack_t st = {.ss_sp = a + 2048, .ss_size = 2048}; sigaltstack(&st, 0); syscall(SYS_sigaltstack, 0, p); }));
	left_alone(32), reserved(12, 16), end();
	stack_t off = {.ss_flags = SS_DISABLE};
	sigaltstack(&off, 0);
}

static void timers(void)
{
	CALL("getitimer", syscall(SYS_getitimer, ITIMER_REAL, p));
	left_alone(40), end();
	timer_t id;
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	timer_create(CLOCK_MONOTONIC, &none, &id);
	CALL("timer_gettime", timer_gettime(id, (struct itimerspec *)p));
	left_alone(40), end();
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	CALL("timerfd_gettime", timerfd_gettime(fd, (struct itimerspec *)p));
	left_alone(40), end();
	close(fd);
}

static void children(void)
{
	CALL("waitid", ({ child(); syscall(SYS_waitid, P_ALL, 0, p, WEXITED, 0); }));
	left_alone(128), reserved(12, 16), end();
	CALL("waitid without a child", ({ child(); syscall(SYS_waitid, P_ALL, 0, 0, WEXITED, 0); syscall(SYS_waitid, P_ALL, 0, p, WEXITED | WNOHANG, 0) + 1; }));
	left_alone(128), end();
	CALL("waitid, nothing yet", ({ pid_t pid = fork(); if (!pid) pause(); int r = syscall(SYS_waitid, P_PID, pid, p, WEXITED | WNOHANG, 0); kill(pid, 9); waitpid(pid, 0, 0); r; }));
	left_alone(128), reserved(12, 16), end();
	CALL("wait4", ({ child(); int st; syscall(SYS_wait4, -1, &st, 0, p); }));
	left_alone(160), end();
}

static int turn_of_handler;

static void handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	unsigned char *to = turn_of_handler++ ? b : a;
	memcpy(to, info, 128);
	memcpy(to + 128, &u->uc_stack, sizeof u->uc_stack);
	// Linux writes no padding there: it is what the stack held.
	memset(to + 140, 0, 4);
	unsigned char *fp = (unsigned char *)u->uc_mcontext.fpregs;
	memcpy(to + 216, &u->uc_link, 8);
	memcpy(to + 224, fp + 464 + 20, 28);
	(void)sig;
}

static void signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &act, 0);
	begin("a handler's frame");
	kill(getpid(), SIGUSR1), kill(getpid(), SIGUSR1);
	reserved(12, 16), reserved(24, 128), reserved(140, 144), reserved(216, 224), reserved(224, 252), end();
	turn_of_handler = 0;
	sigprocmask(SIG_BLOCK, &set, 0);
	CALL("rt_sigtimedwait", ({ kill(getpid(), SIGUSR1); syscall(SYS_rt_sigtimedwait, &set, p, 0, 8); }));
	left_alone(128), reserved(12, 16), reserved(24, 128), end();
	union sigval value = {.sival_int = 7};
	CALL("rt_sigtimedwait, queued", ({ value.sival_ptr = (void *)7; sigqueue(getpid(), SIGRTMIN, value); syscall(SYS_rt_sigtimedwait, &set, p, 0, 8); }));
	left_alone(128), reserved(12, 16), reserved(32, 128), end();
	int fd = signalfd(-1, &set, 0);
	CALL("signalfd", ({ kill(getpid(), SIGUSR1); read(fd, p, 128); }));
	left_alone(128), reserved(20, 128), end();
	close(fd);
	CALL("rt_sigpending", syscall(SYS_rt_sigpending, p, 8));
	left_alone(16), end();
	CALL("rt_sigaction", syscall(SYS_rt_sigaction, SIGUSR1, 0, p, 8));
	left_alone(40), end();
	sigprocmask(SIG_UNBLOCK, &set, 0);
}

static void sockets(void)
{
	socklen_t len;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
	bind(l, (void *)&in, sizeof in), listen(l, 5);
	CALL("getsockname, IPv4", ({ len = 64; getsockname(l, (void *)p, &len); }));
	printf(" %u", len), left_alone(32), reserved(8, 16), end();
	memcpy(&in, a, sizeof in);
	connect(c, (void *)&in, sizeof in);
	int s = -1;
	begin("accept, IPv4");
	len = 64, s = accept(l, (void *)a, &len);
	printf(" %u", len), left_alone(0), reserved(8, 8), end();
	CALL("getpeername, IPv4", ({ len = 64; getpeername(s, (void *)p, &len); }));
	printf(" %u", len), left_alone(32), reserved(8, 16), end();
	CALL("TCP_INFO, its start", ({ len = 8; getsockopt(c, IPPROTO_TCP, TCP_INFO, p, &len); }));
	printf(" %u", len), left_alone(16), end();
	CALL("SO_LINGER", ({ len = 8; getsockopt(c, SOL_SOCKET, SO_LINGER, p, &len); }));
	printf(" %u", len), left_alone(16), end();
	CALL("SO_RCVTIMEO", ({ len = 16; getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, p, &len); }));
	printf(" %u", len), left_alone(24), end();
	close(c), close(s), close(l);
	int u6 = socket(AF_INET6, SOCK_DGRAM, 0);
	CALL("getsockname, IPv6", ({ len = 64; getsockname(u6, (void *)p, &len); }));
	printf(" %u", len), left_alone(40), end();
	close(u6);
	int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
	in.sin_port = 0, bind(u, (void *)&in, sizeof in), len = sizeof in, getsockname(u, (void *)&in, &len);
	CALL("recvfrom, UDP", ({ sendto(v, "x", 1, 0, (void *)&in, sizeof in); char x; len = 64; recvfrom(u, &x, 1, 0, (void *)p, &len); }));
	printf(" %u", len), left_alone(32), reserved(8, 16), end();
	close(u), close(v);
	int pair[2], on = 1;
	socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	CALL("getsockname, local", ({ len = 110; getsockname(pair[0], (void *)p, &len); }));
	printf(" %u", len), left_alone(16), end();
	CALL("SO_PEERCRED", ({ len = 12; getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, p, &len); }));
	printf(" %u", len), left_alone(16), end();
	setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
	setsockopt(pair[1], SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on);
	CALL("control messages", ({ char x; struct iovec io = {&x, 1}; struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = p, .msg_controllen = 128}; send(pair[0], "x", 1, 0); long r = recvmsg(pair[1], &m, 0); printf(" %zu", m.msg_controllen); r; }));
	int dirty = 0;
	for (int i = 0; i < 128; i++)
		if (a[i] != b[i] && !(a[i] == 0xaa && b[i] == 0x55))
			dirty++;
	printf(" %s", dirty > 16 ? "SOMETHING" : "clean"), end();
	close(pair[0]), close(pair[1]);
	int n = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	CALL("getsockname, netlink", ({ len = 64; getsockname(n, (void *)p, &len); }));
	printf(" %u", len), left_alone(24), reserved(2, 4), end();
	close(n);
	int i = socket(AF_INET, SOCK_DGRAM, 0);
	CALL("SIOCGIFFLAGS", ({ strcpy((char *)p, "lo"); ioctl(i, SIOCGIFFLAGS, p); }));
	left_alone(0), reserved(3, 15), end();
	close(i);
}

static void waiting(void)
{
	int e = epoll_create1(0), fds[2];
	pipe(fds);
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 7};
	epoll_ctl(e, EPOLL_CTL_ADD, fds[0], &event);
	write(fds[1], "x", 1);
	CALL("epoll_wait", epoll_wait(e, (void *)p, 4, 0));
	left_alone(48), end();
	close(e), close(fds[0]), close(fds[1]);
	mqd_t q = mq_open("/drupe-filled", O_CREAT | O_RDWR, 0600, 0);
	if (q != (mqd_t)-1) {
		CALL("mq_getattr", syscall(SYS_mq_getsetattr, q, 0, p));
		left_alone(72), reserved(32, 64), end();
		mq_unlink("/drupe-filled");
	}
}

static unsigned char frame[16384];

static void take_frame(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info;
	unsigned char *state = (unsigned char *)((ucontext_t *)context)->uc_mcontext.fpregs;
	unsigned size;
	memcpy(&size, state + 464 + 16, 4);
	if (size >= 576 && size <= sizeof frame)
		memcpy(frame, state, size);
}

// Whether bytes of a frame are as the stack was, or zero.
static int clean(unsigned start, unsigned end)
{
	for (unsigned i = start; i < end; i++)
		if (frame[i] != 0xa5 && frame[i] != 0)
			return 0;
	return 1;
}

// The parts of a signal's frame that the processor does not write: behind the legacy registers, and between the states.
static void signal_frame(void)
{
	static unsigned char stack[65536];
	memset(stack, 0xa5, sizeof stack);
	sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof stack }, NULL);
	struct sigaction action = { .sa_sigaction = take_frame, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaction(SIGUSR2, &action, NULL);
	for (int times = 0; times < 3; times++) {
		// Once by a trap, then perhaps by a rewritten site.
		raise(SIGUSR2);
		unsigned size, at = 576, next;
		unsigned long features;
		memcpy(&size, frame + 464 + 16, 4);
		memcpy(&features, frame + 464 + 8, 8);
		int all = clean(416, 464);
		do {
			next = size;
			unsigned end = size;
			for (int i = 2; i < 20; i++) {
				unsigned a, b, c, d;
				__asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(13), "c"(i));
				if (features >> i & 1 && b >= at && b < next)
					next = b, end = b + a;
			}
			all &= clean(at, next);
			at = end;
		} while (at < size);
		printf("frame %d\n", all);
	}
	sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL);
}

int main(void)
{
	file_status();
	directory();
	system_wide();
	timers();
	children();
	signals();
	sockets();
	waiting();
	// Last: what it leaves on the stack would show in the frames of the others.
	signal_frame();
	return 0;
}
