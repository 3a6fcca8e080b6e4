/* Corners that real programs' own tests look at. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int hits;
static void handler(int sig) { hits++; }

#define TRY(e) do { errno = 0; long r_ = (e); printf("%s = %ld %s\n", #e, r_, r_ < 0 ? strerror(errno) : ""); } while (0)

int main(void)
{
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
