// What personality(2) sets has an effect: uname, addresses of a new program, code in readable memory, timeouts.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void names(const char *what)
{
	struct utsname u;
	uname(&u);
	printf("%s: %s, 2.6 %d, dashes kept %d\n", what, u.machine, !strncmp(u.release, "2.6.", 4),
	       strchr(u.release, '-') != NULL);
}

// Protection of the mapping at an address, as the system shows it.
static void shown(const char *what, void *at)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], prot[5] = "none";
	unsigned long from, to;
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx %4s", &from, &to, prot) == 3 && (unsigned long)at >= from && (unsigned long)at < to)
			break;
	fclose(f);
	printf("%s: %.3s\n", what, prot);
}

static void readable(void)
{
	personality(READ_IMPLIES_EXEC);
	char *a = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	shown("readable", a);
	char *b = mmap(0, 8192, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	shown("writable", b);
	mprotect(b, 4096, PROT_READ | PROT_WRITE);
	shown("made readable", b);
	mprotect(b, 4096, PROT_NONE);
	shown("made nothing", b);
	personality(0);
	mprotect(a, 4096, PROT_READ);
	shown("made readable without", a);
}

static void nothing(int sig)
{
	(void)sig;
}

static void timeouts(const char *what)
{
	struct timeval tv = {0, 30000};
	int n = select(0, 0, 0, 0, &tv);
	printf("%s: select %d, left as it was %d\n", what, n, tv.tv_usec == 30000);
	struct timespec ts = {0, 30000000};
	n = ppoll(0, 0, &ts, 0);
	printf("%s: ppoll %d, left as it was %d\n", what, n, ts.tv_nsec == 30000000);
	ts.tv_nsec = 30000000;
	n = pselect(0, 0, 0, 0, &ts, 0);
	long raw[2] = {0, 30000000};
	n = syscall(SYS_pselect6, 0, 0, 0, 0, raw, 0);
	printf("%s: pselect %d, left as it was %d\n", what, n, raw[1] == 30000000);
	struct itimerval it = {{0, 0}, {0, 20000}};
	setitimer(ITIMER_REAL, &it, 0);
	tv = (struct timeval){5, 0};
	n = select(0, 0, 0, 0, &tv);
	printf("%s: interrupted %d %s, left as it was %d\n", what, n, strerror(errno), tv.tv_sec == 5);
}

static void fixed(char *self)
{
	for (int i = 0; i < 3; i++) {
		if (!fork()) {
			personality(i < 2 ? ADDR_NO_RANDOMIZE : ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC);
			execl(self, self, "where", NULL);
			_exit(9);
		}
		wait(0);
	}
}

static void where(void)
{
	int here;
	char *m = mmap(0, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	// Positions in a program that is position-independent; the stack's depends on the environment.
	printf("code in its page %lx, libraries' region %lx, stack's region %lx, flags %x\n",
	       ((unsigned long)where >> 16) << 16, (unsigned long)m >> 28, (unsigned long)&here >> 24,
	       (unsigned)personality(0xffffffff));
}

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IONBF, 0);
	signal(SIGALRM, nothing);
	if (argc > 1) {
		where();
		return 0;
	}
	printf("%x\n", (unsigned)personality(0xffffffff));
	names("at first");
	printf("%x\n", (unsigned)personality(PER_LINUX32));
	names("32 bits");
	printf("%x\n", (unsigned)personality(UNAME26));
	names("2.6");
	printf("%x\n", (unsigned)personality(UNAME26 | PER_LINUX32 | STICKY_TIMEOUTS));
	names("both");
	timeouts("sticky");
	personality(0);
	timeouts("plain");
	readable();
	fixed(argv[0]);
	char *args[] = {"sh", "-c", "cat /proc/self/personality", NULL};
	if (!fork()) {
		personality(READ_IMPLIES_EXEC | STICKY_TIMEOUTS | ADDR_NO_RANDOMIZE);
		execv("/bin/sh", args);
	}
	wait(0);
	return 0;
}
