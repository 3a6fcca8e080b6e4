/* Call sites that become hot in every way: code that is written anew, unmapped and replaced while other
 * threads call, libraries that come and go, forks in the middle, a steady stream of signals, and at
 * last a gs of the program's own. Prints the same wherever it runs. Arguments: threads that make code
 * (3), how long (60 rounds each, or so many seconds), microseconds between signals (500). */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* mov $110, %eax; syscall; cmp $-4095, %rax; ret: getppid as libc has it */
static const unsigned char code[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xc3};
static const int places = 64, step = 64;
static volatile int done, handled;
static int seconds, pipes[2];
static time_t start;

static int more(int round)
{
	return seconds ? time(0) - start < seconds : round < 60;
}

static void fail(const char *what)
{
	printf("failed: %s\n", what);
	fflush(stdout);
	_exit(1);
}

static void handler(int sig)
{
	handled++;
	if (getppid() == 0 && getpid() == 0)
		fail("ids in a handler");
}

static int call(unsigned char *at)
{
	return ((int (*)(void))at)();
}

static void *just_in_time(void *unused)
{
	for (int round = 0; more(round); round++) {
		unsigned char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int i = 0; i < places; i++)
			memcpy(p + i * step, code, sizeof code);
		mprotect(p, 8192, PROT_READ | PROT_EXEC);
		for (int i = 0; i < 30; i++)
			for (int k = 0; k < 8; k++)
				if (call(p + k * step) != getppid())
					fail("getppid from fresh code");
		mprotect(p, 8192, PROT_READ | PROT_WRITE);
		for (int i = 0; i < places; i++)
			if (memcmp(p + i * step, code, sizeof code))
				fail("writable code is not what was written");
		p[1] = 39; /* getpid */
		mprotect(p, 8192, PROT_READ | PROT_EXEC);
		for (int i = 0; i < 20; i++)
			if (call(p) != getpid())
				fail("getpid from changed code");
		if (round % 2)
			munmap(p, 8192);
		else
			mmap(p, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	}
	return unused;
}

static void *libraries(void *unused)
{
	while (!done) {
		void *lib = dlopen("libz.so.1", RTLD_NOW);
		if (lib)
			dlclose(lib);
	}
	return unused;
}

/* Is blocked, nearly always, in a call whose site others make hot. */
static void *blocked(void *unused)
{
	char c;
	for (;;) {
		long n = read(pipes[0], &c, 1);
		if (n == 1 && c == 'q')
			return unused;
		if (n != 1)
			fail("a blocked read");
	}
}

static void *forks(void *unused)
{
	int turn = 0;
	while (!done) {
		turn++;
		pid_t child = fork();
		if (child == 0 && turn % 4 == 0) {
			execl("/bin/true", "true", (char *)0);
			_exit(1);
		}
		if (child == 0) {
			for (int i = 0; i < 30; i++)
				if (getppid() == 0)
					_exit(1);
			_exit(0);
		}
		int status;
		while (waitpid(child, &status, 0) < 0)
			;
		if (status)
			fail("a child's calls");
	}
	return unused;
}

int main(int argc, char **argv)
{
	int makers = argc > 1 ? atoi(argv[1]) : 3, interval = argc > 3 ? atoi(argv[3]) : 500;
	seconds = argc > 2 ? atoi(argv[2]) : 0;
	start = time(0);
	if (makers < 1 || makers > 64 || pipe(pipes))
		return 2;
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &action, 0);
	struct itimerval often = {{0, interval}, {0, interval}}, never = {{0, 0}, {0, 0}};
	setitimer(ITIMER_REAL, &often, 0);
	pthread_t jit[64], others[2], reader;
	pthread_create(&reader, 0, blocked, 0);
	for (int i = 0; i < makers; i++)
		pthread_create(&jit[i], 0, just_in_time, 0);
	pthread_create(&others[0], 0, libraries, 0);
	pthread_create(&others[1], 0, forks, 0);
	for (int i = 0; i < 400; i++) {
		if (write(pipes[1], "x", 1) != 1)
			fail("a write");
	}
	for (int i = 0; i < makers; i++)
		pthread_join(jit[i], 0);
	done = 1;
	if (write(pipes[1], "q", 1) != 1)
		fail("a write");
	pthread_join(reader, 0);
	for (int i = 0; i < 2; i++)
		pthread_join(others[i], 0);
	setitimer(ITIMER_REAL, &never, 0);
	printf("signals came: %d\n", handled > 0);

	unsigned long gs = 1;
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
	printf("gs at first: %lx\n", gs);
	syscall(SYS_arch_prctl, ARCH_SET_GS, code);
	for (int i = 0; i < 100; i++)
		if (getpid() < 1)
			fail("getpid with a gs of our own");
	unsigned first;
	__asm__("movl %%gs:0, %0" : "=r"(first));
	printf("through gs: %x\n", first);
	return 0;
}
