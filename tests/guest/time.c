/* Clocks, sleeping, interval timers. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int ticks;
static void tick(int sig) { ticks++; }

static long long ns(int clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_TAI };
	for (int i = 0; i < 7; i++) {
		long long a = ns(clocks[i]), b = ns(clocks[i]);
		struct timespec t;
		syscall(SYS_clock_gettime, clocks[i], &t);
		long long c = t.tv_sec * 1000000000LL + t.tv_nsec;
		printf("clock %d runs: %d, call agrees: %d\n", clocks[i], a > 0 && b >= a, c >= b && c - b < 1000000000);
	}
	printf("time agrees: %d\n", labs((long)(time(NULL) - ns(CLOCK_REALTIME) / 1000000000)) <= 1);
	long long a = ns(CLOCK_MONOTONIC);
	struct timespec t = { 0, 30000000 };
	printf("nanosleep %d", nanosleep(&t, NULL));
	long long d = ns(CLOCK_MONOTONIC) - a;
	printf(", long enough %d\n", d >= 30000000 && d < 2000000000);
	long long until = ns(CLOCK_MONOTONIC) + 20000000;
	t = (struct timespec){ until / 1000000000, until % 1000000000 };
	printf("absolute %d", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
	printf(" %d\n", ns(CLOCK_MONOTONIC) >= until);
	struct sigaction sa = { .sa_handler = tick };
	sigaction(SIGALRM, &sa, NULL);
	struct itimerval it = { { 0, 10000 }, { 0, 10000 } };
	setitimer(ITIMER_REAL, &it, NULL);
	while (ticks < 5)
		pause();
	memset(&it, 0, sizeof it);
	setitimer(ITIMER_REAL, &it, NULL);
	printf("ticks came: %d\n", ticks >= 5);
	ticks = 0;
	alarm(1);
	t = (struct timespec){ 10, 0 };
	struct timespec left;
	int r = nanosleep(&t, &left);
	printf("interrupted %d %s, about 9 s left: %d\n", r, strerror(errno), left.tv_sec == 8 || left.tv_sec == 9);
	long long cpu = ns(CLOCK_PROCESS_CPUTIME_ID);
	for (volatile int i = 0; i < 10000000; i++)
		;
	printf("cpu clock runs: %d\n", ns(CLOCK_PROCESS_CPUTIME_ID) > cpu && ns(CLOCK_THREAD_CPUTIME_ID) > 0);
	return 0;
}
