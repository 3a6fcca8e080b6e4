/* /proc/locks with those that wait and with leases; whom F_SETOWN_EX takes; namespaces of a process that is gone; orphaned
 * groups. */
#include "check.h"
#include <sched.h>
#include <signal.h>
#include <sys/file.h>

static pid_t kids[8];
static int n_kids;

/* What the table says of the file, with the processes by their order. */
static void table(void)
{
	struct stat s;
	char line[300], key[64];
	stat("file", &s);
	sprintf(key, ":%lu ", (unsigned long)s.st_ino);
	FILE *f = fopen("/proc/locks", "r");
	while (fgets(line, sizeof line, f)) {
		char *rest = strchr(line, ':') + 1, *id = strstr(rest, key), *at = id;
		if (!id)
			continue;
		while (at > rest && at[-1] != ' ')
			at--;
		long pid = strtol(at - 8 < rest ? rest : at - 8, 0, 10);
		char *start = at - 1;
		while (start > rest && start[-1] != ' ')
			start--;
		pid = strtol(start, 0, 10);
		int who = pid == -1 ? -1 : 99;
		for (int i = 0; i < n_kids; i++)
			if (kids[i] == pid)
				who = i;
		printf(" %.*s%d %s", (int)(start - rest), rest, who, id + strlen(key));
	}
	fclose(f);
	puts("-");
}

static pid_t kid(void)
{
	fflush(stdout);
	pid_t p = fork();
	if (p)
		kids[n_kids++] = p, usleep(60000);
	return p;
}

static void end_all(void)
{
	while (n_kids)
		n_kids--, kill(kids[n_kids], SIGKILL), waitpid(kids[n_kids], 0, 0);
}

static void lock(int fd, int cmd, int type, long start, long len)
{
	struct flock l = {.l_type = type, .l_start = start, .l_len = len};
	S(fcntl(fd, cmd, &l));
}

int main(void)
{
	begin();
	int fd = open("file", O_RDWR | O_CREAT, 0666);
	write(fd, "hello", 5);
	table();
	if (!kid())
		lock(fd, F_SETLK, F_WRLCK, 0, 10), pause();
	if (!kid())
		lock(fd, F_SETLKW, F_RDLCK, 5, 10), pause();
	if (!kid())
		lock(fd, F_SETLKW, F_WRLCK, 7, 1), pause();
	table();
	kill(kids[0], SIGKILL), waitpid(kids[0], 0, 0), usleep(60000), table(), end_all(), table();
	if (!kid())
		flock(open("file", O_RDWR), LOCK_EX), pause();
	if (!kid())
		flock(open("file", O_RDWR), LOCK_SH), pause();
	table(), end_all();
	/* A description that changes its lock is not overtaken by who waits. */
	int own = open("file", O_RDWR);
	flock(own, LOCK_EX);
	if (!kid())
		flock(open("file", O_RDWR), LOCK_EX), pause();
	S(flock(own, LOCK_SH | LOCK_NB)), usleep(30000), table(), S(flock(own, LOCK_EX | LOCK_NB)), usleep(30000), table(), close(own), usleep(60000), table(), end_all(), close(fd);
	if (!kid()) {
		S(fcntl(open("file", O_RDONLY), F_SETLEASE, F_RDLCK)), signal(SIGIO, SIG_IGN), pause();
	}
	table(), S(open("file", O_RDWR | O_NONBLOCK)), table(), end_all(), table();
	fd = open("file", O_RDWR);
	/* Owners. */
	struct { int type, pid; } ex = {7, 7};
	S(fcntl(fd, F_GETOWN_EX, &ex)), printf("%d %d\n", ex.type, ex.pid);
	pid_t p = kid();
	if (!p)
		pause();
	for (int type = 0; type < 3; type++) {
		ex.type = type, ex.pid = p, S(fcntl(fd, F_SETOWN_EX, &ex));
		S(fcntl(fd, F_GETOWN_EX, &ex)), printf("%d %d\n", ex.type, ex.pid == p);
	}
	ex.pid = 0x7ffffff, S(fcntl(fd, F_SETOWN_EX, &ex)), ex.type = 3, S(fcntl(fd, F_SETOWN_EX, &ex)), ex.type = 1, ex.pid = 0, S(fcntl(fd, F_SETOWN_EX, &ex));
	S(fcntl(fd, F_GETOWN_EX, &ex)), printf("%d %d\n", ex.type, ex.pid);
	int gone = syscall(SYS_pidfd_open, p, 0);
	S(setns(gone, 0)), end_all(), S(setns(gone, 0)), S(setns(gone, CLONE_NEWUTS)), S(setns(gone, 1)), S(setns(fd, CLONE_NEWUTS));
	/* A group that is orphaned already is not hung up when another of its members ends. */
	if (!kid()) {
		setsid();
		pid_t stopped = fork();
		if (!stopped)
			for (;;)
				pause();
		if (!fork())
			_exit(0);
		kill(stopped, SIGSTOP);
		int status;
		waitpid(stopped, &status, WUNTRACED), printf("%x\n", status), wait(&status), printf("%x\n", status);
		if (!fork())
			_exit(0);
		wait(&status), printf("%x\n", status), usleep(50000), printf("%d\n", waitpid(stopped, &status, WNOHANG | WCONTINUED));
		/* One that this end orphans is. */
		pid_t leader = fork();
		if (!leader) {
			pid_t child = fork();
			if (!child) {
				setpgid(0, 0), signal(SIGHUP, SIG_IGN), raise(SIGSTOP);
				printf("goes on\n"), _exit(0);
			}
			waitpid(child, &status, WUNTRACED), _exit(0);
		}
		signal(SIGHUP, SIG_IGN), waitpid(leader, &status, 0), usleep(80000);
		kill(stopped, SIGKILL), _exit(0);
	}
	usleep(250000), end_all();
	return 0;
}
