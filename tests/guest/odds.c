/* Corners that real programs' own tests look at. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static volatile int hits;
static void handler(int sig) { hits++; }

#define TRY(e) do { errno = 0; long r_ = (e); printf("%s = %ld %s\n", #e, r_, r_ < 0 ? strerror(errno) : ""); } while (0)

/* What lsfd shows of a socket. */
static void protocol_names(void)
{
	static const int kinds[][3] = { { AF_UNIX, SOCK_STREAM, 0 }, { AF_UNIX, SOCK_DGRAM, 0 }, { AF_UNIX, SOCK_SEQPACKET, 0 },
		{ AF_INET, SOCK_STREAM, 0 }, { AF_INET6, SOCK_STREAM, 0 }, { AF_INET, SOCK_DGRAM, 0 },
		{ AF_INET6, SOCK_DGRAM, 0 }, { AF_NETLINK, SOCK_RAW, 0 } };
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		int s = socket(kinds[i][0], kinds[i][1], kinds[i][2]);
		char name[64] = "", list[64] = "", path[64];
		snprintf(path, sizeof path, "/proc/self/fd/%d", s);
		TRY(fgetxattr(s, "system.sockprotoname", name, sizeof name));
		TRY(getxattr(path, "system.sockprotoname", 0, 0));
		TRY(fgetxattr(s, "system.sockprotoname", name, 2));
		TRY(flistxattr(s, list, sizeof list));
		TRY(flistxattr(s, list, 4));
		TRY(fsetxattr(s, "system.sockprotoname", "x", 1, 0));
		TRY(fremovexattr(s, "system.sockprotoname"));
		printf("%s %s\n", name, list);
		close(s);
	}
}

int main(void)
{
	protocol_names();
	cpu_set_t set;
	struct sched_param p = { 0 };
	setvbuf(stdout, NULL, _IONBF, 0);
	TRY(sched_getaffinity(-1, sizeof set, &set));
	TRY(sched_setaffinity(-1, sizeof set, &set));
	TRY(syscall(SYS_sched_getaffinity, 0, 3, &set));
	TRY(sched_getscheduler(-1));
	TRY(sched_getparam(-1, &p));
	TRY(getpriority(PRIO_PROCESS, -1));

	signal(SIGUSR1, handler);
	int self = open("/proc/self", O_RDONLY | O_DIRECTORY), fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
	int task = open("/proc/self/task", O_RDONLY | O_DIRECTORY), file = open("/proc/self/stat", O_RDONLY);
	TRY(syscall(SYS_pidfd_send_signal, self, SIGUSR1, NULL, 0));
	printf("handled %d\n", hits);
	TRY(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0));
	TRY(syscall(SYS_pidfd_send_signal, task, SIGUSR1, NULL, 0));
	TRY(syscall(SYS_pidfd_send_signal, file, SIGUSR1, NULL, 0));
	TRY(syscall(SYS_pidfd_send_signal, self, 99, NULL, 0));
	TRY(syscall(SYS_pidfd_send_signal, 99, SIGUSR1, NULL, 0));

	/* The terminal of a process without one. */
	if (fork() == 0) {
		int sid, tty, foreground;
		setsid();
		FILE *f = fopen("/proc/self/stat", "r");
		fscanf(f, "%*d %*s %*c %*d %*d %d %d %d", &sid, &tty, &foreground);
		printf("%d %d %d\n", sid == getpid(), tty, foreground);
		_exit(0);
	}
	wait(NULL);
	return 0;
}
